"""This library's own files, seen as checkpoints: presets and `.keras` files of a `DiffusionModel`, and runs of
`keras-diffusion train`.

They need no family, since they say themselves what they hold. `inspect` and `load` take them so that one call serves
every file.
"""

import zipfile
from pathlib import Path

import keras

import keras_diffusion.networks  # its classes must be known before they can be loaded  # noqa: F401
from keras_diffusion.configs.file_configs import named_objects
from keras_diffusion.containers import open_container
from keras_diffusion.containers.errors import CheckpointError, error_at
from keras_diffusion.models.diffusion_model import DiffusionModel
from keras_diffusion.models.presets import build_within, is_preset, load_preset, load_weights_file
from keras_diffusion.models.run_folders import is_finished, is_run, weights_of
from keras_diffusion.runtime import limits
from keras_diffusion.runtime.documents import parse_json
from keras_diffusion.runtime.files import read_json

FAMILY = "keras_diffusion"


def is_own(path, custom_objects=None):
    """Whether `path` is a preset folder, or a `.keras` file, with a `DiffusionModel` in it, or a class of the caller's
    derived of it.

    Or the folder of a run of `keras-diffusion train`.
    """
    if is_run(path):
        return True
    name = str(_registered_name(Path(path)))
    cls = named_objects(custom_objects).get(name) or keras.saving.get_registered_object(name)
    return isinstance(cls, type) and issubclass(cls, DiffusionModel)


def weights_file(path):
    """The file of an own checkpoint that holds the tensors."""
    path = Path(path)
    if is_run(path):
        return weights_of(path, error_at(path / "state"))
    return path / "model.weights.h5" if path.is_dir() else path


def kind_of(path):
    """What `path` is, in words."""
    if is_run(path):
        return "finished run" if is_finished(path) else "unfinished run"
    return "preset" if Path(path).is_dir() else "Keras 3 .keras"


def load_own(path, custom_objects=None):
    """The `DiffusionModel` at `path`, a preset, a run or a `.keras` file.

    Args:
        path: folder or file.
        custom_objects: see `DiffusionModel.from_preset`.

    Raises:
        CheckpointError: the file is damaged, or names a class that is not allowed.
    """
    path = Path(path)
    if path.is_dir():
        return load_preset(DiffusionModel, path, custom_objects=custom_objects)
    with open_container(path) as container:
        config = container.config
    model = build_within(config, path, custom_objects, error=error_at(path))
    if not isinstance(model, DiffusionModel):
        raise CheckpointError(f"The file holds a {type(model).__name__}, not a DiffusionModel.", path)
    load_weights_file(model, path)
    return model


def _registered_name(path):
    if is_preset(path):  # nobody else writes these files: what is wrong with them is to be said
        return read_json(path / "config.json", error_at(path / "config.json")).get("registered_name")
    try:
        if path.is_file() and zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if archive.getinfo("config.json").compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    return None
                limits.check(archive.getinfo("config.json").file_size, "text_bytes", "The length of the config")
                config = parse_json(archive.read("config.json"))
        else:
            return None
    except Exception:  # whatever is wrong with it, it may not be ours
        return None
    return config.get("registered_name") if isinstance(config, dict) else None
