"""Stable Diffusion's U-Net: the denoiser of latents that a text steers.

    x ─ conv ─┬─ level 0: (block, transformer) × n ─┬─ skips ─ (concat, block, transformer) × (n + 1) ─ norm, act, conv ─ out
              │      downsample                     │              upsample
              │  level 1: (block, transformer) × n ─┼─ skips ─ (concat, block, transformer) × (n + 1)
              │      …                              │              …
              │  last level: block × n ─────────────┴─ skips ─ (concat, block) × (n + 1)
              └─ middle: block, transformer, block ────────────────┘

The noise level is a timestep, as cosines and sines; the text enters by cross-attention in every transformer. Unlike in `UNet`, the output
of every block, of the first convolution and of every downsampling is handed across, and blocks change the number of channels.

It holds the U-Nets of Stable Diffusion 1 (8 heads at every level, context of 768 channels) and 2 (heads of 64 channels, context of 1024).

Reference: Rombach et al., "High-resolution image synthesis with latent diffusion models", arXiv:2112.10752.
"""

import keras

from keras_diffusion.layers import Downsample, ResidualBlock, SinusoidalEmbedding, SpatialTransformer, TimeProjection, Upsample
from keras_diffusion.layers.options import convolution, get_activation, normalization
from keras_diffusion.networks.network import Network, check_positive_int, check_size, condition_inputs, networks, wide_dtype


