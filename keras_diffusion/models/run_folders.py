"""Runs of `keras-diffusion train` as models: the finished one, or the last state that was saved.

config.json        what the run trains, as the command line wrote it: arguments [network] or [autoencoder], and [model],
                   "dtype", "seed"
environment.json   marks the folder as a run
state/             the last state: `state.json` names the file of weights
model/             a preset, at the end
"""

from pathlib import Path

from keras_diffusion import networks
from keras_diffusion.configs.file_configs import build_from_file, check_values
from keras_diffusion.runtime import limits
from keras_diffusion.runtime.files import read_json
from keras_diffusion.runtime.training_state import STATE, is_marked, read_state

#: Keys of [text] that concern training, and the arguments of `TextToImage` that they are.
TEXT_TRAINING = {"learning_rate_factor": "text_learning_rate"}


def is_run(path):
    """Whether `path` is the folder of a run."""
    return is_marked(path) and (Path(path) / "config.json").is_file()


def is_finished(path):
    """Whether the run at `path` has come to its end: its model is then a preset, in `preset_of`."""
    return (preset_of(path) / "config.json").is_file()


def preset_of(path):
    """The folder of a finished run's model."""
    return Path(path) / "model"


def weights_of(path, error=ValueError):
    """The file of weights of a run: the finished model's, or the last state's.

    Raises:
        FileNotFoundError: nothing was saved yet.
        `error`: a damaged `state.json`.
    """
    if is_finished(path):
        return preset_of(path) / "model.weights.h5"
    state = Path(path) / "state"
    if not (state / STATE).is_file():
        raise FileNotFoundError(
            "A run can be loaded once a state of it was saved, at the end of its first epoch at the latest. "
            f"Received: {str(path)!r}, which has none yet"
        )
    return state / read_state(state, error)["weights"]


def text_parts(options, error=ValueError):
    """The arguments of `TextToImage` that the section [text] of a run describes.

    Args:
        options: dict with the configs of "encoder" and "tokenizer", and "trainable"; perhaps with some of
            `TEXT_TRAINING`.
        error: function from a message to the exception that is raised.

    Returns:
        dict with "text_encoder", "tokenizer", "train_text_encoder" and others.

    Raises:
        `error`: as `build_from_file`.
    """
    limits.check_config({key: options[key] for key in ("encoder", "tokenizer")}, error)
    return {
        "text_encoder": build_from_file(options["encoder"], error=error),
        "tokenizer": build_from_file(options["tokenizer"], error=error),
        "train_text_encoder": options["trainable"],
        **{ours: options[name] for name, ours in TEXT_TRAINING.items() if name in options},
    }


def build_run(cls, path, error=ValueError):
    """The model of an unfinished run, with new weights.

    Args:
        cls: class to make.
        path: folder.
        error: function from a message to the exception that is raised.

    Raises:
        `error`: a config that is damaged, or names classes other than this library's and the plain ones of Keras.
    """
    config = read_json(Path(path) / "config.json", error)
    check_values(config, "the configuration", error=error)
    limits.check_config([config.get(section) for section in ("network", "autoencoder", "model")], error)
    trained = "network" not in config  # the autoencoder itself
    if trained != hasattr(cls, "averaged_autoencoder"):
        holds = "an AutoencoderModel" if trained else "a DiffusionModel"
        raise error(f"The run {str(path)!r} trains {holds}, not what was asked for: {cls.__name__}")
    try:
        if trained:
            autoencoder = networks.AutoencoderKL(dtype=config["dtype"], **config["autoencoder"])
            return cls(autoencoder, **{"seed": config["seed"], **config["model"]})
        network = networks.get({"dtype": config["dtype"], **config["network"]})
        options = {"seed": config["seed"], **config["model"]}
        if "autoencoder" in config:
            options["autoencoder"] = build_from_file(config["autoencoder"]["config"], error=error)
        if "text" not in config:
            return cls(network, **options)
        from keras_diffusion.models.text_to_image import TextToImage  # which comes after what loads it

        return TextToImage(network, **text_parts(config["text"], error), **options)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as cause:
        raise error(f"What the configuration describes cannot be built: {type(cause).__name__}: {cause}") from cause
