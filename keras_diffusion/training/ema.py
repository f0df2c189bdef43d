"""The exponential moving average of a network's weights, which is what one samples from.

    θ̄ ← d·θ̄ + (1 − d)·θ,       d = min(decay, (1 + n)/(10 + n))  after n updates

It is state of the model: ordinary non-trainable weights, updated inside the compiled training step, saved with
everything else. (The average that Keras optimizers offer overwrites the trained weights at the end of `fit`.)

The average is kept in float32 also where the network's own weights are bfloat16 or float16: there an update of (1 −
d)·(θ − θ̄) is mostly smaller than half a unit in the last place of θ̄, and would be rounded away.
"""

import keras
import numpy as np
from keras import ops

from keras_diffusion.configs.checks import check_number
from keras_diffusion.lora.network import adapter_variables
from keras_diffusion.runtime.devices import to_host

_WIDE = {
    "bfloat16": "mixed_bfloat16",
    "float16": "mixed_float16",
}  # policies with the same arithmetic and float32 weights
_SAMPLED = 8  # variables that are looked at to see whether others have put weights there


class WeightAverage(keras.layers.Layer):
    """A frozen copy of a network that follows it.

    Args:
        network: built `keras.Model`; the copy is made from its config, with float32 weights.
        decay: d in [0, 1). Default 0.999.

    Raises:
        ValueError: decay outside [0, 1).

    Reference:
        warm-up: as in TensorFlow's `ExponentialMovingAverage(num_updates)`; see Karras et al. 2024, arXiv:2312.02696,
        for why the average matters.
    """

    def __init__(self, network, decay=0.999, **kwargs):
        super().__init__(**kwargs)
        rule = "`ema` is the share of the average that one update keeps and must lie in [0, 1)"
        self.decay = check_number("ema", decay, 0, below=1, rule=rule)
        self.network = copy_of(network)
        self.network.trainable = False
        self.num_calls = self.add_weight(
            shape=(), dtype="int32", initializer="zeros", trainable=False, name="num_calls"
        )
        self.built = True
        self._untouched = _sample(self.network)

    def update(self, network, every=1):
        """Moves the average towards `network`'s present weights; for use inside a training step.

        Args:
            network: the network that is trained.
            every: update on every k-th call only (the steps of one accumulated gradient count as one).
        """
        updates = ops.cast(self.num_calls // every, "float32")
        decay = ops.minimum(self.decay, (1.0 + updates) / (10.0 + updates))
        if every > 1:
            decay = ops.where(self.num_calls % every == every - 1, decay, 1.0)
        pairs = zip(self.network.weights, network.weights, strict=True)
        if getattr(network, "adapters", None):  # all else is frozen
            pairs = zip(adapter_variables(self.network), adapter_variables(network), strict=True)
        for average, variable in pairs:
            value = ops.stop_gradient(ops.convert_to_tensor(variable))
            if keras.backend.is_float_dtype(average.dtype):
                value = average + ops.cast(1.0 - decay, average.dtype) * (ops.cast(value, average.dtype) - average)
            average.assign(value)
        self.num_calls.assign(self.num_calls + 1)

    def restart(self, network):
        """Sets the average to `network`'s present weights, and counts the updates from 0.

        Args:
            network: the network that is trained.
        """
        if getattr(network, "adapters", None):
            self.take_adapters_of(network)
        put_weights(self.network, network)
        self.num_calls.assign(0)
        self._untouched = _sample(self.network)

    def is_unused(self):
        """Whether the average is as it was made or restarted: nothing has updated it, and nobody has put weights of its
        own into it.

        What it holds then says nothing about a network that has been given other weights since.
        """
        if self._untouched is None or int(to_host(self.num_calls.value)) > 0:
            return False
        return _same(self._untouched, _sample(self.network))

    def follow(self, network):
        """Restarts an unused average where the network has been given other weights.

        Args:
            network: the network that is trained.
        """
        if self.is_unused() and not _same(self._untouched, _sample(network)):
            self.restart(network)

    def loaded(self, network):
        """To be called when the weights of both have been read from a file: an average that equals the network is
        unused.

        Args:
            network: the network that is trained.
        """
        if getattr(network, "adapters", None) or int(to_host(self.num_calls.value)) > 0:
            return
        sample = _sample(self.network)
        if _same(sample, _sample(network)):
            self._untouched = sample

    def take_adapters_of(self, network):
        """Gives the average the adapters of `network`, and counts the updates from 0: they start at no change.

        Args:
            network: the network that is trained.
        """
        self.network.take_adapters_of(network)
        self.network.trainable = False
        self.num_calls.assign(0)
        self._untouched = None  # the weights below the adapters are an average of their own


def copy_of(network):
    """A network of its own with the same config and weights; these are float32 where the network's are
    half precision.
    """
    config = _wide(network.get_config())
    clone = type(network).from_config({**config, "name": f"{network.name}_average"} if "name" in config else config)
    put_weights(clone, network)
    return clone


def put_weights(target, source):
    """Sets all weights of a network to those of another one of the same kind."""
    # Host copies: on JAX, assigning a variable to a variable would share a buffer, which a training step then gives
    # away twice.
    target.set_weights([to_host(variable.value) for variable in source.weights])


def _wide(config):
    """A config in which layers that keep their weights in half precision keep them in float32 and compute as before."""
    if isinstance(config, (list, tuple)):
        return type(config)(map(_wide, config))
    if not isinstance(config, dict) or config.get("class_name") in ("InputLayer", "__keras_tensor__"):
        return config  # what is said there of a dtype is about tensors
    if config.get("class_name") == "DTypePolicy":
        name = config["config"]["name"]
        return {**config, "config": {**config["config"], "name": _WIDE.get(name, name)}}
    wide = {key: _wide(value) for key, value in config.items()}
    if isinstance(wide.get("dtype"), str):
        wide["dtype"] = _WIDE.get(wide["dtype"], wide["dtype"])
    return wide


def _sample(network):
    """Copies of a few small weights, by which one sees whether a network was given others; those that all began alike
    do not show it.
    """
    varied = [v for v in network.weights if keras.backend.is_float_dtype(v.dtype) and max(v.shape, default=1) > 1]
    values = []
    for variable in sorted(varied, key=lambda v: np.prod(v.shape)):
        value = np.array(to_host(variable.value), "float32")
        if value.min() < value.max():
            values.append(value)
        if len(values) == _SAMPLED:
            break
    return values


def _same(one, other):
    return len(one) == len(other) and all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
