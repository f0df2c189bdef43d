"""Presets: a folder that holds a model, readable without this library and on any backend.

config.json          the model's Keras config
model.weights.h5     weights, their average and random state
metadata.json        versions that wrote it
"""

from pathlib import Path

import keras

from keras_diffusion.configs.checks import check_path, clip
from keras_diffusion.configs.file_configs import build_from_file, named_objects
from keras_diffusion.containers import open_container
from keras_diffusion.containers.errors import error_at
from keras_diffusion.layers.weight_budget import weight_budget
from keras_diffusion.models.run_folders import build_run, is_finished, is_run, preset_of, weights_of
from keras_diffusion.runtime import limits
from keras_diffusion.runtime.files import atomic_folder, read_json, write_json
from keras_diffusion.runtime.finite import check_finite
from keras_diffusion.runtime.training_state import STATE
from keras_diffusion.version import __version__

_CONFIG, _WEIGHTS, _METADATA = "config.json", "model.weights.h5", "metadata.json"


def save_preset(model, directory, overwrite=False, extra=None):
    """Writes `model` to a new folder, with `extra` JSON files (a dict): first under a temporary name beside it, then
    renamed.
    """
    directory = Path(check_path("directory", directory))
    if directory.exists() and not overwrite:
        raise FileExistsError(
            f"A preset is not written over what exists. Received: directory={str(directory)!r}. Pass overwrite=True "
            "to replace it."
        )
    check_finite(model, f"The preset {str(directory)!r}")
    with atomic_folder(directory) as temporary:
        write_json(temporary / _CONFIG, keras.saving.serialize_keras_object(model))
        model.save_weights(temporary / _WEIGHTS)
        write_json(
            temporary / _METADATA,
            {"keras_diffusion": __version__, "keras": keras.__version__, "backend": keras.backend.backend()},
        )
        for name, value in (extra or {}).items():
            write_json(temporary / name, value)


def is_preset(path):
    """Whether `path` is a folder with the files of a preset."""
    return all((Path(path) / name).is_file() for name in (_CONFIG, _WEIGHTS))


def load_preset(cls, directory, load_weights=True, custom_objects=None):
    """Reads a folder of `save_preset` as an instance of `cls`; see `ResumableModel.from_preset`."""
    directory = Path(directory)
    if is_run(directory):
        if not is_finished(directory):
            return _load_state(cls, directory, load_weights)
        directory = preset_of(directory)
    missing = [name for name in (_CONFIG, *([_WEIGHTS] if load_weights else [])) if not (directory / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"A preset is a folder with {_CONFIG} and {_WEIGHTS}. Received: directory={str(directory)!r}, which lacks "
            f"{', '.join(missing)}"
        )
    config = read_config(directory / _CONFIG)
    custom_objects = named_objects(custom_objects)
    if hasattr(cls, "from_preset"):  # the caller has named it, by asking it
        custom_objects = {keras.saving.get_registered_name(cls): cls, **custom_objects}
    model = build_within(config, directory / _WEIGHTS, custom_objects, directory, error_at(directory / _CONFIG))
    if not isinstance(model, cls):
        raise ValueError(f"The preset {str(directory)!r} holds a {type(model).__name__}, not a {cls.__name__}.")
    if load_weights:
        load_weights_file(model, directory / _WEIGHTS)
    return model


def _load_state(cls, directory, load_weights):
    """The model of an unfinished run."""
    weights = weights_of(directory, error_at(directory / "state" / STATE)) if load_weights else None
    error = error_at(directory / _CONFIG)
    with weight_budget(tensor_shapes(weights) if load_weights else None, error):
        model = build_run(cls, directory, error)
    if load_weights:
        load_weights_file(model, weights)
    return model


def build_within(config, weights_path, custom_objects=None, folder=None, error=ValueError):
    """`build_from_file`, of a model that is not larger than the file of its weights allows.

    Args:
        config, custom_objects, folder, error: see `build_from_file`.
        weights_path: the file; where there is none, the limit `weights` of runtime/limits.py holds.

    Raises:
        `error`: see `build_from_file`; numbers or weights beyond the limits.
        CheckpointError: the file of weights is damaged.
    """
    limits.check_config({key: value for key, value in config.items() if key != "compile_config"}, error)
    with weight_budget(tensor_shapes(weights_path), error):
        return build_from_file(config, custom_objects, folder, error=error)


def tensor_shapes(path):
    """Shapes of the tensors in a file, or None where there is no such file; what `weight_budget` takes."""
    if not Path(path).is_file():
        return None
    with open_container(path) as container:
        return [info.shape for info in container.tensors.values()]


def read_config(path):
    """A JSON file of a preset, a dict; raises a CheckpointError where it is damaged."""
    return read_json(path, error=error_at(path))


def load_weights_file(model, path):
    """Loads weights into a model from a file that anybody may have written.

    The file is read by this library first, to its end: Keras leaves HDF5 to a library that damage can crash, and takes
    NaN for a weight.

    Args:
        model: built model.
        path: `.weights.h5`, or `.keras`.

    Raises:
        CheckpointError: a damaged file, numbers that are not finite, or weights of another model.
    """
    check_weights_file(path)
    try:
        model.load_weights(path)
    except Exception as error:  # the file is sound: it is of another model, which Keras says in many ways
        text = str(error) or type(error).__name__
        raise error_at(path)(f"The weights do not fit the model: {clip(text)}") from error


def check_weights_file(path):
    """Reads all tensors of a file; raises a CheckpointError where it is damaged, or holds NaN or infinity."""
    with open_container(path) as container:
        for name in container.tensors:
            container.read(name)
