"""Which backend Keras runs on: chosen before Keras is imported, and explained where that failed.

Keras takes its backend once, when it is first imported: from the environment variable KERAS_BACKEND, else from its
configuration file, into which it writes "tensorflow" by itself. This library's default is JAX. That choice is made in
time only where `keras_diffusion` is imported before `keras`.
"""

import importlib.util
import os
import sys
import warnings

DEFAULT = "jax"
PACKAGES = {
    "jax": "JAX",
    "tensorflow": "TensorFlow",
    "torch": "PyTorch",
}  # backends that this library runs on, as people call them


def choose():
    """Sets KERAS_BACKEND to "jax" unless it is set; warns where Keras was imported before and has taken another
    backend.
    """
    taken = _taken()
    if "KERAS_BACKEND" not in os.environ:
        if taken not in (None, DEFAULT):
            warnings.warn(
                f"Keras was imported before keras_diffusion and runs on {PACKAGES.get(taken, taken)}; "
                f"keras_diffusion's default is JAX. "
                "For JAX, import keras_diffusion before keras, or set the environment variable KERAS_BACKEND=jax "
                "before Python starts. "
                f"To stay on {PACKAGES.get(taken, taken)} without this message, set KERAS_BACKEND={taken}.",
                stacklevel=3,
            )
        os.environ["KERAS_BACKEND"] = taken or DEFAULT  # for the processes that this one starts, too


def check():
    """Makes sure that Keras can run on the backend that was chosen, or does already.

    Raises:
        ImportError: the backend is none of "jax", "tensorflow" and "torch", or its package is not installed.
    """
    backend = _taken() or os.environ["KERAS_BACKEND"]
    if backend not in PACKAGES:
        raise ImportError(
            f"keras_diffusion runs on the Keras backends {', '.join(PACKAGES)}. Received: KERAS_BACKEND={backend!r}. "
            "Unset the environment variable KERAS_BACKEND for JAX, or set it to one of them, and start Python anew."
        )
    if _taken() is None and importlib.util.find_spec(backend) is None:
        installed = [name for name in PACKAGES if importlib.util.find_spec(name) is not None]
        instead = f", or set KERAS_BACKEND={installed[0]}, which is installed" if installed else ""
        package = "jax" if backend == "jax" else f"keras-diffusion[{backend}]"
        raise ImportError(
            f"Keras is to run on {PACKAGES[backend]}, but the package {backend!r} is not installed. "
            f'Received: KERAS_BACKEND={backend!r}. Install it with: pip install "{package}"{instead}. '
            "Then start Python anew."
        )


def _taken():
    """The backend of a Keras that is imported already, or None."""
    keras = sys.modules.get("keras")
    return keras.backend.backend() if hasattr(keras, "backend") else None
