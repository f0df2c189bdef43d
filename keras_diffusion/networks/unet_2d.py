"""The U-Net of diffusers' UNet2DModel: that of DDPM, and that of ADM ("Diffusion models beat GANs").

    x ─ conv ─┬─ level 0: (block, attention?) × n ─┬─ skips ─ (concat, block, attention?) × (n + 1) ─ norm, act, conv ─
    out
              │      downsample                    │              upsample
              │  level 1: …                        │              …
              └─ middle: block, attention, block ──┘

The output of every block, of the first convolution and of every downsampling is handed across. A level is of a type, in
diffusers' words, on the way down and on the way up:

    DownBlock2D, UpBlock2D                            blocks;             a convolution halves or doubles the size
    AttnDownBlock2D, AttnUpBlock2D                    blocks, attention;  a convolution or a residual block, as `downsample_type` says
    ResnetDownsampleBlock2D, ResnetUpsampleBlock2D    blocks;             a residual block

A network with a learned variance has twice the channels in its output: the prediction first, then what interpolates the
logarithm of the variance. Predictors look at the first half alone.

References: Ho et al., "Denoising diffusion probabilistic models", arXiv:2006.11239, appendix B; Dhariwal & Nichol,
arXiv:2105.05233, section 3; the types of levels: diffusers, models/unets/unet_2d_blocks.py.
"""

import keras
from keras import ops

from keras_diffusion.configs.checks import check_choice
from keras_diffusion.layers import (
    AttentionBlock,
    Downsample,
    FourierEmbedding,
    LabelEmbedding,
    ResidualBlock,
    SinusoidalEmbedding,
    Upsample,
)
from keras_diffusion.layers.options import activation_config, convolution, get_activation, normalization, unbuilt_dense
from keras_diffusion.networks.network import (
    Network,
    check_positive_int,
    check_size,
    condition_inputs,
    networks,
    seen,
    wide_dtype,
)

# Type of a level: (whether it has attention, what changes the size; None: what `downsample_type` or `upsample_type`
# says).
DOWN_TYPES = {
    "DownBlock2D": (False, "conv"),
    "AttnDownBlock2D": (True, None),
    "ResnetDownsampleBlock2D": (False, "resnet"),
}
UP_TYPES = {"UpBlock2D": (False, "conv"), "AttnUpBlock2D": (True, None), "ResnetUpsampleBlock2D": (False, "resnet")}
_FOURIER_SCALE = 16.0


