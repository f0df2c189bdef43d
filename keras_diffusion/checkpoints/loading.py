"""`load`: from a file of an older system to a network that runs here.

file ── container ──▶ tensors ── family ──▶ config ──▶ network, schedule, predictor, normalizer
                         └──────────────── sources ──▶ weights
"""

import sys
from dataclasses import dataclass, field
from typing import Any

from keras_diffusion.checkpoints import own
from keras_diffusion.checkpoints.families.family import required_family
from keras_diffusion.checkpoints.hub import local_path
from keras_diffusion.checkpoints.transfer import Report, transfer
from keras_diffusion.configs.checks import check_choice, shown
from keras_diffusion.containers import open_container
from keras_diffusion.containers.errors import CheckpointError, error_at, only_checkpoint_errors
from keras_diffusion.layers.weight_budget import weight_budget
from keras_diffusion.models.diffusion_model import DiffusionModel
from keras_diffusion.models.text_to_image import TextToImage
from keras_diffusion.runtime import limits

_CHOICES = {"weights": ("ema", "raw"), "state": ("best", "last")}


@dataclass
class LoadedCheckpoint:
    """What `load` returns.

    Attributes:
        network: Keras model with the weights of the file, on a dict `{"x": (B, H, W, C), "noise_level": (B,), …}`;
            `noise_level` is what the old network took (timestep index, noise variance, …).
        noise_schedule: the schedule it was trained with, or None for what is no denoising network.
        predictor: what its output means, or None.
        normalizer: layer between images in [−1, 1] and what the network saw, or None where these are the same.
        report: what was matched, missing, unused and assumed; `print(report)`.
        config: the network's arguments, in the words of its family.
        options: further arguments of `DiffusionModel`.
        sampling: how the source samples: "sampler", "spacing" and "guidance", which `generate` uses by default.
    """

    network: Any
    noise_schedule: Any
    predictor: Any
    normalizer: Any
    report: Report
    config: dict
    options: dict = field(default_factory=dict)
    sampling: dict = field(default_factory=dict)

    def diffusion_model(self, **options):
        """A `DiffusionModel` to generate with, or to train on; its average starts at the loaded weights.

        Where there is a text encoder, it is a `TextToImage`.

        Args:
            options: arguments of `DiffusionModel`, over those that the checkpoint implies.

        Raises:
            CheckpointError: the file holds no denoising network (a text encoder, an autoencoder).
        """
        if self.predictor is None:
            raise CheckpointError(
                "A diffusion model needs a denoising network. Received: a checkpoint of the family "
                f"{self.report.family}, which holds a {type(self.network).__name__}. It is in the attribute `network`.",
                self.report.path,
            )
        parts = {
            "noise_schedule": self.noise_schedule,
            "predictor": self.predictor,
            "autoencoder": self.normalizer,
            "sampling_defaults": self.sampling,
        }
        # A text encoder among the options: text to image.
        cls = TextToImage if "text_encoder" in self.options else DiffusionModel
        return cls(self.network, **{**parts, **self.options, **options})


