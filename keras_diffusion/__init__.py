"""keras_diffusion: diffusion models in Keras 3, on JAX, TensorFlow and PyTorch.

    import keras_diffusion as kd

    model = kd.DiffusionModel(kd.networks.UNet((32, 32, 3)))
    model.compile(kd.keras.optimizers.AdamW(1e-3))
    model.fit(images, epochs=10)
    samples = model.generate(16)

JAX is the backend unless the environment variable KERAS_BACKEND names another one. (Keras's configuration file does not
count: Keras writes "tensorflow" into it by itself.) `kd.keras` is Keras, imported after that choice: scripts that use
it need no second import, whose place would decide about the backend.
"""

import importlib
import sys
from pathlib import Path

from keras_diffusion.runtime import backend as _backend

_backend.choose()

from keras_diffusion.version import __version__


def _started_as_command():
    """Whether this process is `keras-diffusion …` or `python -m keras_diffusion …`."""
    command = (getattr(sys, "argv", None) or [""])[0]  # "-m" only while Python looks for the module to run
    return command == "-m" or Path(command).stem.startswith("keras-diffusion")


# The command line imports this package before it can answer --help or choose a backend: it gets the rooms when they are
# first used.
if not _started_as_command():
    _backend.check()

    import keras

    from keras_diffusion import (
        denoisers,
        guidance,
        layers,
        models,
        networks,
        predictors,
        samplers,
        schedulers,
        training,
    )
    from keras_diffusion.core.levels import Levels, Prediction
    from keras_diffusion.models import AutoencoderModel, DiffusionModel

_LAZY = ("callbacks", "checkpoints", "cli", "comparison", "data", "distribution", "metrics", "text", "visualization")
_HOMES = {
    "AutoencoderModel": "models",
    "DiffusionModel": "models",
    "Levels": "core.levels",
    "Prediction": "core.levels",
}


def __getattr__(name):
    # Rooms that nothing else needs are imported when they are first used.
    if name == "keras":
        return importlib.import_module("keras")
    if name in _HOMES:
        return getattr(importlib.import_module(f"keras_diffusion.{_HOMES[name]}"), name)
    if name in _LAZY or name in __all__:
        return importlib.import_module(f"keras_diffusion.{name}")
    raise AttributeError(f"module 'keras_diffusion' has no attribute {name!r}", name=name, obj=sys.modules[__name__])


__all__ = [
    "AutoencoderModel",
    "DiffusionModel",
    "Levels",
    "Prediction",
    "__version__",
    "callbacks",
    "checkpoints",
    "comparison",
    "data",
    "denoisers",
    "distribution",
    "guidance",
    "keras",
    "layers",
    "metrics",
    "models",
    "networks",
    "predictors",
    "samplers",
    "schedulers",
    "text",
    "training",
    "visualization",
]
__dir__ = __all__.copy
