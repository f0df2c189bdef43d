"""This library's own files, seen as checkpoints: presets and `.keras` files of a `DiffusionModel`.

They need no family, since they say themselves what they hold. `inspect` and `load` take them so that one call serves every file.
"""

import json
import zipfile
from pathlib import Path

import keras

import keras_diffusion.networks  # its classes must be known before they can be loaded  # noqa: F401
from keras_diffusion.checkpoints.containers import open_container
from keras_diffusion.checkpoints.errors import CheckpointError
from keras_diffusion.models.diffusion_model import DiffusionModel
from keras_diffusion.models.presets import is_preset, load_preset

FAMILY = "keras_diffusion"


def is_own(path):
    """Whether `path` is a preset folder, or a `.keras` file, with a `DiffusionModel` in it."""
    cls = keras.saving.get_registered_object(str(_registered_name(Path(path))))
    return isinstance(cls, type) and issubclass(cls, DiffusionModel)


def weights_file(path):
    """The file of an own checkpoint that holds the tensors."""
    path = Path(path)
    return path / "model.weights.h5" if path.is_dir() else path


def load_own(path):
    """The `DiffusionModel` at `path`.

    Raises:
        CheckpointError: the file is damaged.
    """
    path = Path(path)
    with open_container(weights_file(path)) as container:
        for name in container.tensors:
            container.read(name)  # a damaged file shall end here, not within Keras
    try:
        return load_preset(DiffusionModel, path) if path.is_dir() else keras.saving.load_model(path, compile=False)
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise CheckpointError(f"The model cannot be built from its config and weights: {error}", path) from error


def _registered_name(path):
    try:
        if is_preset(path):
            config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        elif path.is_file() and zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                config = json.loads(archive.read("config.json"))
        else:
            return None
    except Exception:  # whatever is wrong with it, it is not surely ours
        return None
    return config.get("registered_name") if isinstance(config, dict) else None
