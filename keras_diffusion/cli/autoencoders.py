"""[autoencoder] of a configuration: one that is trained, or, with `run`, that of another run, in whose latents a
diffusion model is trained.

    [autoencoder]                      [autoencoder]
    widths = [32, 64]                  run = "runs/autoencoder"

                                       [network] …: of latents
"""

import inspect
from pathlib import Path

import keras
import numpy as np

from keras_diffusion import networks
from keras_diffusion.callbacks import ReconstructionGrid
from keras_diffusion.cli.config import METRICS, ConfigError, check_keys, config_errors
from keras_diffusion.configs.file_configs import build_from_file
from keras_diffusion.models import AutoencoderModel

#: What differs from the defaults of `networks.AutoencoderKL`, which are those of Stable Diffusion.
SMALL = {"widths": [32, 64], "num_res_blocks": 1, "attention": False, "scale": 1.0}

#: Keys of [train.metrics] that say how samples are generated.
OF_SAMPLES = ("num_steps", "sampler", "guidance_scale", "seed")

_FIXED = {"self", "name", "trainable", "dtype", "halves", "kwargs"}


def is_trained(config):
    """Whether a configuration trains an autoencoder."""
    return "autoencoder" in config and "run" not in config["autoencoder"]


def known_keys():
    """The keys of an autoencoder that is trained, with their defaults."""
    parameters = inspect.signature(networks.AutoencoderKL.__init__).parameters
    return {**{name: p.default for name, p in parameters.items() if name not in _FIXED}, **SMALL}


def check_sections(config):
    """Raises a ConfigError for sections that do not go with [autoencoder].

    Args:
        config: dict, as read from a file.
    """
    table = config.get("autoencoder")
    if table is None:
        return
    if not isinstance(table, dict):
        raise ConfigError(f"[autoencoder] is a table of options. Received: autoencoder={table!r:.100}")
    if not is_trained(config):
        check_keys(table, ("run", "config"), "[autoencoder]")
        return
    check_keys(table, known_keys(), "[autoencoder]")
    for section in ("network", "text"):
        if config.get(section):
            raise ConfigError(
                f"[autoencoder] is what is trained, in place of [network]. Received: [autoencoder] and [{section}]. "
                'Train the autoencoder first, then a network in its latents: [autoencoder] with run = "runs/…"'
            )


def check_scores(metrics):
    """Raises a ConfigError for keys that only samples have.

    Args:
        metrics: [train.metrics] of an autoencoder that is trained, with its defaults.
    """
    found = [key for key in OF_SAMPLES if metrics[key] != METRICS[key]]
    if found:
        raise ConfigError(
            f"Of an autoencoder, reconstructions are measured, which have no {', '.join(OF_SAMPLES)}. Received: "
            f"[train.metrics] with {', '.join(found)}. Leave that out"
        )


def resolve_trained(options, data):
    """[autoencoder] of one that is trained, with its defaults and with the channels of the data.

    Args:
        options: dict of the section.
        data: `Batches`.

    Returns:
        dict of arguments of `networks.AutoencoderKL`.

    Raises:
        ConfigError: data that are no pictures, or have other channels.
    """
    shape = tuple(data.image_shape)
    if len(shape) != 3:
        raise ConfigError(f"An autoencoder is trained on pictures (H, W, C). Received: samples of shape {shape}")
    channels = options.get("channels", shape[-1])
    if channels != shape[-1]:
        raise ConfigError(f"The pictures have {shape[-1]} channels. Received: autoencoder.channels={channels!r}")
    found = {**known_keys(), "channels": channels, "latent_channels": channels, **options}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in found.items()}


def resolve_run(options):
    """[autoencoder] with `run`: the path made absolute, and the config of the autoencoder there.

    Args:
        options: dict of the section.

    Returns:
        dict with "run" and "config".

    Raises:
        ConfigError: no finished run of an autoencoder.
    """
    if "config" in options:  # of a run: its weights are in the state
        return options
    path = Path(str(options["run"])).expanduser().resolve()
    return {"run": str(path), "config": keras.saving.serialize_keras_object(_of_run(path))}


def latent_shape(options, image_shape):
    """The shape of the latents of pictures.

    Args:
        options: of `resolve_run`.
        image_shape: (H, W, C).

    Returns:
        list [h, w, D].

    Raises:
        ConfigError: pictures of a size or with channels that the autoencoder does not take.
    """
    autoencoder = build_from_file(options["config"], error=ConfigError)
    factor = autoencoder.size_multiple
    height, width, channels = image_shape
    if height is None or height % factor or width % factor or channels != autoencoder.channels:
        raise ConfigError(
            f"The autoencoder takes pictures of {autoencoder.channels} channels, whose sides are multiples of "
            f"{factor}. Received: pictures of shape {tuple(image_shape)}"
        )
    return [height // factor, width // factor, autoencoder.latent_channels]


def build_latent(options, with_weights):
    """The autoencoder in whose latents a network is trained.

    Args:
        options: of `resolve_run`.
        with_weights: whether to read its weights from its run; they come with the state of a run that is resumed.

    Raises:
        ConfigError: the run is not there any more, or damaged.
    """
    autoencoder = build_from_file(options["config"], error=ConfigError)
    if with_weights:
        autoencoder.set_weights(_of_run(Path(options["run"])).get_weights())
    return autoencoder


def build_trained(config):
    """The `AutoencoderModel` of a resolved configuration."""
    with config_errors("[autoencoder] ", (ValueError, TypeError, KeyError)):
        autoencoder = networks.AutoencoderKL(dtype=config["dtype"], **config["autoencoder"])
    with config_errors("[model] ", (ValueError, TypeError, KeyError)):
        return AutoencoderModel(autoencoder, **{"seed": config["seed"], **config["model"]})


def reconstructions(folder, config, batches):
    """The callback that draws pictures and their reconstructions, in a list; an empty one without.

    Args:
        folder: of the pictures.
        config: resolved.
        batches: `Batches` whose first pictures are drawn: held-out ones, where there are some.
    """
    options = config["train"]["samples"]
    if options["every"] == 0:
        return []
    first = batches[0]
    images = np.asarray(first["images"] if isinstance(first, dict) else first)[: options["num_samples"]]
    return [ReconstructionGrid(folder, images, every=options["every"])]


def header(model):
    """What a run says of an autoencoder, a dict of rows."""
    network, size = model.autoencoder, model.autoencoder.size_multiple
    share = network.channels * size**2 / network.latent_channels
    rows = {
        "autoencoder": f"{type(network).__name__}, {network.count_params():,} parameters",
        "latents": f"H/{size} × W/{size} × {network.latent_channels}: {share:.3g} times fewer numbers than pictures",
        "loss": ", ".join(f"{weight:g}·{name}" for name, weight in model.loss_weights.items()),
    }
    if model.adversary is not None:
        opponent, start = model.adversary.discriminator, model.adversary.start
        rows["against"] = f"{type(opponent).__name__}, {opponent.count_params():,} parameters, from step {start:,} on"
    return rows


def _of_run(path):
    """The autoencoder of a finished run, or of a preset."""
    from keras_diffusion.models.run_folders import is_finished, is_run

    if is_run(path) and not is_finished(path):
        raise ConfigError(
            "`autoencoder.run` is a finished run, in which the scale of latents is known. Received: "
            f"{str(path)!r}, which is not finished"
        )
    with config_errors("[autoencoder] ", (ValueError, FileNotFoundError)):
        return AutoencoderModel.from_preset(path).averaged_autoencoder()
