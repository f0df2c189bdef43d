"""The U-Net: convolutions at several resolutions, with shortcuts from the way down to the way up.

    x ─ conv ─┬─ level 0: blocks ──┬───────────────────────────────── concat, blocks ─ up ─┬─ block ─ norm, act, conv
              │      downsample    └────────── skips ──────────────┘                       │
              │  level 1: blocks, attention ──── skips ──── concat, blocks, attention ─ up │
              │      downsample                                                            │
              │  level 2: … middle: block, attention, block …                              │
              └────────────────────────────────────────────────────────────────────────────┘

Fine levels see texture, coarse ones see the whole picture; attention, whose cost grows with the square of the number of
positions, runs at the coarse ones. Every block receives the condition vector (noise level, class); a context (text)
enters by cross-attention. The last convolution starts at 0: with v-prediction, the untrained network's error is then
the variance of the target and no more.

The resampling convolutions change the number of channels, so that blocks on the way down keep it and need no shortcut
of their own.

Reference: Ronneberger et al., "U-Net", arXiv:1505.04597; Ho et al., "Denoising diffusion probabilistic models",
arXiv:2006.11239.
"""

import warnings

from keras_diffusion.configs.checks import check_flag
from keras_diffusion.layers import AttentionBlock, Downsample, ResidualBlock, Upsample
from keras_diffusion.layers.options import check_norm, get_activation
from keras_diffusion.layers.residual_block import TIME_INJECTIONS
from keras_diffusion.networks.network import NETWORKS, check_positive_int
from keras_diffusion.networks.unet_levels import LevelUNet, paired_middle

_NORM_OPTIONS = ("norm", "norm_groups", "norm_epsilon", "zero_init")
_ATTENTION_OPTIONS = ("num_heads", "head_dim", "feed_forward", "flash_attention")


