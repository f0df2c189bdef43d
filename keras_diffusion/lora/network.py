"""Low-rank adapters of a whole network: which layers get one, and what stays frozen.

    enable_lora(rank)  ──▶  fit, save, load  ──▶  merge_lora()  the network as before, with other kernels
                                             └─▶  remove_lora() the network as it was

A layer is named by its path in the network, "down_0_0_transformer/…_block_0/attention1/to_q". Attention layers list
which of their dense layers are projections: `attention_projections`. Where queries, keys and values are one kernel,
they share one A.

Reference: Hu et al., "LoRA: low-rank adaptation of large language models", arXiv:2106.09685.
"""

import math

from keras import ops

from keras_diffusion.configs.checks import check_whole
from keras_diffusion.core.precision import policy_config
from keras_diffusion.layers.adaptable_dense import AdaptableDense

TARGETS = ("attention", "dense")


class LoRAMixin:
    """Gives a network adapters.

    Goes between `ArgumentsMixin` and `keras.Model` in the bases.
    """

    _frozen_for_adapters: frozenset = frozenset()

    def enable_lora(self, rank, alpha=None, target="attention"):
        """Adds low-rank adapters, which do not change the output at first, and freezes all other weights.

        Args:
            rank: r ≥ 1 of the adapters; from 4 to 64 is usual.
            alpha: α, a number > 0: what an adapter adds is scaled by α/r. None (default) takes the rank: a factor of 1.
            target: "attention" (default): queries, keys, values and outputs of every attention; "dense": every dense
                layer; or a list of names, for the dense layers of these names or with paths that end so: `["to_q",
                "to_v"]`.

        Raises:
            ValueError: a rank that is no integer ≥ 1, an alpha that is not > 0, a network that has adapters, no layer
                of the target.
        """
        rank = check_whole("rank", rank, 1, rule="`rank` is the size of an adapter's middle, an integer ≥ 1")
        alpha = rank if alpha is None else alpha
        self.add_adapters({path: (rank, alpha) for path in chosen_layers(self, target)})

    def add_adapters(self, table):
        """Adds adapters layer by layer: `enable_lora` with a rank and an alpha for each.

        Args:
            table: dict from paths of dense layers to (rank, alpha), as `adapters` gives it.

        Raises:
            ValueError: a network that has adapters, a path that is none of a dense layer, an alpha that is not a number
                > 0.
        """
        if self.adapters:
            raise ValueError(
                f"A network takes adapters once. Received one that has {len(self.adapters)}. "
                "Call merge_lora() to keep what they learned, or remove_lora() to drop them"
            )
        layers = dict(dense_layers(self))
        unknown = [path for path in table if path not in layers]
        if unknown:
            raise ValueError(
                "Adapters are for dense layers of the network. Received: "
                f"{', '.join(unknown[:3])}, which it does not have"
            )
        for path, (_, alpha) in table.items():
            number = isinstance(alpha, (int, float)) and not isinstance(alpha, bool)
            if not (number and alpha > 0 and math.isfinite(alpha)):
                raise ValueError(
                    "`alpha` scales what adapters add, by alpha/rank, and is a "
                    f"number > 0. Received: {alpha!r} for {path}"
                )
        frozen = [variable for variable in self.variables if variable.trainable]
        self._frozen_for_adapters = frozenset(map(id, frozen))
        for variable in frozen:
            variable.trainable = False
        for path, layer in layers.items():
            if path in table:
                rank, alpha = table[path]
                layer.enable_lora(int(rank), alpha)
        self._forget_programs()

    def merge_lora(self):
        """Adds what the adapters learned to the kernels and removes them: the output stays, up to rounding. All weights
        can be trained.

        Raises:
            ValueError: a network without adapters.
        """
        self._remove_adapters(merge=True)

    def remove_lora(self):
        """Removes the adapters: the network is what it was before `enable_lora`.

        Raises:
            ValueError: a network without adapters.
        """
        self._remove_adapters(merge=False)

    @property
    def adapters(self):
        """Dict from paths of dense layers to the (rank, alpha) of their adapters; empty where there are none."""
        return {path: (layer.lora_rank, layer.lora_alpha) for path, layer in dense_layers(self) if layer.lora_enabled}

    def take_adapters_of(self, network):
        """Gives this network the adapters of another one of the same config, with their values.

        Args:
            network: the other one.
        """
        if self.adapters != network.adapters:
            self.add_adapters(network.adapters)
        for variable, other in zip(adapter_variables(self), adapter_variables(network), strict=True):
            variable.assign(ops.convert_to_numpy(other))

    def get_config(self):
        """What Keras says of every layer, and the adapters, where there are some.

        Returns:
            dict with "name", "trainable", "dtype" and, where there are adapters, "adapters": {path of the layer:
            [rank, alpha]}.
        """
        base = {"name": self.name, "trainable": self.trainable, "dtype": policy_config(self.dtype_policy)}
        adapters = {path: list(numbers) for path, numbers in self.adapters.items()}
        return {**base, "adapters": adapters} if adapters else base

    @classmethod
    def from_config(cls, config):
        """A network of the config that `get_config` gave, with its adapters.

        Args:
            config: dict of constructor arguments, perhaps with "adapters".

        Returns:
            network with new weights.
        """
        config = dict(config)
        adapters = config.pop("adapters", None)
        network = cls(**config)
        if adapters:
            network.add_adapters(adapters)
        return network

    def _remove_adapters(self, merge):
        adapted = [layer for _, layer in dense_layers(self) if layer.lora_enabled]
        if not adapted:
            raise ValueError(
                "This network has no adapters. Call enable_lora(rank) first, or load some with checkpoints.load_lora"
            )
        for layer in adapted:
            layer.remove_lora(merge)
        for variable in self.variables if self.trainable else ():  # an average stays frozen
            if id(variable) in self._frozen_for_adapters:
                variable.trainable = True
        self._frozen_for_adapters = frozenset()
        self._forget_programs()

    def _forget_programs(self):
        # Keras's own compiled steps have the old weights in them.
        self.train_function = self.test_function = self.predict_function = None


