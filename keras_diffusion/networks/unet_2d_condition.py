"""Stable Diffusion's U-Net: the denoiser of latents that a text steers.

    x ─ conv ─┬─ level 0: (block, transformer) × n ─┬─ skips ─ (concat, block, transformer) × (n + 1) ─ norm, act, conv
    ─ out
              │      downsample                     │              upsample
              │  level 1: (block, transformer) × n ─┼─ skips ─ (concat, block, transformer) × (n + 1)
              │      …                              │              …
              │  last level: block × n ─────────────┴─ skips ─ (concat, block) × (n + 1)
              └─ middle: block, transformer, block ────────────────┘

The noise level is a timestep, as cosines and sines; the text enters by cross-attention in every transformer. Unlike in
`UNet`, the output of every block, of the first convolution and of every downsampling is handed across, and blocks
change the number of channels.

It holds the U-Nets of Stable Diffusion 1 (8 heads at every level, context of 768 channels) and 2 (heads of 64 channels,
context of 1024), and those made of them that see more than they denoise: inpainting (5 channels beside x: a mask and
the masked image's latent), InstructPix2Pix (4: an image's latent), depth to image (1), upscaling (3: the small image).

Reference: Rombach et al., "High-resolution image synthesis with latent diffusion models", arXiv:2112.10752.
"""

from keras_diffusion.layers import SpatialTransformer
from keras_diffusion.layers.options import get_activation
from keras_diffusion.networks.network import NETWORKS, check_positive_int
from keras_diffusion.networks.unet_levels import TextUNet


@NETWORKS.register("unet_2d_condition")
class UNet2DCondition(TextUNet):
    """U-Net with a text condition, as in Stable Diffusion 1 and 2.

    Args:
        input_shape: `(H, W, C)`; H and W multiples of 2^(levels − 1), or None (default) for any such size. Default
            (None, None, 4).
        widths: channels of each level, finest first. Default (320, 640, 1280, 1280).
        num_res_blocks: blocks n per level on the way down, one number or one per level; n + 1 on the way up. Default 2.
        attention: whether a level has transformers, one entry per level; None (default): all but the last. The middle
            always has one.
        context_dim: size of the context's vectors. Default 768.
        num_heads: number of attention heads, one for all levels or one per level. Default 8.
        head_dim: channels per head, instead of `num_heads`. Default None.
        transformer_depth: blocks per transformer, one number or one per level; the middle has the last. Default 1.
        out_channels: channels of the output; None (default) for as many as the input.
        norm_groups: groups of the group norms. Default 32; the greatest common divisor with a width is taken.
        norm_epsilon: of the group norms of blocks and of the output. Default 1e-5.
        transformer_norm_epsilon: of the group norms of transformers. Default 1e-6; KerasCV has 1e-5.
        activation: of blocks and of the embedding. Default "swish".
        feed_forward_activation: of the gates in transformers. Default "gelu"; KerasCV has "gelu_tanh".
        flash_attention: None (default: where Keras finds a fused kernel), True or False.
        num_classes: number of classes (or of noise levels of an upscaler), or None (default) for a network without
            labels.
        null_class: whether label `num_classes` means "no class". Default True.
        time_injection: "add" (default) or "scale_shift"; see `ResidualBlock`.
        time_dim: size of the condition vector; None (default): 4·widths[0].
        cos_first: whether the cosines of the timestep's embedding come first. Default True.
        freq_shift: its frequencies are 10000^(−k/(half − freq_shift)). Default 0.
        symmetric: whether strided convolutions pad both sides (default) or the end alone; see `Downsample`.
        center_input: whether the network sees 2x − 1. Default False.
        dropout: of blocks, in [0, 1). Default 0.
        concat_channels: channels of "concat", what is known beside x; 0 (default) for a network without. The first
            layer sees C + concat_channels channels, the output has those of x.
        seed: int or None; of dropout.

    Call arguments:
        inputs: dict: "x" `(B, H, W, C)`, "noise_level" `(B,)`, timesteps 0 … 999, "context" `(B, M, context_dim)`,
            "labels" `(B,)` with `num_classes`, and "concat" `(B, H, W, concat_channels)` with `concat_channels`.

    Returns:
        `(B, H, W, out_channels)`, float32 under mixed precision.

    Raises:
        ValueError: a size that the levels do not divide; heads that do not divide a width; a list of another length
            than `widths`.

    Example:

    >>> network = UNet2DCondition(widths=(32, 64), num_heads=2, context_dim=16)
    >>> x, context = keras.ops.ones((2, 8, 12, 4)), keras.ops.ones((2, 77, 16))
    >>> network({"x": x, "noise_level": keras.ops.array([0.0, 999.0]), "context": context}).shape
    (2, 8, 12, 4)

    Reference:
        Rombach et al. 2022, arXiv:2112.10752; diffusers' `UNet2DConditionModel`.
    """

    def __init__(
        self,
        input_shape=(None, None, 4),
        widths=(320, 640, 1280, 1280),
        num_res_blocks=2,
        attention=None,
        context_dim=768,
        num_heads=8,
        head_dim=None,
        transformer_depth=1,
        out_channels=None,
        norm_groups=32,
        norm_epsilon=1e-5,
        transformer_norm_epsilon=1e-6,
        activation="swish",
        feed_forward_activation="gelu",
        flash_attention=None,
        num_classes=None,
        null_class=True,
        time_injection="add",
        time_dim=None,
        cos_first=True,
        freq_shift=0,
        symmetric=True,
        center_input=False,
        dropout=0.0,
        seed=None,
        concat_channels=0,
        name="unet_2d_condition",
        trainable=True,
        dtype=None,
    ):
        self.check_levels()
        check_positive_int(norm_groups=norm_groups, context_dim=context_dim)
        self.check_text_levels()
        self.activation = get_activation(activation)
        super().__init__(name, trainable, dtype)

    def transform(self, h, level, name, given):
        heads = self._heads[level]
        options = {"activation": self.feed_forward_activation, "norm_epsilon": self.transformer_norm_epsilon}
        options = self.passed("norm_groups", "flash_attention", depth=self._depths[level], **options)
        layer = SpatialTransformer(heads, self.widths[level] // heads, name=f"{name}_transformer", **options)
        return layer(h, **self.context_of(given))