@NETWORKS.register("unet")
class UNet(LevelUNet):
    """U-Net for sequences (L, C) and images (H, W, C) of any number of channels.

    Args:
        input_shape: `(L, C)` or `(H, W, C)`. Each of L, H, W a multiple of 2^(levels − 1), or None for any such size.
        widths: channels of each level, finest first. Default (64, 128, 256, 512), a network for accelerators:
            `networks.unet_size` has widths by the name of a size, also for a CPU.
        num_res_blocks: residual blocks per level, on the way down and on the way up. Default 2.
        attention: where the last block of a level is followed by attention: "auto" (default: the coarser half of the
            levels, for four levels (False, False, True, True)), True, False, or one entry per level: True, False (or
            None), or a dict with options of that level: "num_heads", "head_dim", "feed_forward", "flash_attention". The
                middle does as the last level.
        num_classes: number of classes, or None (default) for a network without labels.
        context_dim: size of the context's vectors, or None (default). The context enters wherever there is attention.
        out_channels: channels of the output; None (default) for as many as the input.
        num_middle_res_blocks: pairs of blocks at the lowest resolution, ≥ 0. Default 1.
        norm: "group" (default) or "rms".
        norm_groups: groups of "group". Default 8; where it does not divide a width, their greatest common divisor is
            taken.
        norm_epsilon: added to the variance. Default 1e-5.
        activation: name or function. Default "swish".
        dropout: share of activations in the residual blocks that training sets to 0, in [0, 1). Default 0.
        time_embedding: "fourier" (default) or "sinusoidal".
        time_scale: scale of the embedding's frequencies; None (default) fits log(σ/α)/4: 1 for "fourier", 250 for
            "sinusoidal". Use "sinusoidal" with 1 for timesteps 0 … 999.
        embedding_dim: size of the condition vector, even; None (default) for 4 × the first width.
        time_injection: "scale_shift" (default) or "add" (as in FlaxDiff); see `ResidualBlock`.
        num_heads: attention heads; must divide the widths with attention. Default 4.
        head_dim: channels per head, instead of `num_heads`; None by default.
        feed_forward: whether a feed-forward step follows attention. Default False.
        flash_attention: None (default: where Keras finds a fused kernel), True or False.
        zero_init: whether the last layer of every residual branch starts at 0. Default True.
        concat_channels: channels of "concat", what is known beside x; 0 (default) for a network without. The first
            layer sees C + concat_channels channels, the output has those of x.
        augmentation_dim: length of the vectors that say how training pictures were changed, such as 9 for
            `data.NonLeaking`; None (default) for a network that is not told.
        pooled_context: whether the mean of the context's vectors also enters the condition vector, as in `DiT`, so that
            every block is told of the text, those of levels without attention too. Default False.
        seed: int or None; of dropout.

    Call arguments:
        inputs: dict: "x" `(B, *input_shape)`, "noise_level" `(B,)`, "labels" `(B,)` with `num_classes`, "context" `(B,
            M, D)` with `context_dim`, "concat" `(B, *input_shape[:-1], concat_channels)` with `concat_channels`,
            "augmentation" `(B, augmentation_dim)` with `augmentation_dim`.
        training: whether dropout drops.

    Returns:
        `(B, *input_shape[:-1], out_channels)`, float32 under mixed precision.

    Raises:
        ValueError: `input_shape` of another rank than 2 or 3, or of a size that the levels do not divide; `attention`
            of another length than `widths`; heads that do not divide a width; unknown norm, activation, time embedding
            or time injection; `dropout` outside [0, 1); `num_classes` < 1; a context and no attention for it, or
            `pooled_context` without one.

    Example:

    >>> network = UNet((8, 8, 1), widths=(16, 32), num_classes=10)
    >>> inputs = {"x": keras.ops.ones((4, 8, 8, 1)), "noise_level": keras.ops.zeros((4,))}
    >>> network({**inputs, "labels": keras.ops.zeros((4,), "int32")}).shape
    (4, 8, 8, 1)

    Reference:
        Ronneberger et al. 2015, arXiv:1505.04597 (the U); Ho et al. 2020, arXiv:2006.11239, appendix B (for diffusion);
        Dhariwal & Nichol 2021, arXiv:2105.05233 (attention at several resolutions, scale and shift).
    """

    def __init__(
        self,
        input_shape,
        widths=(64, 128, 256, 512),
        num_res_blocks=2,
        attention="auto",
        num_classes=None,
        context_dim=None,
        out_channels=None,
        num_middle_res_blocks=1,
        norm="group",
        norm_groups=8,
        norm_epsilon=1e-5,
        activation="swish",
        dropout=0.0,
        time_embedding="fourier",
        time_scale=None,
        embedding_dim=None,
        time_injection="scale_shift",
        num_heads=4,
        head_dim=None,
        feed_forward=False,
        flash_attention=None,
        zero_init=True,
        seed=None,
        concat_channels=0,
        augmentation_dim=None,
        pooled_context=False,
        name="unet",
        trainable=True,
        dtype=None,
    ):
        self._check_input_shape(input_shape)
        self.check_levels(rank=None)
        check_positive_int(num_res_blocks=num_res_blocks, norm_groups=norm_groups)
        check_norm(norm)

        self.activation = get_activation(activation)
        if time_injection not in TIME_INJECTIONS:
            raise ValueError(
                f"Unknown time injection: {time_injection!r}. Known ones: "
                f"{', '.join(TIME_INJECTIONS)}. Received: {time_injection=}"
            )
        defaults = {name: getattr(self, name) for name in _ATTENTION_OPTIONS}
        self._attention = _attention_per_level(attention, len(widths), defaults)
        if context_dim is not None and not any(self._attention):
            raise ValueError(
                "A context enters through attention, and this network has none. "
                f"Received: context_dim={context_dim}, attention={attention!r}"
            )
        if check_flag("pooled_context", pooled_context) and context_dim is None:
            raise ValueError(
                "`pooled_context` needs a context to pool: give `context_dim`, the size of its vectors. "
                "Received: pooled_context=True, context_dim=None"
            )
        super().__init__(name, trainable, dtype)

    def embed(self, inputs):
        return self.embed_conditions(inputs, self.embedding_dim or 4 * self.widths[0])

    def _down(self, h, skips, given):
        for i, width in enumerate(self.widths):
            if i > 0:
                h = Downsample(width, name=f"down_{i}_downsample", dtype=self.policy)(h)
            for j in range(self.num_res_blocks):
                h = self.block_of(h, width, f"down_{i}_residual_{j}", given)
                if j == self.num_res_blocks - 1:
                    h = self.attend(h, i, f"down_{i}_attention", given)
                skips.append(h)
        return h

    def _middle(self, h, given):
        return paired_middle(self, h, given)

    def _up(self, h, skips, given):
        for i, width in reversed(list(enumerate(self.widths))):
            for j in range(self.num_res_blocks):
                h = self.join(h, skips.pop(), f"up_{i}_concat_{j}")
                h = self.block_of(h, width, f"up_{i}_residual_{j}", given)
            h = self.attend(h, i, f"up_{i}_attention", given)
            if i > 0:
                h = Upsample(self.widths[i - 1], name=f"up_{i}_upsample", dtype=self.policy)(h)
        return self.block_of(self.join(h, skips.pop(), "final_concat"), self.widths[0], "final_residual", given)

    def last(self, h):
        return self.finish(h, (self.norm, self.norm_groups, self.norm_epsilon), self.activation)

    def block_of(self, h, width, name, given):
        """A residual block.

        Args:
            h: features `(None, ..., channels)`.
            width: channels of the output.
            name: of the layer.
            given: the dict of inputs and "embedding".

        Returns:
            features `(None, ..., width)`.
        """
        options = self.passed(*_NORM_OPTIONS, "activation", "time_injection", "dropout", "seed")
        return ResidualBlock(width, name=name, **options)(h, given["embedding"])

    def attend(self, h, level, name, given):
        """The attention of a level, where it has some.

        Args:
            h: features of the level.
            level: its number; −1 is the coarsest, the middle's.
            name: of the layer.
            given: the dict of inputs and "embedding"; attention sees its "context".

        Returns:
            features like `h`.
        """
        if self._attention[level] is None:
            return h
        context = self.context_of(given)
        options = {**self.passed(*_NORM_OPTIONS), **self._attention[level], "cross_attention": bool(context)}
        return AttentionBlock(name=name, **options)(h, **context)

    @staticmethod
    def _check_input_shape(input_shape):
        if len(input_shape) not in (2, 3):
            raise ValueError(
                "UNet takes sequences and images: `input_shape` must be (L, C) or (H, W, C), without the batch axis. "
                f"Received: input_shape={tuple(input_shape)}. Use MLP for vectors"
            )
        if len(input_shape) == 2 and input_shape[0] == input_shape[1]:
            warnings.warn(
                f"This UNet takes sequences of {input_shape[0]} positions with {input_shape[1]} channels. For images "
                f"without colours add the channel axis: (H, W, 1). Received: input_shape={tuple(input_shape)}",
                stacklevel=4,
            )


def _attention_per_level(attention, levels, defaults):
    """`attention` as one entry per level: None, or a dict of `AttentionBlock` options."""
    if attention == "auto":
        attention = [i >= levels // 2 for i in range(levels)]
    elif attention is None or isinstance(attention, bool):
        attention = [attention] * levels
    elif not isinstance(attention, (list, tuple)) or len(attention) != levels:
        raise ValueError(
            f"`attention` needs one entry per level, as many as `widths` ({levels}), or is 'auto', True or False. "
            f"Received: attention={attention!r}"
        )
    per_level = []
    for entry in attention:
        options = entry if isinstance(entry, dict) else {}
        unknown = sorted(set(options) - set(_ATTENTION_OPTIONS))
        if unknown or not (entry is None or isinstance(entry, (bool, dict))):
            raise ValueError(
                "An entry of `attention` is True, False, None, or a dict with some of "
                f"{', '.join(_ATTENTION_OPTIONS)}. Received: {entry!r}"
            )
        if entry is None or entry is False:
            per_level.append(None)
            continue
        merged = {**defaults, **options}
        if "num_heads" in options and "head_dim" not in options:
            merged["head_dim"] = None  # a level's own number of heads beats the network's head_dim
        per_level.append(merged)
    return per_level
