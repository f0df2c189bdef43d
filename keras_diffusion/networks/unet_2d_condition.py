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

import keras

from keras_diffusion.layers import (
    Downsample,
    LabelEmbedding,
    ResidualBlock,
    SpatialTransformer,
    TimeProjection,
    Upsample,
)
from keras_diffusion.layers.options import activation_config, convolution, get_activation, normalization
from keras_diffusion.networks.network import (
    Network,
    check_positive_int,
    check_size,
    condition_inputs,
    networks,
    seen,
    wide_dtype,
)
from keras_diffusion.networks.unet_2d import sinusoidal_embedding


@networks.register("unet_2d_condition")
class UNet2DCondition(Network):
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
        policy = keras.dtype_policies.get(dtype)
        if len(input_shape) != 3:
            raise ValueError(
                f"UNet2DCondition takes images: `input_shape` must be (H, W, C). Received: "
                f"input_shape={tuple(input_shape)}"
            )
        levels, channels = len(widths), input_shape[-1]
        check_positive_int(channels=channels, levels=levels, norm_groups=norm_groups, context_dim=context_dim)
        blocks, depths = (
            per_level("num_res_blocks", num_res_blocks, levels),
            per_level("transformer_depth", transformer_depth, levels),
        )
        check_positive_int(**{f"widths[{i}]": width for i, width in enumerate(widths)})
        check_size(input_shape[:-1], 2 ** (levels - 1))
        act = get_activation(activation)
        attention = attention_per_level(attention, levels)
        heads = heads_per_level(widths, num_heads, head_dim)
        norm = {"norm_groups": norm_groups, "norm_epsilon": norm_epsilon, "dtype": policy}

        inputs = condition_inputs(input_shape, num_classes, context_dim, policy, concat_channels)
        wide, dim = wide_dtype(policy), time_dim or 4 * widths[0]
        embedding = sinusoidal_embedding(widths[0], freq_shift, cos_first)(inputs["noise_level"])
        # A label comes between the last dense layer and its activation.
        last = "linear" if num_classes is not None else None
        embedding = TimeProjection(dim, act, last_activation=last, name="time_projection", dtype=wide)(embedding)
        if num_classes is not None:
            label = LabelEmbedding(num_classes, dim, null_class, name="label_embedding", dtype=wide)(inputs["labels"])
            embedding = keras.layers.Add(name="time_and_label", dtype=wide)([embedding, label])
            embedding = keras.layers.Activation(act, name="act_embedding", dtype=wide)(embedding)

        def residual(h, level, name):
            options = {"activation": act, "time_injection": time_injection, "dropout": dropout, "seed": seed, **norm}
            return ResidualBlock(widths[level], name=f"{name}_residual", **options)(h, embedding)

        def transform(h, level, name):
            transformer = SpatialTransformer(
                heads[level],
                widths[level] // heads[level],
                depths[level],
                feed_forward_activation,
                norm_groups,
                transformer_norm_epsilon,
                flash_attention,
                name=f"{name}_transformer",
                dtype=policy,
            )
            return transformer(h, context=inputs["context"])

        h = seen(inputs, policy)
        if center_input:
            h = keras.layers.Rescaling(2.0, -1.0, name="center", dtype=wide)(h)
        h = convolution(2, widths[0], 3, name="conv_in", dtype=policy)(h)
        skips = [h]
        for i, width in enumerate(widths):
            for j in range(blocks[i]):
                h = residual(h, i, f"down_{i}_{j}")
                h = transform(h, i, f"down_{i}_{j}") if attention[i] else h
                skips.append(h)
            if i < levels - 1:
                h = Downsample(width, symmetric=symmetric, name=f"down_{i}_downsample", dtype=policy)(h)
                skips.append(h)

        h = residual(h, -1, "middle_0")
        h = transform(h, -1, "middle")
        h = residual(h, -1, "middle_1")

        for i, width in reversed(list(enumerate(widths))):
            for j in range(blocks[i] + 1):
                h = keras.layers.Concatenate(name=f"up_{i}_{j}_concat", dtype=policy)([h, skips.pop()])
                h = residual(h, i, f"up_{i}_{j}")
                h = transform(h, i, f"up_{i}_{j}") if attention[i] else h
            if i > 0:
                h = Upsample(width, name=f"up_{i}_upsample", dtype=policy)(h)

        h = normalization("group", widths[0], norm_groups, norm_epsilon, "norm_out", policy)(h)
        h = keras.layers.Activation(act, name="act_out", dtype=policy)(h)
        filters = channels if out_channels is None else out_channels
        # In float32 under mixed precision too: sampling adds up many outputs, and 8 bits would show.
        output = convolution(2, filters, 3, kernel_initializer="zeros", name="conv_out", dtype=wide)(h)

        arguments = {
            "input_shape": list(input_shape),
            "widths": list(widths),
            "num_res_blocks": plain(num_res_blocks),
            "attention": attention,
            "context_dim": context_dim,
            "num_heads": plain(num_heads),
            "head_dim": head_dim,
            "transformer_depth": plain(transformer_depth),
            "out_channels": out_channels,
            "norm_groups": norm_groups,
            "norm_epsilon": norm_epsilon,
            "transformer_norm_epsilon": transformer_norm_epsilon,
            "activation": activation_config(act),
            "feed_forward_activation": feed_forward_activation,
            "flash_attention": flash_attention,
            "num_classes": num_classes,
            "null_class": null_class,
            "time_injection": time_injection,
            "time_dim": time_dim,
            "cos_first": cos_first,
            "freq_shift": freq_shift,
            "symmetric": symmetric,
            "center_input": center_input,
            "dropout": dropout,
            "seed": seed,
            "concat_channels": concat_channels,
        }
        super().__init__((inputs, output), arguments, policy, name=name, trainable=trainable)
        self.size_multiple = 2 ** (levels - 1)
        if not null_class:
            self.null_labels = None


def attention_per_level(attention, levels):
    """Whether each level has transformers; None: all but the last."""
    attention = [True] * (levels - 1) + [False] if attention is None else list(attention)
    _check_length("attention", attention, levels)
    return attention


def heads_per_level(widths, num_heads, head_dim):
    """Number of heads at each level."""
    if head_dim is not None:
        heads = [
            width // head_dim if isinstance(head_dim, int) and head_dim > 0 and width % head_dim == 0 else 0
            for width in widths
        ]
    else:
        heads = [num_heads] * len(widths) if isinstance(num_heads, int) else list(num_heads)
        _check_length("num_heads", heads, len(widths))
    if any(not isinstance(n, int) or n < 1 or width % n for width, n in zip(widths, heads)):
        raise ValueError(
            "Heads cut the channels of a level into equal parts, so their number, and the channels of each, must "
            "divide its width. "
            f"Received: widths={tuple(widths)}, num_heads={num_heads}, head_dim={head_dim}"
        )
    return heads


def plain(value):
    """One number, or a list of one per level, as `get_config` gives it."""
    return value if isinstance(value, int) else list(value)


def per_level(name, value, levels):
    """A list of one number per level, of one number or of such a list."""
    values = [value] * levels if isinstance(value, int) else list(value)
    _check_length(name, values, levels)
    check_positive_int(
        **{name if isinstance(value, int) else f"{name}[{i}]": number for i, number in enumerate(values)}
    )
    return values


def _check_length(name, values, levels):
    if len(values) != levels:
        raise ValueError(
            f"`{name}` needs one entry per level, as many as `widths` ({levels}). Received: {name}={values}"
        )
