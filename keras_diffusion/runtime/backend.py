"""Which backend Keras runs on: chosen before Keras is imported, with a clear error where that fails.

Keras picks its backend once, on first import: from the environment variable KERAS_BACKEND, else from its configuration
file, in which it writes "tensorflow" by default. This library's default is JAX, which takes effect only if
`keras_diffusion` is imported before `keras`.
"""

import importlib.util
import os
import sys
import warnings

DEFAULT = "jax"
PACKAGES = {"jax": "JAX", "tensorflow": "TensorFlow", "torch": "PyTorch"}  # supported backends and their names


def choose():
    """Sets KERAS_BACKEND to "jax" unless it is set; warns if Keras is already running on another backend."""
    taken = _taken()
    if "KERAS_BACKEND" not in os.environ:
        if taken not in (None, DEFAULT):
            warnings.warn(
                f"Keras was imported before keras_diffusion and runs on {PACKAGES.get(taken, taken)}; "
                "keras_diffusion's default is JAX. For JAX, import keras_diffusion before keras, or set the "
                "environment variable KERAS_BACKEND=jax before Python starts. "
                f"To stay on {PACKAGES.get(taken, taken)} without this message, set KERAS_BACKEND={taken}.",
                stacklevel=3,
            )
        os.environ["KERAS_BACKEND"] = taken or DEFAULT  # child processes inherit it


def check():
    """Checks that Keras can run, or already runs, on the chosen backend.

    Raises:
        ImportError: the backend is not "jax", "tensorflow" or "torch", or its package is not installed.
    """
    backend = _taken() or os.environ["KERAS_BACKEND"]
    if backend not in PACKAGES:
        raise ImportError(
            f"keras_diffusion runs on the Keras backends {', '.join(PACKAGES)}. Received: KERAS_BACKEND={backend!r}. "
            "Unset the environment variable KERAS_BACKEND for JAX, or set it to one of these, and restart Python."
        )
    if _taken() is None and importlib.util.find_spec(backend) is None:
        installed = [name for name in PACKAGES if importlib.util.find_spec(name) is not None]
        instead = f", or set KERAS_BACKEND={installed[0]}, which is installed" if installed else ""
        package = "jax" if backend == "jax" else f"keras-diffusion[{backend}]"
        raise ImportError(
            f"Keras should run on {PACKAGES[backend]}, but the package {backend!r} is not installed. "
            f'Received: KERAS_BACKEND={backend!r}. Install it with: pip install "{package}"{instead}. '
            "Then restart Python."
        )


def _taken():
    """The backend of Keras if it is already imported, else None."""
    keras = sys.modules.get("keras")
    return keras.backend.backend() if hasattr(keras, "backend") else None
