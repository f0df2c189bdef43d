"""AdaLN-Zero: a condition vector scales and shifts normalized tokens, and opens the gate of each residual branch.

    (s₁, b₁, g₁, s₂, b₂, g₂) = W·e                          e: noise level, class, text
    x ← x + g·f(norm(x)·(1 + s) + b)                        once for each branch f: feed-forward (1), attention (2)

W starts at 0: every gate is shut, and the network starts as the identity.

Reference: Peebles & Xie, "Scalable diffusion models with transformers", arXiv:2212.09748, section 3.2.
"""

from keras import ops

from keras_diffusion.configs.registry import serializable
from keras_diffusion.layers.layer import Layer
from keras_diffusion.layers.options import unbuilt_dense


@serializable
class AdaLNParams(Layer):
    """Scale, shift and gate of both branches of a transformer block, from one or more condition vectors.

    Args:
        dim: channels of the tokens.
        names: names of the condition vectors; each has a dense layer of its own, and the results are added. Default
            ("condition",).

    Call arguments:
        conditions: list of tensors `(B, E)`, as many as `names`.

    Returns:
        six tensors `(B, 1, dim)`: scale, shift, gate of the feed-forward branch, then of the attention branch.

    Example:

    >>> scale, shift, gate, *_ = AdaLNParams(32)([keras.ops.ones((8, 64))])
    >>> scale.shape
    (8, 1, 32)
    """

    def __init__(self, dim, names=("condition",), **kwargs):
        super().__init__(**kwargs)
        self.projections = [
            unbuilt_dense(6 * dim, kernel_initializer="zeros", dtype=self.dtype_policy, name=n) for n in self.names
        ]

    def build(self, shapes):
        for projection, shape in zip(self.projections, shapes, strict=True):
            projection.build(shape)

    def call(self, conditions):
        total = sum(projection(condition) for projection, condition in zip(self.projections, conditions, strict=True))
        return ops.split(total[:, None], 6, axis=-1)

    def compute_output_shape(self, shapes):
        return [(shapes[0][0], 1, self.dim)] * 6


def modulate(x, scale, shift):
    """x·(1 + scale) + shift.

    Args:
        x: tokens `(B, N, C)`.
        scale: `(B, 1, C)`.
        shift: `(B, 1, C)`.

    Returns:
        `(B, N, C)`.
    """
    return x * (1.0 + scale) + shift
