"""The block of diffusion transformers: attention and feed-forward, steered by the condition through AdaLN-Zero.

    x ← x + g₂·attention(norm(x)·(1 + s₂) + b₂)
    x ← x + g₁·W₂·gelu(W₁·(norm(x)·(1 + s₁) + b₁))          (s, b, g) from the condition: see `layers.modulation`

norm is a LayerNorm without weights of its own: scale and shift come from the condition.

Reference: Peebles & Xie, "Scalable diffusion models with transformers", arXiv:2212.09748, section 3.2.
"""

import keras
from keras import ops

from keras_diffusion.configs.registry import serializable
from keras_diffusion.layers.activations import gelu_tanh
from keras_diffusion.layers.layer import built
from keras_diffusion.layers.modulation import AdaLNParams, modulate
from keras_diffusion.layers.perturbation import is_perturbed
from keras_diffusion.layers.sequence_attention import SequenceAttention
from keras_diffusion.layers.sequence_block import SequenceBlock


@serializable
class DiTBlock(SequenceBlock):
    """Self-attention and feed-forward on tokens, with AdaLN-Zero.

    Args:
        num_heads: attention heads. Default 4.
        head_dim: channels per head; None (default) for the channels divided by `num_heads`, rounded down.
        mlp_ratio: width of the feed-forward step, in channels of the tokens. Default 4.
        rotary: whether queries and keys are turned by their place. Default True.
        conditions: names of the condition vectors. Default ("condition",).
        norm_epsilon: added to the variance. Default 1e-5.
        parallel: whether the feed-forward branch sees the block's input instead of what attention made of it, with its
            scale and shift clipped to ±10 (as FlaxDiff's MMDiT does). Default False.
        flash_attention: None (default: use a fused kernel where Keras finds one), True (fail without one), or False.
        dropout: share of each branch's output that training sets to 0, in [0, 1). Default 0.
        remat: whether training computes the block again on the way back, instead of remembering it. Default False.
        seed: int or None; of dropout.

    Call arguments:
        x: tokens `(B, N, C)`.
        conditions: list of tensors `(B, E)`, as many as `conditions` names.
        training: whether dropout drops.

    Returns:
        `(B, N, C)`.

    Raises:
        ValueError: `dropout` outside [0, 1).

    Example:

    >>> DiTBlock()(keras.ops.ones((8, 16, 32)), [keras.ops.ones((8, 64))]).shape
    (8, 16, 32)
    """

    def __init__(
        self,
        num_heads=4,
        head_dim=None,
        mlp_ratio=4,
        rotary=True,
        conditions=("condition",),
        norm_epsilon=1e-5,
        parallel=False,
        flash_attention=None,
        **kwargs,
    ):
        super().__init__(**kwargs)

    def build(self, x_shape, conditions_shape):
        channels = x_shape[-1]
        hidden = int(channels * self.mlp_ratio)
        ada_ln = AdaLNParams(channels, self.conditions, name="ada_ln", dtype=self.dtype_policy)
        self.ada_ln = built(ada_ln, conditions_shape)
        options = {"epsilon": self.norm_epsilon, "center": False, "scale": False, "dtype": self.dtype_policy}
        self.norm = built(keras.layers.LayerNormalization(name="norm", **options), x_shape)
        self.mixer = self._mixer(x_shape)
        self.mlp1 = self._dense(hidden, channels, "mlp1", activation=gelu_tanh)
        self.mlp2 = self._dense(channels, hidden, "mlp2")

    def _mixer(self, x_shape):
        """The layer that lets tokens see each other."""
        options = {"rotary": self.rotary, "flash_attention": self.flash_attention, "dtype": self.dtype_policy}
        return built(SequenceAttention(self.num_heads, self.head_dim, name="attention", **options), x_shape)

    def _mix(self, x):
        """What the tokens tell each other; what `step` receives beyond the conditions comes here."""
        return self.mixer(x, identity=is_perturbed(self.name))

    def call(self, x, conditions, training=False):
        return self.run(x, *conditions, training=training)

    def step(self, x, first, second, *others):
        conditions, others = others[: len(self.conditions)], others[len(self.conditions) :]
        scale_mlp, shift_mlp, gate_mlp, scale, shift, gate = self.ada_ln(list(conditions))
        normalized = self.norm(x)
        x = x + gate * first * self._mix(modulate(normalized, scale, shift), *others)
        if self.parallel:
            scale_mlp, shift_mlp = ops.clip(scale_mlp, -10.0, 10.0), ops.clip(shift_mlp, -10.0, 10.0)
        else:
            normalized = self.norm(x)
        return x + gate_mlp * second * self.mlp2(self.mlp1(modulate(normalized, scale_mlp, shift_mlp)))
