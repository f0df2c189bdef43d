"""An autoencoder by the path of what holds one: a run, a preset of either kind of model, or a checkpoint."""

from pathlib import Path

from keras_diffusion.checkpoints import load
from keras_diffusion.cli.config import ConfigError, config_errors
from keras_diffusion.models import AutoencoderModel, DiffusionModel
from keras_diffusion.models.presets import is_preset, read_config
from keras_diffusion.models.run_folders import is_finished, is_run, preset_of
from keras_diffusion.runtime.files import read_json

_RULE = "--autoencoder is a finished run or a preset, of an autoencoder or of a model with one, or a checkpoint of one"


def read_autoencoder(path):
    """The autoencoder that `path` holds: the average of one that was trained here, else the one of a diffusion model.

    Args:
        path: folder of a finished run, of a preset, or a checkpoint that `checkpoints.load` knows.

    Returns:
        Keras model.

    Raises:
        ConfigError: something else.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise ConfigError(f"{_RULE}. Received: --autoencoder {path}, which does not exist")
    if is_run(path) and not is_finished(path):
        raise ConfigError(f"{_RULE}. Received: --autoencoder {path}, a run that is not finished")
    folder = preset_of(path) if is_run(path) else path
    with config_errors("--autoencoder: "):
        if not is_preset(folder):
            found = load(path, verbose=0).network
        elif holds_autoencoder(folder):
            found = AutoencoderModel.from_preset(folder).averaged_autoencoder()
        else:
            found = DiffusionModel.from_preset(folder).autoencoder
    if not callable(getattr(found, "encode", None)):
        held = "a model without one" if found is None else f"a {type(found).__name__}"
        raise ConfigError(f"{_RULE}. Received: --autoencoder {path}, which holds {held}")
    return found


def holds_autoencoder(path):
    """Whether a run or a preset is of an `AutoencoderModel`.

    Args:
        path: anything; what is neither holds none.

    Returns:
        bool.

    Raises:
        ConfigError: a config that is damaged.
    """
    path = Path(path).expanduser()
    if is_run(path):
        return "network" not in read_json(path / "config.json", ConfigError)
    if not path.is_dir() or not is_preset(path):
        return False
    with config_errors():
        return "network" not in (read_config(path / "config.json").get("config") or {})
