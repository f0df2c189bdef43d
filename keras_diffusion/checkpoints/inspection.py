"""`inspect`: what a file holds, without loading it."""

from dataclasses import dataclass
from math import prod
from pathlib import Path

from keras_diffusion.checkpoints import own
from keras_diffusion.checkpoints.families.family import family_of
from keras_diffusion.checkpoints.hub import local_path
from keras_diffusion.containers import open_container
from keras_diffusion.containers.errors import CheckpointError, error_at, only_checkpoint_errors
from keras_diffusion.models.presets import read_config
from keras_diffusion.models.run_folders import is_finished, is_run, preset_of
from keras_diffusion.runtime.training_state import read_state


@dataclass
class Inspection:
    """What `inspect` found; `print` shows it.

    Attributes:
        path: the checkpoint.
        format: its container.
        family: name of the family, or None where it is not known.
        title: the family in words.
        weights: sets of weights that it holds: "ema", "raw".
        config: the network's arguments as the file tells them, or None.
        tensors: dict from name to (shape, dtype), in the file's order.
        metadata: what the file says of itself: versions, dates.
        problem: why the config could not be read, or None.
    """

    path: str
    format: str
    family: str | None
    title: str
    weights: tuple[str, ...]
    config: dict | None
    tensors: dict
    metadata: dict
    problem: str | None = None

    @property
    def parameters(self):
        """Number of values in all tensors."""
        return sum(prod(info.shape) for info in self.tensors.values())

    def facts(self):
        """Everything but the tensors, as a dict from words to text."""
        facts = {
            "file": self.path,
            "format": self.format,
            "family": f"{self.family}: {self.title}" if self.family else "not known",
            "weights": ", ".join(self.weights) or "not known",
            "config": ", ".join(f"{key}={value}" for key, value in (self.config or {}).items()) or "not known",
            **{key: str(value) for key, value in self.metadata.items()},
            "tensors": f"{len(self.tensors)}, {self.parameters:,} values",
        }
        return facts | ({"problem": self.problem} if self.problem else {})

    def __str__(self):
        width = max((len(name) for name in self.tensors), default=0)
        lines = [f"{key + ':':<15}{value}" for key, value in self.facts().items()]
        return "\n".join(
            [*lines, *(f"  {name:<{width}}  {info.dtype:<9} {info.shape}" for name, info in self.tensors.items())]
        )


def inspect(path, config=None):
    """Recognizes a checkpoint by its content and lists its tensors.

    Args:
        path: file, folder, prefix of a TensorFlow checkpoint, or `hf://` address, as `load` takes it.
        config: dict of the old model's constructor arguments, as `load` takes it, or None.

    Returns:
        `Inspection`.

    Raises:
        CheckpointError: a damaged file, or an unknown kind of file. (A network of an unknown family is no error.)
        FileNotFoundError: nothing there.

    Example:

    >>> print(keras_diffusion.checkpoints.inspect("checkpoints/diffusion_model"))
    """
    path = local_path(path)
    if own.is_own(path):
        return _inspect_own(path)
    with only_checkpoint_errors(path, "The checkpoint cannot be read"), open_container(path) as container:
        family, found, weights, problem = family_of(container), None, (), None
        if family is not None:
            weights = tuple(sorted(family.weights(container)))
            try:
                found = family.read_config(container, family.choose(container, "ema", "best")[1], dict(config or {}))
            except CheckpointError as error:
                problem = str(error)
        title = "" if family is None else family.title
        name = None if family is None else family.name
        return Inspection(
            str(path),
            container.format,
            name,
            title,
            weights,
            found,
            dict(container.tensors),
            dict(container.metadata),
            problem,
        )


def _inspect_own(path):
    path = Path(path)
    if is_run(path) and not is_finished(path):
        return _inspect_state(path)
    path = preset_of(path) if is_run(path) else path
    with (
        only_checkpoint_errors(path, "The checkpoint cannot be read"),
        open_container(own.weights_file(path)) as container,
    ):
        config = read_config(path / "config.json") if path.is_dir() else container.config
        metadata = read_config(path / "metadata.json") if (path / "metadata.json").is_file() else container.metadata
        arguments = config.get("config")
        network = arguments.get("network") if isinstance(arguments, dict) else None
        if not isinstance(network, dict) or not isinstance(network.get("config"), dict):
            raise CheckpointError("The config of a diffusion model holds that of its network. This one does not.", path)
        return Inspection(
            str(path),
            "preset" if path.is_dir() else container.format,
            own.FAMILY,
            f"a {config.get('class_name')} of this library, with a {network.get('class_name')}",
            ("ema", "raw") if arguments.get("ema") is not None else ("raw",),
            network["config"],
            dict(container.tensors),
            dict(metadata),
        )


def _inspect_state(path):
    """What the last state of an unfinished run holds."""
    config = read_config(path / "config.json")
    network, model = (config.get(key) for key in ("network", "model"))
    if not isinstance(network, dict) or not isinstance(model, dict):
        raise CheckpointError(
            "The configuration of a run has the sections [network] and [model]. This one has not.", path
        )
    with open_container(own.weights_file(path)) as container:
        state = read_state(path / "state", error_at(path / "state"))
        return Inspection(
            str(path),
            own.kind_of(path),
            own.FAMILY,
            f"a DiffusionModel of this library, with a {network.get('name')}",
            ("ema", "raw") if model.get("ema") is not None else ("raw",),
            {key: value for key, value in network.items() if key != "name"},
            dict(container.tensors),
            {**container.metadata, "epochs": state["epoch"]},
        )
