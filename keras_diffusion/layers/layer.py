"""What the layers of this room share: arguments written once, an output shaped like the input, parts that are built."""

import keras
from keras import ops

from keras_diffusion.configs.arguments import ArgumentsMixin
from keras_diffusion.core.noise import generator_seed
from keras_diffusion.layers.options import unbuilt_dense


class Layer(ArgumentsMixin, keras.layers.Layer):
    """Base class of layers. Their constructor arguments are attributes: see `configs.arguments`.

    Unless a subclass says otherwise, the output is shaped like the first argument of the call.
    """

    def compute_output_shape(self, x_shape, *others, **named):
        return x_shape

    def _dense(self, units, inputs, name, **options):
        """A built dense layer, which can take adapters, from `inputs` to `units` channels."""
        return built(unbuilt_dense(units, name=name, dtype=self.dtype_policy, **options), (None, inputs))

    def _dropout_generator(self):
        """The `SeedGenerator` of a layer with the arguments `dropout` and `seed`, or None where nothing is dropped.

        Not keras.layers.Dropout: the state of its generator would have an automatic name, which differs from process to
        process.
        """
        if not self.dropout:
            return None
        return keras.random.SeedGenerator(generator_seed(self.seed), name=f"{self.name}_seed_generator")

    def _dropout_masks(self, count, shape, training):
        """What `count` branches are multiplied by, a list; empty where nothing is dropped.

        Drawn outside of what `_recomputed` runs twice: the second time must drop what the first one dropped.
        """
        if self.seed_generator is None or not training:
            return []
        ones = ops.ones(shape, self.compute_dtype)
        return [keras.random.dropout(ones, self.dropout, seed=self.seed_generator) for _ in range(count)]

    def _recomputed(self, function, training):
        """`function`, which training computes again on the way back where the layer has remat=True."""
        return keras.remat(function) if self.remat and training else function


def built(layer, *shapes):
    """`layer`, built for inputs of these shapes."""
    layer.build(*shapes)
    return layer


def check_context(layer, context):
    """Raises ValueError unless a layer with the argument `cross_attention` has a context exactly when it needs one."""
    if layer.cross_attention and context is None:
        raise ValueError("A block with cross_attention=True needs a context (B, M, D). Received: context=None")
    if not layer.cross_attention and context is not None:
        raise ValueError(
            "A context is for blocks built with cross_attention=True. Received a context, and cross_attention=False"
        )
