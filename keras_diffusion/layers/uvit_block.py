"""The block of U-ViT: attention and feed-forward without conditioning of its own; the conditions are tokens of the
sequence.

    x ← x + attention(norm₂(x))
    x ← x + W₂·(a·gelu(b)),   (a, b) = W₁·norm₃(x)          GEGLU: one half of the width opens the gate for the other

All norms are RMS norms. FlaxDiff has further options, which its old weights need: a norm and a projection before, a
projection after, a second attention (norm₁), and residuals that add up twice.

References: Bao et al., "All are worth words: a ViT backbone for diffusion models", arXiv:2209.12152; Shazeer, "GLU
variants improve transformer", arXiv:2002.05202.
"""

from keras import ops

from keras_diffusion.configs.registry import serializable
from keras_diffusion.layers.activations import gelu_tanh
from keras_diffusion.layers.layer import built
from keras_diffusion.layers.perturbation import is_perturbed
from keras_diffusion.layers.rms_normalization import RMSNormalization
from keras_diffusion.layers.sequence_attention import SequenceAttention
from keras_diffusion.layers.sequence_block import SequenceBlock


@serializable
class UViTBlock(SequenceBlock):
    """Self-attention and a gated feed-forward step on tokens.

    Args:
        num_heads: attention heads. Default 4.
        head_dim: channels per head; None (default) for the channels divided by `num_heads`, rounded down.
        double_attention: whether a further self-attention comes first. Default False.
        norm_inputs: whether the tokens are normalized when they enter, on the identity path too. Default False.
        use_projection: whether dense layers without bias are put before and behind. Default False.
        outer_residual: whether what enters is added once more at the end. Default False.
        raw_keys: whether the (second) attention takes keys and values from the tokens as they are before any norm and
            attention of the block, as FlaxDiff does. Default False.
        norm_epsilon: added to the mean square. Default 1e-5.
        flash_attention: None (default: use a fused kernel where Keras finds one), True (fail without one), or False.
        dropout: share of each branch's output that training sets to 0, in [0, 1). Default 0.
        remat: whether training computes the block again on the way back, instead of remembering it. Default False.
        seed: int or None; of dropout.

    Call arguments:
        x: tokens `(B, N, C)`, the last M of them a context.
        context_mask: booleans `(B, M)`, which of these are seen; None (default): all of them.
        training: whether dropout drops.

    Returns:
        `(B, N, C)`.

    Raises:
        ValueError: `dropout` outside [0, 1).

    Example:

    >>> UViTBlock()(keras.ops.ones((8, 16, 32))).shape
    (8, 16, 32)
    """

    def __init__(
        self,
        num_heads=4,
        head_dim=None,
        double_attention=False,
        norm_inputs=False,
        use_projection=False,
        outer_residual=False,
        raw_keys=False,
        norm_epsilon=1e-5,
        flash_attention=None,
        **kwargs,
    ):
        super().__init__(**kwargs)

    def build(self, x_shape):
        channels = x_shape[-1]
        self.norm_in = self._norm("norm_in", x_shape) if self.norm_inputs else None
        self.project_in = self._dense(channels, channels, "project_in", use_bias=False) if self.use_projection else None
        if self.double_attention:
            self.norm1 = self._norm("norm1", x_shape)
            self.attention1 = self._attention("attention1", x_shape)
        self.norm2 = self._norm("norm2", x_shape)
        self.attention2 = self._attention("attention2", x_shape)
        self.norm3 = self._norm("norm3", x_shape)
        self.feed_forward1 = self._dense(8 * channels, channels, "feed_forward1")
        self.feed_forward2 = self._dense(channels, 4 * channels, "feed_forward2")
        self.project_out = (
            self._dense(channels, channels, "project_out", use_bias=False) if self.use_projection else None
        )

    def call(self, x, context_mask=None, training=False):
        if context_mask is None:
            return self.run(x, training=training)
        before = ops.shape(x)[1] - ops.shape(context_mask)[1]
        seen = ops.pad(ops.cast(context_mask, "int32"), [(0, 0), (before, 0)], constant_values=1)
        return self.run(x, ops.cast(seen, "bool"), training=training)

    def step(self, x, first, second, *others):
        (seen,) = others or (None,)
        x = x if self.norm_in is None else self.norm_in(x)
        h = x if self.project_in is None else self.project_in(x)
        identity = is_perturbed(self.name)
        source = h if self.raw_keys else None
        if self.double_attention:
            h = h + first * self.attention1(self.norm1(h), context_mask=seen, identity=identity)
        h = h + first * self.attention2(self.norm2(h), context=source, context_mask=seen, identity=identity)
        linear, gate = ops.split(self.feed_forward1(self.norm3(h)), 2, axis=-1)
        h = h + second * self.feed_forward2(linear * gelu_tanh(gate))
        h = h if self.project_out is None else self.project_out(h)
        return x + h if self.outer_residual else h

    def _norm(self, name, shape):
        return built(RMSNormalization(epsilon=self.norm_epsilon, name=name, dtype=self.dtype_policy), shape)

    def _attention(self, name, shape):
        options = {"use_bias": False, "flash_attention": self.flash_attention, "dtype": self.dtype_policy}
        return built(SequenceAttention(self.num_heads, self.head_dim, name=name, **options), shape)
