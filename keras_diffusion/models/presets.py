"""Presets: a folder that holds a model, readable without this library and on any backend.

config.json          the model's Keras config
model.weights.h5     weights, their average and random state
metadata.json        versions that wrote it
"""

import json
import os
import shutil
import tempfile
from pathlib import Path

import keras

from keras_diffusion.core.files import write_json
from keras_diffusion.version import __version__

_CONFIG, _WEIGHTS, _METADATA = "config.json", "model.weights.h5", "metadata.json"


class PresetMixin:
    """Adds `save_to_preset` and `from_preset`, and compile configs that every backend can read. Goes before `keras.Model` in the bases."""

    def save_to_preset(self, directory, overwrite=False):
        """Writes a folder with `config.json`, `model.weights.h5` and `metadata.json`; see `from_preset`.

        Args:
            directory: path of the folder to make.
            overwrite: whether an existing preset may be replaced. Default False.

        Raises:
            FileExistsError: the folder exists and `overwrite` is False.
        """
        save_preset(self, directory, overwrite)

    @classmethod
    def from_preset(cls, directory, load_weights=True):
        """Loads what `save_to_preset` wrote, on any backend.

        Args:
            directory: path of the folder.
            load_weights: False for the architecture with new weights. Default True.

        Raises:
            FileNotFoundError: no preset there.
        """
        return load_preset(cls, directory, load_weights)

    def get_compile_config(self):
        # As saved by Keras, the config names the optimizer's class of one backend and that backend's way to compile: neither would work
        # after loading on another.
        config = super().get_compile_config()
        if config:
            config["jit_compile"] = "auto"
            if isinstance(config.get("optimizer"), dict):
                config["optimizer"] = portable_optimizer(config["optimizer"])
        return config


def save_preset(model, directory, overwrite=False, extra=None):
    """Writes `model` to a new folder, with `extra` JSON files (a dict): first under a temporary name beside it, then renamed."""
    directory = Path(directory)
    if directory.exists() and not overwrite:
        raise FileExistsError(
            f"A preset is not written over what exists. Received: directory={str(directory)!r}. Pass overwrite=True to replace it."
        )
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        write_json(temporary / _CONFIG, keras.saving.serialize_keras_object(model))
        model.save_weights(temporary / _WEIGHTS)
        write_json(temporary / _METADATA, {"keras_diffusion": __version__, "keras": keras.__version__, "backend": keras.backend.backend()})
        for name, value in (extra or {}).items():
            write_json(temporary / name, value)
        os.chmod(temporary, 0o755)  # mkdtemp's folders are private
        if directory.exists():
            shutil.rmtree(directory)
        temporary.rename(directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def is_preset(path):
    """Whether `path` is a folder with the files of a preset."""
    return all((Path(path) / name).is_file() for name in (_CONFIG, _WEIGHTS))


def load_preset(cls, directory, load_weights=True):
    """Reads a folder of `save_preset` as an instance of `cls`."""
    directory = Path(directory)
    missing = [name for name in (_CONFIG, *([_WEIGHTS] if load_weights else [])) if not (directory / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"A preset is a folder with {_CONFIG} and {_WEIGHTS}. Received: directory={str(directory)!r}, which lacks {', '.join(missing)}"
        )
    model = keras.saving.deserialize_keras_object({**json.loads((directory / _CONFIG).read_text()), "compile_config": None})
    if not isinstance(model, cls):
        raise ValueError(f"The preset {str(directory)!r} holds a {type(model).__name__}, not a {cls.__name__}.")
    if load_weights:
        model.load_weights(directory / _WEIGHTS)
    return model


def portable_optimizer(config):
    """The config of an optimizer, under the name that it has on every backend: Keras writes the class of one of them."""
    if not str(config.get("module", "")).startswith("keras."):
        return config
    return {**config, "module": "keras.optimizers", "registered_name": None}