@networks.register("unet_2d_condition")
class UNet2DCondition(Network):
    """U-Net with a text condition, as in Stable Diffusion 1 and 2.

    Args:
        input_shape: `(H, W, C)`; H and W multiples of 2^(levels − 1), or None (default) for any such size. Default (None, None, 4).
        widths: channels of each level, finest first. Default (320, 640, 1280, 1280).
        num_res_blocks: blocks n per level on the way down; n + 1 on the way up. Default 2.
        attention: whether a level has transformers, one entry per level; None (default): all but the last. The middle always has one.
        context_dim: size of the context's vectors. Default 768.
        num_heads: number of attention heads, one for all levels or one per level. Default 8.
        head_dim: channels per head, instead of `num_heads`. Default None.
        transformer_depth: blocks per transformer. Default 1.
        out_channels: channels of the output; None (default) for as many as the input.
        norm_groups: groups of the group norms. Default 32; the greatest common divisor with a width is taken.
        norm_epsilon: of the group norms of blocks and of the output. Default 1e-5.
        transformer_norm_epsilon: of the group norms of transformers. Default 1e-6; KerasCV has 1e-5.
        activation: of blocks and of the embedding. Default "swish".
        feed_forward_activation: of the gates in transformers. Default "gelu"; KerasCV has "gelu_tanh".
        flash_attention: None (default: where Keras finds a fused kernel), True or False.

    Call arguments:
        inputs: dict: "x" `(B, H, W, C)`, "noise_level" `(B,)`, timesteps 0 … 999, "context" `(B, M, context_dim)`.

    Returns:
        `(B, H, W, out_channels)`, float32 under mixed precision.

    Raises:
        ValueError: a size that the levels do not divide; heads that do not divide a width; a list of another length than `widths`.

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
        name="unet_2d_condition",
        trainable=True,
        dtype=None,
    ):
        policy = keras.dtype_policies.get(dtype)
        if len(input_shape) != 3:
            raise ValueError(f"UNet2DCondition takes images: `input_shape` must be (H, W, C). Received: input_shape={tuple(input_shape)}")
        levels, channels = len(widths), input_shape[-1]
        check_positive_int(channels=channels, levels=levels, num_res_blocks=num_res_blocks, norm_groups=norm_groups)
        check_positive_int(context_dim=context_dim, transformer_depth=transformer_depth)
        check_positive_int(**{f"widths[{i}]": width for i, width in enumerate(widths)})
        check_size(input_shape[:-1], 2 ** (levels - 1))
        act = get_activation(activation)
        attention = [True] * (levels - 1) + [False] if attention is None else list(attention)
        _check_length("attention", attention, levels)
        heads = _heads_per_level(widths, num_heads, head_dim)
        norm = {"norm_groups": norm_groups, "norm_epsilon": norm_epsilon, "dtype": policy}

        inputs = condition_inputs(input_shape, None, context_dim, policy)
        embedding = SinusoidalEmbedding(widths[0], cos_first=True, name="time_embedding")(inputs["noise_level"])
        embedding = TimeProjection(4 * widths[0], act, name="time_projection", dtype=wide_dtype(policy))(embedding)

        def residual(h, level, name):
            block = ResidualBlock(widths[level], activation=act, time_injection="add", name=f"{name}_residual", **norm)
            return block(h, embedding)

        def transform(h, level, name):
            transformer = SpatialTransformer(
                heads[level],
                widths[level] // heads[level],
                transformer_depth,
                feed_forward_activation,
                norm_groups,
                transformer_norm_epsilon,
                flash_attention,
                name=f"{name}_transformer",
                dtype=policy,
            )
            return transformer(h, context=inputs["context"])

        h = convolution(2, widths[0], 3, name="conv_in", dtype=policy)(inputs["x"])
        skips = [h]
        for i, width in enumerate(widths):
            for j in range(num_res_blocks):
                h = residual(h, i, f"down_{i}_{j}")
                h = transform(h, i, f"down_{i}_{j}") if attention[i] else h
                skips.append(h)
            if i < levels - 1:
                h = Downsample(width, symmetric=True, name=f"down_{i}_downsample", dtype=policy)(h)
                skips.append(h)

        h = residual(h, -1, "middle_0")
        h = transform(h, -1, "middle")
        h = residual(h, -1, "middle_1")

        for i, width in reversed(list(enumerate(widths))):
            for j in range(num_res_blocks + 1):
                h = keras.layers.Concatenate(name=f"up_{i}_{j}_concat", dtype=policy)([h, skips.pop()])
                h = residual(h, i, f"up_{i}_{j}")
                h = transform(h, i, f"up_{i}_{j}") if attention[i] else h
            if i > 0:
                h = Upsample(width, name=f"up_{i}_upsample", dtype=policy)(h)

        h = normalization("group", widths[0], norm_groups, norm_epsilon, "norm_out", policy)(h)
        h = keras.layers.Activation(act, name="act_out", dtype=policy)(h)
        filters = channels if out_channels is None else out_channels
        # In float32 under mixed precision too: sampling adds up many outputs, and 8 bits would show.
        output = convolution(2, filters, 3, kernel_initializer="zeros", name="conv_out", dtype=wide_dtype(policy))(h)

        arguments = {
            "input_shape": list(input_shape),
            "widths": list(widths),
            "num_res_blocks": num_res_blocks,
            "attention": attention,
            "context_dim": context_dim,
            "num_heads": num_heads if isinstance(num_heads, int) else list(num_heads),
            "head_dim": head_dim,
            "transformer_depth": transformer_depth,
            "out_channels": out_channels,
            "norm_groups": norm_groups,
            "norm_epsilon": norm_epsilon,
            "transformer_norm_epsilon": transformer_norm_epsilon,
            "activation": keras.activations.serialize(act),
            "feed_forward_activation": feed_forward_activation,
            "flash_attention": flash_attention,
        }
        super().__init__((inputs, output), arguments, policy, name=name, trainable=trainable)
        self.size_multiple = 2 ** (levels - 1)


def _heads_per_level(widths, num_heads, head_dim):
    """Number of heads at each level."""
    if head_dim is not None:
        heads = [width // head_dim if isinstance(head_dim, int) and head_dim > 0 and width % head_dim == 0 else 0 for width in widths]
    else:
        heads = [num_heads] * len(widths) if isinstance(num_heads, int) else list(num_heads)
        _check_length("num_heads", heads, len(widths))
    if any(not isinstance(n, int) or n < 1 or width % n for width, n in zip(widths, heads)):
        raise ValueError(
            "Heads cut the channels of a level into equal parts, so their number, and the channels of each, must divide its width. "
            f"Received: widths={tuple(widths)}, num_heads={num_heads}, head_dim={head_dim}"
        )
    return heads


def _check_length(name, values, levels):
    if len(values) != levels:
        raise ValueError(f"`{name}` needs one entry per level, as many as `widths` ({levels}). Received: {name}={values}")
