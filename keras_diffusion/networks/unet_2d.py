"""The U-Net of diffusers' UNet2DModel: that of DDPM, and that of ADM ("Diffusion models beat GANs").

    x ─ conv ─┬─ level 0: (block, attention?) × n ─┬─ skips ─ (concat, block, attention?) × (n + 1) ─ norm, act, conv ─
    out
              │      downsample                    │              upsample
              │  level 1: …                        │              …
              └─ middle: block, attention, block ──┘

The output of every block, of the first convolution and of every downsampling is handed across. A level is of a type, in
diffusers' words, on the way down and on the way up:

    DownBlock2D, UpBlock2D                            blocks;             a convolution halves or doubles the size
    AttnDownBlock2D, AttnUpBlock2D                    blocks, attention;  a convolution or block, see `downsample_type`
    ResnetDownsampleBlock2D, ResnetUpsampleBlock2D    blocks;             a residual block

A network with a learned variance has twice the channels in its output: the prediction first, then what interpolates the
logarithm of the variance. Predictors look at the first half alone.

References: Ho et al., "Denoising diffusion probabilistic models", arXiv:2006.11239, appendix B; Dhariwal & Nichol,
arXiv:2105.05233, section 3; the types of levels: diffusers, models/unets/unet_2d_blocks.py.
"""

from keras import ops

from keras_diffusion.configs.checks import check_choice
from keras_diffusion.layers import AttentionBlock, FourierEmbedding
from keras_diffusion.layers.options import get_activation
from keras_diffusion.networks.network import NETWORKS, check_positive_int, sinusoidal_embedding
from keras_diffusion.networks.unet_levels import LevelUNet

# Type of a level: (whether it has attention, what changes the size; None: what `downsample_type` or `upsample_type`
# says).
DOWN_TYPES = {
    "DownBlock2D": (False, "conv"),
    "AttnDownBlock2D": (True, None),
    "ResnetDownsampleBlock2D": (False, "resnet"),
}
UP_TYPES = {"UpBlock2D": (False, "conv"), "AttnUpBlock2D": (True, None), "ResnetUpsampleBlock2D": (False, "resnet")}
_FOURIER_SCALE = 16.0