@networks.register("unet_2d")
class UNet2D(Network):
    """U-Net for images with optional class labels, for timesteps (or, with Fourier features, σ) as the noise level.

    Use it with a predictor that tells it timesteps: `EpsilonPredictor(condition="timestep")`.

    Args:
        input_shape: `(H, W, C)` of the samples that `generate` makes; any size runs whose axes are multiples of
            2^(levels − 1). None: not told. Default (None, None, 3).
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
        policy = keras.dtype_policies.get(dtype)
        if len(input_shape) != 3:
            raise ValueError(
                f"UNet2D takes images: `input_shape` must be (H, W, C). Received: input_shape={tuple(input_shape)}"
            )
        levels, channels = len(widths), input_shape[-1]
        check_positive_int(channels=channels, levels=levels, num_res_blocks=num_res_blocks, norm_groups=norm_groups)
        check_positive_int(**{f"widths[{i}]": width for i, width in enumerate(widths)})
        check_size(input_shape[:-1], 2 ** (levels - 1))
        check_choice("middle", middle, ("attention", "blocks", None))
        check_choice("time_embedding", time_embedding, ("sinusoidal", "fourier"))
        down_types, up_types = complete_types(down_types, up_types, levels)
        for key, value in (("downsample_type", downsample_type), ("upsample_type", upsample_type)):
            check_choice(key, value, ("conv", "resnet"))
        act, dim = get_activation(activation), time_dim or 4 * widths[0]
        norm = {"norm_groups": norm_groups, "norm_epsilon": norm_epsilon, "dtype": policy}
        inputs = condition_inputs((None, None, channels), num_classes, None, policy, concat_channels)
        wide = wide_dtype(policy)

        if time_embedding == "fourier":
            embedding = FourierEmbedding(2 * widths[0], scale=_FOURIER_SCALE, log=True, name="time_embedding")(
                inputs["noise_level"]
            )
        else:
            features = time_features or widths[0]
            embedding = sinusoidal_embedding(features, freq_shift, cos_first, time_scale)(inputs["noise_level"])
        embedding = unbuilt_dense(dim, activation="swish", name="time_dense1", dtype=wide)(embedding)
        embedding = unbuilt_dense(dim, name="time_dense2", dtype=wide)(embedding)
        if num_classes is not None:
            label = LabelEmbedding(num_classes, dim, null_class, name="label_embedding", dtype=wide)(inputs["labels"])
            embedding = keras.layers.Add(name="time_and_label", dtype=wide)([embedding, label])
        embedding = keras.layers.Activation(act, name="act_embedding", dtype=wide)(embedding)

        def residual(h, width, name, **options):
            options = {
                "activation": act,
                "time_injection": time_injection,
                "dropout": dropout,
                "seed": seed,
                **norm,
                **options,
            }
            return ResidualBlock(width, name=f"{name}_residual", **options)(h, embedding)

        def attend(h, name, **options):
            heads = {"head_dim": head_dim or h.shape[-1]} if num_heads is None else {"num_heads": num_heads}
            options = {**heads, "flash_attention": flash_attention, **norm, **options}
            return AttentionBlock(name=f"{name}_attention", **options)(h)

        h = seen(inputs, policy)
        if center_input:
            h = keras.layers.Rescaling(2.0, -1.0, name="center", dtype=wide)(h)
        h = convolution(2, widths[0], 3, name="conv_in", dtype=policy)(h)
        skips = [h]
        for i, (width, kind) in enumerate(zip(widths, down_types)):
            has_attention, resampling = DOWN_TYPES[kind]
            for j in range(num_res_blocks):
                h = residual(h, width, f"down_{i}_{j}")
                h = attend(h, f"down_{i}_{j}") if has_attention else h
                skips.append(h)
            if i < levels - 1:
                if (resampling or downsample_type) == "conv":
                    h = Downsample(width, symmetric=symmetric, name=f"down_{i}_downsample", dtype=policy)(h)
                else:
                    h = residual(h, width, f"down_{i}_downsample", resample="down")
                skips.append(h)

        if middle is not None:
            h = residual(h, widths[-1], "middle_0", output_scale=middle_scale)
            if middle == "attention":
                groups = middle_norm_groups or norm_groups
                options = {
                    "norm": "group" if middle_norm else None,
                    "norm_groups": groups,
                    "output_scale": middle_scale,
                }
                h = attend(h, "middle", **options)
            h = residual(h, widths[-1], "middle_1", output_scale=middle_scale)

        for i, (width, kind) in zip(reversed(range(levels)), zip(reversed(widths), up_types)):
            has_attention, resampling = UP_TYPES[kind]
            for j in range(num_res_blocks + 1):
                h = keras.layers.Concatenate(name=f"up_{i}_{j}_concat", dtype=policy)([h, skips.pop()])
                h = residual(h, width, f"up_{i}_{j}")
                h = attend(h, f"up_{i}_{j}") if has_attention else h
            if i > 0:
                if (resampling or upsample_type) == "conv":
                    h = Upsample(width, name=f"up_{i}_upsample", dtype=policy)(h)
                else:
                    h = residual(h, width, f"up_{i}_upsample", resample="up")

        h = normalization("group", widths[0], norm_groups, norm_epsilon, "norm_out", policy)(h)
        h = keras.layers.Activation("swish", name="act_out", dtype=policy)(h)
        filters = channels if out_channels is None else out_channels
        # In float32 under mixed precision too: sampling adds up many outputs, and 8 bits would show.
        output = convolution(2, filters, 3, kernel_initializer="zeros", name="conv_out", dtype=wide)(h)
        if time_embedding == "fourier":
            output = output / ops.reshape(inputs["noise_level"], (-1, 1, 1, 1))

        arguments = {
            "input_shape": list(input_shape),
            "widths": list(widths),
            "down_types": list(down_types),
            "up_types": list(up_types),
            "num_res_blocks": num_res_blocks,
            "head_dim": head_dim,
            "num_heads": num_heads,
            "middle": middle,
            "middle_norm": middle_norm,
            "middle_norm_groups": middle_norm_groups,
            "middle_scale": middle_scale,
            "num_classes": num_classes,
            "null_class": null_class,
            "out_channels": out_channels,
            "time_injection": time_injection,
            "time_embedding": time_embedding,
            "time_dim": time_dim,
            "time_features": time_features,
            "time_scale": time_scale,
            "cos_first": cos_first,
            "freq_shift": freq_shift,
            "downsample_type": downsample_type,
            "upsample_type": upsample_type,
            "symmetric": symmetric,
            "center_input": center_input,
            "norm_groups": norm_groups,
            "norm_epsilon": norm_epsilon,
            "activation": activation_config(act),
            "dropout": dropout,
            "flash_attention": flash_attention,
            "seed": seed,
            "concat_channels": concat_channels,
        }
        super().__init__((inputs, output), arguments, policy, name=name, trainable=trainable)
        self.size_multiple = 2 ** (levels - 1)
        if not null_class:
            self.null_labels = None


def sinusoidal_embedding(dim, freq_shift, cos_first, scale=1.0):
    """`SinusoidalEmbedding` with frequencies scale·10000^(−k/(dim/2 − freq_shift))."""
    half = dim // 2
    if not half > freq_shift:
        raise ValueError(
            f"An embedding of {dim} numbers has {half} frequencies, more than `freq_shift`. Received: "
            f"freq_shift={freq_shift}"
        )
    period = 10000.0 ** (half / (half - freq_shift))
    return SinusoidalEmbedding(dim, period, scale=scale, cos_first=cos_first, name="time_embedding")


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