def load(path, weights="ema", state="best", config=None, strict=True, verbose="auto", custom_objects=None):
    """Loads a checkpoint: of an older system, or of this one. Neither TensorFlow nor any code of the file is needed or
    run.

    Args:
        path: file, folder, or prefix of a TensorFlow checkpoint; or `hf://organization/name[/component]`, which is
            fetched from the Hugging Face Hub.
        weights: "ema" (default: the average of the weights) or "raw", where a file holds both.
        state: "best" (default) or "last", where a file holds both.
        config: dict of the old model's constructor arguments, for what shapes cannot tell; it stands above what the
            file says.
        strict: whether anything missing or unused is an error (default) or only in the report.
        verbose: 0 says nothing; 1 says what was loaded and shows a bar; "auto" (default): the bar on a terminal only.
        custom_objects: for files of this library: dict from names to classes of your own that they may make, such as
            `{"my_package>MyNetwork": MyNetwork}`; see `DiffusionModel.from_preset`. Default None.

    Returns:
        `LoadedCheckpoint`.

    Raises:
        CheckpointError: a damaged file, an unknown kind of file or network, or weights that do not fit.
        FileNotFoundError: nothing there.
        ValueError: unknown `weights` or `state`, or a `config` that is no dict.

    Example:

    >>> loaded = keras_diffusion.checkpoints.load("checkpoints/diffusion_model")
    >>> images = loaded.diffusion_model().generate(16, num_steps=20, sampler="ddim", size=64)
    """
    path = local_path(path)
    if not isinstance(config, (dict, type(None))):
        raise ValueError(f"`config` is a dict of the old model's arguments, or None. Received: config={shown(config)}")
    for name, value in (("weights", weights), ("state", state)):
        check_choice(
            name, value, tuple(_CHOICES[name]), f"`{name}` must be one of {', '.join(map(repr, _CHOICES[name]))}"
        )
    if own.is_own(path, custom_objects):
        return _own(path, weights, verbose, custom_objects)
    with only_checkpoint_errors(path, "The checkpoint cannot be loaded"), open_container(path) as container:
        error = error_at(path)
        family = required_family(container)
        name, root, notes = family.choose(container, weights, state)
        config = family.read_config(container, root, dict(config or {}))
        limits.check_config([config, container.metadata.get("scheduler")], error)
        with weight_budget((info.shape for info in container.tensors.values()), error):
            parts = family.build(container, config)
        notes = [*notes, *parts.notes, *told_sampling(parts.sampling)]
        report = Report(str(path), container.format, family.name, name, notes=notes)
        sources = family.sources(container, root, parts.network, config)
        transfer(container, sources, parts.network, report, family.ignores(container, root), strict, verbose)
    _say(report, verbose)
    return LoadedCheckpoint(*parts[:4], report, config, dict(parts.options), dict(parts.sampling))


def told_sampling(sampling):
    """How the source samples, for the report: a list of at most one sentence."""
    if not sampling:
        return []
    told = ", ".join(f"{key} {_briefly(value)}" for key, value in sampling.items())
    return [f"Sampled as in the source unless `generate` is told otherwise: {told}."]


def _briefly(value):
    """A name with its options, "ddpm (fixed_large)"; of texts their values are enough."""
    if isinstance(value, list):
        return " + ".join(_briefly(entry) for entry in value)
    if isinstance(value, str):
        return value
    options = [
        option if isinstance(option, str) else f"{key}={option}" for key, option in value.items() if key != "name"
    ]
    return f"{value['name']} ({', '.join(options)})" if options else value["name"]


def _own(path, weights, verbose, custom_objects):
    """What `load` returns for a file of this library."""
    model = own.load_own(path, custom_objects)
    name = "ema" if weights == "ema" and model.average is not None else "raw"
    network = model.averaged_network() if name == "ema" else model.network
    notes = [] if name == weights else ["The model keeps no average of its weights; these are its raw weights."]
    matched = {variable.path: (variable.path,) for variable in network.weights}
    report = Report(str(path), own.kind_of(path), own.FAMILY, name, matched, notes=notes)
    _say(report, verbose)
    kept = (
        "loss_weighting",
        "time_distribution",
        "condition_dropout",
        "concat_dropout",
        "ema",
        "null_context",
        "noise_bands",
        "seed",
        "class_names",
    )
    options = {key: getattr(model, key) for key in kept}
    network.trainable = True
    return LoadedCheckpoint(
        network,
        model.noise_schedule,
        model.predictor,
        model.autoencoder,
        report,
        network.get_config(),
        options,
        model.sampling_defaults,
    )


def _say(report, verbose):
    if verbose:
        sys.stdout.write("\n".join([report.summary(), *report.notes, ""]))