@NETWORKS.register("unet_2d")
class UNet2D(LevelUNet):
    """U-Net for images with optional class labels, for timesteps (or, with Fourier features, σ) as the noise level.

    Use it with a predictor that tells it timesteps: `EpsilonPredictor(condition="timestep")`.

    Args:
        input_shape: `(H, W, C)` of the samples that `generate` makes; any size runs whose axes are multiples of
            2^(levels − 1). None where any size goes. Default (None, None, 3).
        widths: channels of each level, finest first. Default (224, 448, 672, 896).
        down_types: types of the levels on the way down, finest first; None (default): "DownBlock2D", then
            "AttnDownBlock2D" each.
        up_types: types of the levels on the way up, coarsest first; None (default): the mirror image of `down_types`.
        num_res_blocks: blocks n per level on the way down; n + 1 on the way up. Default 2.
        head_dim: channels per head of attention; None for one head. Default 8.
        num_heads: number of heads at every level, instead of `head_dim`. Default None.
        middle: "attention" (default), "blocks" (two blocks without attention) or None for no middle.
        middle_norm: whether attention in the middle normalizes its input. Default True; diffusers' networks with
            "scale_shift" do not.
        middle_norm_groups: groups of that norm; None (default): `norm_groups`.
        middle_scale: divides the sums in the middle. Default 1.
        num_classes: number of classes, or None (default) for a network without labels.
        null_class: whether label `num_classes` means "no class". Default True.
        out_channels: channels of the output; None (default) for as many as the input, 2·C with a learned variance.
        time_injection: "add" (default) or "scale_shift"; see `ResidualBlock`.
        time_embedding: "sinusoidal" (default), or "fourier": Gaussian frequencies of log σ, and the output divided by
            σ.
        time_dim: size of the condition vector; None (default): 4·widths[0].
        time_features: size of the sinusoidal embedding; None (default): widths[0].
        time_scale: factor on the timestep in it. Default 1; 1000/T in networks that see all numbers of timesteps as 0 …
            1000.
        cos_first: whether the cosines of the sinusoidal embedding come first. Default True.
        freq_shift: its frequencies are 10000^(−k/(half − freq_shift)). Default 0; 1 in the DDPM networks.
        downsample_type, upsample_type: "conv" (default) or "resnet", in levels with attention.
        symmetric: whether strided convolutions pad both sides (default) or the end alone, as in the DDPM networks; see
            `Downsample`.
        center_input: whether the network sees 2x − 1: for images in [0, 1]. Default False.
        norm_groups: groups of the group norms. Default 32; the greatest common divisor with a width is taken.
        norm_epsilon: default 1e-5.
        activation: default "swish".
        dropout: of blocks, in [0, 1). Default 0.
        flash_attention: None (default: where Keras finds a fused kernel), True or False.
        concat_channels: channels of "concat", what is known beside x; 0 (default) for a network without. The first
            layer sees C + concat_channels channels, the output has those of x.
        seed: int or None; of dropout.

    Call arguments:
        inputs: dict: "x" `(B, H, W, C)`, "noise_level" `(B,)`, "labels" `(B,)` with `num_classes`, "concat"
            `(B, H, W, concat_channels)` with `concat_channels`.

    Returns:
        `(B, H, W, out_channels)`, float32 under mixed precision.

    Raises:
        ValueError: unknown types, as many as there are not levels; a size that the levels do not divide; heads that do
            not divide a width.

    Example:

    >>> network = UNet2D((32, 32, 3), widths=(32, 64), num_res_blocks=1)
    >>> network({"x": keras.ops.ones((2, 32, 32, 3)), "noise_level": keras.ops.array([0.0, 999.0])}).shape
    (2, 32, 32, 3)

    Reference:
        Ho et al. 2020, arXiv:2006.11239, appendix B; Dhariwal & Nichol 2021, arXiv:2105.05233, section 3; diffusers'
        `UNet2DModel`.
    """

    any_size = True

    def __init__(
        self,
        input_shape=(None, None, 3),
        widths=(224, 448, 672, 896),
        down_types=None,
        up_types=None,
        num_res_blocks=2,
        head_dim=8,
        num_heads=None,
        middle="attention",
        middle_norm=True,
        middle_norm_groups=None,
        middle_scale=1.0,
        num_classes=None,
        null_class=True,
        out_channels=None,
        time_injection="add",
        time_embedding="sinusoidal",
        time_dim=None,
        time_features=None,
        time_scale=1.0,
        cos_first=True,
        freq_shift=0,
        downsample_type="conv",
        upsample_type="conv",
        symmetric=True,
        center_input=False,
        norm_groups=32,
        norm_epsilon=1e-5,
        activation="swish",
        dropout=0.0,
        flash_attention=None,
        seed=None,
        concat_channels=0,
        name="unet_2d",
        trainable=True,
        dtype=None,
    ):
        self.check_levels()
        levels = len(widths)
        check_positive_int(num_res_blocks=num_res_blocks, norm_groups=norm_groups)
        check_choice("middle", middle, ("attention", "blocks", None))
        check_choice("time_embedding", time_embedding, ("sinusoidal", "fourier"))
        self.down_types, self.up_types = complete_types(down_types, up_types, levels)
        check_choice("downsample_type", downsample_type, ("conv", "resnet"))
        check_choice("upsample_type", upsample_type, ("conv", "resnet"))
        self.activation = get_activation(activation)
        super().__init__(name, trainable, dtype)

    def graph(self, inputs):
        output = super().graph(inputs)
        if self.time_embedding == "fourier":
            output = output / ops.reshape(inputs["noise_level"], (-1, 1, 1, 1))
        return output

    def embed(self, inputs):
        if self.time_embedding == "fourier":
            embedding = FourierEmbedding(2 * self.widths[0], scale=_FOURIER_SCALE, log=True, name="time_embedding")
        else:
            features = self.time_features or self.widths[0]
            embedding = sinusoidal_embedding(features, self.freq_shift, self.cos_first, self.time_scale)
        dim = self.time_dim or 4 * self.widths[0]
        embedding = self.embed_in_two_steps(embedding(inputs["noise_level"]), dim)
        return self.activated(self.add_label(embedding, inputs), self.activation)

    def block(self, h, way, i, j, given):
        h = self.residual(h, i, f"{way}_{i}_{j}", given)
        return self._attend(h, f"{way}_{i}_{j}") if self._kind(way, i)[0] else h

    def _middle(self, h, given):
        if self.middle is None:
            return h
        h = self.residual(h, -1, "middle_0", given, output_scale=self.middle_scale)
        if self.middle == "attention":
            options = {"norm": "group" if self.middle_norm else None, "output_scale": self.middle_scale}
            h = self._attend(h, "middle", norm_groups=self.middle_norm_groups or self.norm_groups, **options)
        return self.residual(h, -1, "middle_1", given, output_scale=self.middle_scale)

    def downsample(self, h, i, given):
        if (self._kind("down", i)[1] or self.downsample_type) == "conv":
            return super().downsample(h, i, given)
        return self.residual(h, i, f"down_{i}_downsample", given, resample="down")

    def upsample(self, h, i, given):
        if (self._kind("up", i)[1] or self.upsample_type) == "conv":
            return super().upsample(h, i, given)
        return self.residual(h, i, f"up_{i}_upsample", given, resample="up")

    def last(self, h):
        return self.finish(h, ("group", self.norm_groups, self.norm_epsilon), "swish")

    def _kind(self, way, i):
        """What the type of a level says: whether it has attention, and what changes the size."""
        return DOWN_TYPES[self.down_types[i]] if way == "down" else UP_TYPES[self.up_types[-1 - i]]

    def _attend(self, h, name, **options):
        heads = {"num_heads": self.num_heads} if self.num_heads else {"head_dim": self.head_dim or h.shape[-1]}
        options = self.passed("norm_groups", "norm_epsilon", "flash_attention", **heads) | options
        return AttentionBlock(name=f"{name}_attention", **options)(h)


def complete_types(down_types, up_types, levels):
    """Types of the levels on both ways, checked; see `UNet2D`."""
    if down_types is None:
        down_types = ["DownBlock2D"] + ["AttnDownBlock2D"] * (levels - 1)
    for kind in down_types:
        check_choice("down_types[i]", kind, tuple(DOWN_TYPES))
    if up_types is None:
        mirror = dict(zip(DOWN_TYPES, UP_TYPES))
        up_types = [mirror[kind] for kind in reversed(down_types)]
    for kind in up_types:
        check_choice("up_types[i]", kind, tuple(UP_TYPES))
    for key, value in (("down_types", down_types), ("up_types", up_types)):
        if len(value) != levels:
            raise ValueError(
                f"`{key}` needs one entry per level, as many as `widths` ({levels}). Received: {key}={value}"
            )
    return tuple(down_types), tuple(up_types)
