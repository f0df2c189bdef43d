"""Packages that only some tasks need, imported where they are used.

`import keras_diffusion` must stay light: Pillow, scikit-learn and tensorflow-datasets are imported by the function that
needs them. If one is missing, the error says what it is needed for and which extra of keras-diffusion installs it.
"""

import importlib


def import_optional(module, extra, purpose):
    """Imports and returns `module`, or says how to install it.

    Args:
        module: dotted name, for example `"PIL.Image"`.
        extra: the extra of keras-diffusion that installs it, for example `"viz"`.
        purpose: what it is needed for, for example `"writing PNG files"`.

    Raises:
        ImportError: the module, or one of its own dependencies, cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"The package {module.split('.')[0]!r} is needed for {purpose}, but cannot be imported: {error}. "
            f'Install it with: pip install "keras-diffusion[{extra}]"'
        ) from error
