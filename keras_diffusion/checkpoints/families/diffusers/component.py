"""Components of diffusers: one model class each, with its config there, its arguments here, and the names of its
tensors.

config.json ── arguments ──▶ network       tensors ── links ──▶ variables
            ◀── config ─────                       ◀── links ──
tensors ──── guess ────────▶ config, where there is no config.json
"""

import math

from keras_diffusion.checkpoints.families.agreement import check_known
from keras_diffusion.configs.checks import shown
from keras_diffusion.containers.errors import CheckpointError

COMPONENTS: dict[str, "Component"] = {}


class Component:
    """Base class of components.

    Attributes:
        class_name: diffusers' class.
        network_class: the class here.
        defaults: the keys of its config, with the values that diffusers takes where one lacks.
        fixed: what keys must be, as the networks here know no other: dict from keys to values.
        needless_keys: keys of its config that say nothing of the computation.
        obsolete: keys of older versions, with the values at which they say nothing.
        same: keys of its config whose values are arguments here: dict from keys to names of arguments.
        activation_key: the key of the activation, whose names differ.
        denoises: whether it is the network of a diffusion model.
        folder, weights_file: where pipelines keep it, and what its weights are called.
        library: the package of its class.
    """

    class_name = folder = ""
    network_class: type
    defaults: dict = {}
    fixed: dict = {}
    needless_keys: frozenset = frozenset()
    obsolete: dict = {}
    same: dict = {}
    activation_key = "act_fn"
    denoises = False
    weights_file = "diffusion_pytorch_model.safetensors"
    library = "diffusers"

    def recognizes(self, tensors):
        """Whether the names are those of this class."""
        raise NotImplementedError(f"{type(self).__name__} must implement recognizes(tensors)")

    def guess(self, tensors):
        """The config that the shapes tell, as far as they do."""
        raise NotImplementedError(f"{type(self).__name__} must implement guess(tensors)")

    def arguments(self, config):
        """Arguments of `network_class` for a config: here those of `same`, and the activation."""
        equal = {ours: config[theirs] for theirs, ours in self.same.items()}
        return {**equal, "activation": activation_name(config[self.activation_key])}

    def config(self, network):
        """The config of a network made here: the other way round, with the defaults of all other keys."""
        has = network.get_config()
        equal = {theirs: has[ours] for theirs, ours in self.same.items()}
        return {**self.defaults, **equal, self.activation_key: torch_activation(has["activation"])}

    def links(self, network, config):
        """`Link`s of all variables."""
        raise NotImplementedError(f"{type(self).__name__} must implement links(network, config)")

    def assumed(self, told, config):
        """What a report has to say of a config that was completed: sentences, a tuple.

        Args:
            told: what the file's config.json says, or None.
            config: the whole config.
        """
        return ()

    def needless(self, name):
        """Whether a tensor that no variable takes may be left behind."""
        return False

    def complete(self, tensors, told, given, path):
        """The whole config.

        Args:
            tensors: `Tensors`.
            told: what the file's config.json says, or None.
            given: what the user says, which stands above it.
            path: of the checkpoint, for errors.

        Raises:
            CheckpointError: keys that the class does not have, or values that the networks here cannot have.
        """
        given = {key: value for key, value in given.items() if not key.startswith("_")}
        words = f"The config of a {self.class_name} has the keys {{known}}. Received: {{unknown}}."
        check_known(given, self.defaults, words, path)
        self._check_told(told or {}, path)
        known = self.guess(tensors) if told is None else {key: told[key] for key in told if key in self.defaults}
        config = {**self.defaults, **known, **given}
        for key, value in config.items():
            if not _is_alike(value, self.defaults[key]):
                raise CheckpointError(
                    f"The config of a {self.class_name} has values like "
                    f"{key}={self.defaults[key]!r}. Received: {key}={shown(value)}.",
                    path,
                )
        for key, value in self.fixed.items():
            if config[key] != value and config[key] is not None:
                raise CheckpointError(
                    f"Of a {self.class_name}, the networks here know {key}={value!r} alone. Received: "
                    f"{key}={config[key]!r}.",
                    path,
                )
        return config

    def _check_told(self, told, path):
        """Raises for keys of a file that are not known: they may change what the network computes.

        Those with "_" are notes.
        """
        known = {*self.defaults, *self.needless_keys}
        unknown = {
            key: value
            for key, value in told.items()
            if not (key in known or key.startswith("_") or value is None)
            and (key not in self.obsolete or value != self.obsolete[key])
        }
        if unknown:
            raise CheckpointError(
                f"The config.json of a {self.class_name} is known here with the keys {', '.join(self.defaults)}. "
                "Received: "
                f"{', '.join(f'{key}={value!r}' for key, value in unknown.items())}. If it says nothing of the "
                "computation, take it out",
                path,
            )


def _is_alike(value, default):
    """Whether a value of a config is of the kind of its default: a number, or one per level, and so on."""
    if value is None or default is None:
        return True
    if isinstance(default, (list, tuple)):
        return isinstance(value, (list, tuple)) and (not default or all(_is_alike(item, default[0]) for item in value))
    if isinstance(default, str):
        return isinstance(value, str)
    values = value if isinstance(value, (list, tuple)) else [value]
    if isinstance(default, bool):
        return all(isinstance(flag, bool) for flag in values)
    return all(n is None or (is_number(n) and math.isfinite(n)) for n in values)


def is_number(value):
    """Whether `value` is an int or a float, and no bool."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def register(cls):
    """Class decorator: adds a component. They are asked in the order of registration."""
    COMPONENTS[cls.class_name] = cls()
    return cls


def component_of(tensors):
    """The component that has such names, or None."""
    return next((component for component in COMPONENTS.values() if component.recognizes(tensors)), None)


def component_of_network(network):
    """The component that a network of this library can be written as, or None."""
    return next((component for component in COMPONENTS.values() if type(network) is component.network_class), None)


def size_pair(size):
    """(H, W) of diffusers' `sample_size`: a number, a pair, or None."""
    return tuple(size) if isinstance(size, (list, tuple)) else (size, size)


def activation_name(name):
    """The name here of an activation of diffusers, and the other way round."""
    return {
        "silu": "swish",
        "gelu-approximate": "gelu_tanh",
        "gelu_new": "gelu_tanh",
        "gelu_pytorch_tanh": "gelu_tanh",
    }.get(name, name)


def torch_activation(serialized):
    """diffusers' name of an activation as `get_config` has it."""
    name = serialized if isinstance(serialized, str) else serialized["config"]
    return {"swish": "silu", "gelu_tanh": "gelu-approximate"}.get(name, name)
