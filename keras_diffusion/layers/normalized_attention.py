"""Self-attention that adds to the normalized input, as networks of the Keras example of DDPM do.

    n = norm(x),      out = n + W·softmax(q·kᵀ/√C)·v,      q, k, v from n

`AttentionBlock` adds to x itself and keeps the identity path whole; here what leaves the block has been normalized.
Weights trained one way do not work the other way, hence this layer for those networks.

Reference: A. K. Nain, "Denoising diffusion probabilistic model", a Keras example, keras.io/examples/generative/ddpm
(2022).
"""

from keras import ops

from keras_diffusion.configs.registry import serializable
from keras_diffusion.layers.attention_block import AttentionBlock
from keras_diffusion.layers.perturbation import is_perturbed


@serializable
class NormalizedAttention(AttentionBlock):
    """Self-attention with one head and the normalized input as its residual.

    Args:
        norm_groups: groups of the group normalization. Default 8.
        norm_epsilon: added to the variance. Default 1e-3, Keras's.
        zero_init: whether the last projection starts at 0. Default True.

    Call arguments:
        x: `(B, L, C)` or `(B, H, W, C)`.

    Returns:
        shaped like `x`.

    Example:

    >>> NormalizedAttention()(keras.ops.ones((8, 4, 6, 32))).shape
    (8, 4, 6, 32)
    """

    fixed_arguments = tuple(
        "num_heads head_dim cross_attention feed_forward norm activation flash_attention output_scale".split()
    )

    def __init__(self, norm_groups=8, norm_epsilon=1e-3, zero_init=True, **kwargs):
        super().__init__(num_heads=1, norm_groups=norm_groups, norm_epsilon=norm_epsilon, zero_init=zero_init, **kwargs)

    def build(self, x_shape):
        super().build(x_shape)

    def call(self, x):
        shape = ops.shape(x)
        tokens = self.norm1(ops.reshape(x, (shape[0], -1, shape[-1])))
        query, key, value = self._split(self.qkv(tokens), 3)
        attended = value if is_perturbed(self.name) else self._attend(query, key, value, self.path)
        return ops.reshape(tokens + self.out(self._merge(attended)), shape)
