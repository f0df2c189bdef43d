"""The exponential moving average of a network's weights, which is what one samples from.

    θ̄ ← d·θ̄ + (1 − d)·θ,       d = min(decay, (1 + n)/(10 + n))  after n updates

It is state of the model: ordinary non-trainable weights, updated inside the compiled training step, saved with everything else. (The
average that Keras optimizers offer overwrites the trained weights at the end of `fit`.)
"""

import keras
from keras import ops

from keras_diffusion.core.checks import check_number
from keras_diffusion.core.devices import to_host
from keras_diffusion.layers.lora import adapter_variables


class WeightAverage(keras.layers.Layer):
    """A frozen copy of a network that follows it.

    Args:
        network: built `keras.Model`; the copy is made from its config.
        decay: d in [0, 1). Default 0.999.

    Raises:
        ValueError: decay outside [0, 1).

    Reference:
        warm-up: as in TensorFlow's `ExponentialMovingAverage(num_updates)`; see Karras et al. 2024, arXiv:2312.02696, for why the
        average matters.
    """

    def __init__(self, network, decay=0.999, **kwargs):
        super().__init__(**kwargs)
        rule = "`ema` is the share of the average that one update keeps and must lie in [0, 1)"
        self.decay = check_number("ema", decay, 0, below=1, rule=rule)
        self.network = copy_of(network)
        self.network.trainable = False
        self.num_calls = self.add_weight(shape=(), dtype="int32", initializer="zeros", trainable=False, name="num_calls")
        self.built = True

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
                value = average + ops.cast(1.0 - decay, average.dtype) * (value - average)
            average.assign(value)
        self.num_calls.assign(self.num_calls + 1)

    def take_adapters_of(self, network):
        """Gives the average the adapters of `network`, and counts the updates from 0: they start at no change.

        Args:
            network: the network that is trained.
        """
        self.network.take_adapters_of(network)
        self.network.trainable = False
        self.num_calls.assign(0)


def copy_of(network):
    """A network of its own with the same config and weights."""
    config = network.get_config()
    clone = type(network).from_config({**config, "name": f"{network.name}_average"} if "name" in config else config)
    # Host copies: on JAX, assigning a variable to a variable would share a buffer, which a training step then gives away twice.
    clone.set_weights([to_host(variable.value) for variable in network.weights])
    return clone
