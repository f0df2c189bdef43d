"""Class labels as vectors, with one more for "no class".

Classifier-free guidance compares what a network says with the class and without it. In training a share of the labels
is therefore replaced by the null label, which has a row of its own in the table: the last one.
"""

import keras
from keras import ops

from keras_diffusion.configs.checks import check_whole
from keras_diffusion.configs.registry import serializable
from keras_diffusion.layers.initializers import RandomNormal
from keras_diffusion.layers.layer import Layer


@serializable
class LabelEmbedding(Layer):
    """A table of `num_classes + 1` vectors; row `num_classes` means "no class".

    The vectors start as N(0, 1) draws, about as large as an embedded noise level, so that classes are told apart from
    the start.

    Args:
        num_classes: number of classes, ≥ 1.
        dim: size of the embedding.
        null_class: whether there is a row for "no class". Default True; networks trained without one, whose table has
            `num_classes` rows, cannot be guided.

    Call arguments:
        labels: integers `(B,)` in [0, num_classes].

    Returns:
        `(B, dim)`.

    Raises:
        ValueError: `num_classes` < 1.

    Example:

    >>> layer = LabelEmbedding(10, 64)
    >>> layer(keras.ops.array([0, 9, layer.null_label])).shape
    (3, 64)
    """

    def __init__(self, num_classes, dim, null_class=True, **kwargs):
        super().__init__(**kwargs)
        rule = "`num_classes` must be an integer ≥ 1, or None in a network without classes"
        check_whole("num_classes", num_classes, 1, rule=rule)
        rows = num_classes + 1 if null_class else num_classes
        self.table = _Table(
            rows, dim, embeddings_initializer=RandomNormal(stddev=1.0), name="table", dtype=self.dtype_policy
        )

    @property
    def null_label(self):
        """The label that means "no class", or None."""
        return self.num_classes if self.null_class else None

    def build(self, input_shape):
        self.table.build(input_shape)

    def call(self, labels):
        return self.table(labels)

    def compute_output_shape(self, input_shape):
        return (*input_shape, self.dim)


class _Table(keras.layers.Embedding):
    """An embedding whose gradient is dense on TensorFlow too.

    There, the gradient of a look-up is a list of rows, in which a class occurs as often as in the batch. Keras's
    optimizers (3.15) square these rows one by one: Adam's second moment becomes Σ g² where it is (Σ g)², and frequent
    classes take too large steps.
    """

    def call(self, inputs):
        if keras.backend.backend() != "tensorflow":
            return super().call(inputs)
        dense = 1.0 * ops.convert_to_tensor(self.embeddings)  # the gradient of a product is no list of rows
        return ops.cast(ops.take(dense, ops.cast(inputs, "int32"), axis=0), self.compute_dtype)
