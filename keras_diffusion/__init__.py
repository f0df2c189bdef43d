"""keras_diffusion: diffusion models in Keras 3, on JAX, TensorFlow and PyTorch.

    import keras_diffusion as kd

    model = kd.DiffusionModel(kd.networks.UNet((32, 32, 3)))
    model.compile("adam")
    model.fit(images, epochs=10)
    samples = model.generate(16)

JAX is the backend unless the environment variable KERAS_BACKEND names another one, or Keras was imported before. (Keras's configuration
file does not count: Keras writes "tensorflow" into it by itself.)
"""

import importlib
import os

os.environ.setdefault("KERAS_BACKEND", "jax")

from keras_diffusion import denoisers, guidance, layers, models, networks, predictors, samplers, schedulers, training
from keras_diffusion.core.levels import Levels, Prediction
from keras_diffusion.models import DiffusionModel
from keras_diffusion.version import __version__

_LAZY = ("callbacks", "cli", "data", "visualization")


def __getattr__(name):
    # Rooms that nothing else needs are imported when they are first used.
    if name in _LAZY:
        return importlib.import_module(f"keras_diffusion.{name}")
    raise AttributeError(f"module 'keras_diffusion' has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_LAZY])


__all__ = [
    "DiffusionModel",
    "Levels",
    "Prediction",
    "__version__",
    "callbacks",
    "data",
    "denoisers",
    "guidance",
    "layers",
    "models",
    "networks",
    "predictors",
    "samplers",
    "schedulers",
    "training",
    "visualization",
]