def adapter_variables(network):
    """The variables of all adapters.

    Args:
        network: built network.

    Returns:
        list of A and B of each adapter, in the order of the layers.
    """
    return [
        v
        for _, layer in dense_layers(network)
        if layer.lora_enabled
        for v in (layer.lora_kernel_a, layer.lora_kernel_b)
    ]


def dense_layers(network):
    """The dense layers that can take an adapter.

    Args:
        network: built network.

    Yields:
        (path, `AdaptableDense`), in the order of the layers.
    """
    for path, layer in _walk(network, ""):
        if isinstance(layer, AdaptableDense):
            yield path, layer


def chosen_layers(network, target):
    """The dense layers that get adapters.

    Args:
        network: built network.
        target: "attention", "dense" or a list of names; see `LoRAMixin.enable_lora`.

    Returns:
        list of paths.

    Raises:
        ValueError: another target, a name that no layer has, or no layer at all.
    """
    layers = dict(dense_layers(network))
    if target == "dense":
        chosen = list(layers)
    elif target == "attention":
        owners = [layer for _, layer in _walk(network, "") if hasattr(layer, "attention_projections")]
        projections = {id(dense) for owner in owners for dense in owner.attention_projections().values()}
        chosen = [path for path, layer in layers.items() if id(layer) in projections]
    elif isinstance(target, (list, tuple)) and target and all(isinstance(name, str) for name in target):
        lacking = [name for name in target if not any(_ends_with(path, name) for path in layers)]
        if lacking:
            known = sorted({path.rsplit("/", 1)[-1] for path in layers})
            raise ValueError(
                f"No dense layer of the name {', '.join(lacking)}. Names in this network: {', '.join(known)}. "
                f"Received: target={lacking}"
            )
        chosen = [path for path in layers if any(_ends_with(path, name) for name in target)]
    else:
        raise ValueError(
            f"`target` is one of {', '.join(map(repr, TARGETS))}, or a list of names of "
            f"dense layers. Received: target={target!r}"
        )
    if not chosen:
        raise ValueError(
            f"This network has no layers to adapt. Received: target={target!r}. "
            "Dense layers of any kind: target='dense'"
        )
    return chosen


def _ends_with(path, name):
    return path == name or path.endswith(f"/{name}")


def _walk(layer, path):
    """Pairs of path and layer: all layers below `layer`, each once."""
    for child in layer._flatten_layers(include_self=False, recursive=False):
        inner = f"{path}/{child.name}" if path else child.name
        yield inner, child
        yield from _walk(child, inner)
