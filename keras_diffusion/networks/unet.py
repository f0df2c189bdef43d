"""The U-Net: convolutions at several resolutions, with shortcuts from the way down to the way up.

    x ── conv ──┬─ level 0: blocks ──┬───────────────────────────────── concat, blocks ─ upsample ... ─┬─ block ── norm, act, conv ── out
                │      downsample    └────────── skips ──────────────┘                                 │
                │  level 1: blocks, attention ──── skips ──── concat, blocks, attention ─ upsample     │
                │      downsample                                                                      │
                │  level 2: … middle: block, attention, block …                                        │
                └──────────────────────────────────────────────────────────────────────────────────────┘

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

import keras

from keras_diffusion.layers import AttentionBlock, Downsample, ResidualBlock, Upsample
from keras_diffusion.layers.options import (
    activation_config,
    check_dropout,
    check_norm,
    convolution,
    get_activation,
    normalization,
)
from keras_diffusion.layers.residual_block import TIME_INJECTIONS
from keras_diffusion.networks.network import (
    Network,
    check_positive_int,
    check_size,
    condition_inputs,
    embed_conditions,
    networks,
    seen,
    wide_dtype,
)

_ATTENTION_OPTIONS = ("num_heads", "head_dim", "feed_forward", "flash_attention")


@networks.register("unet")
class UNet(Network):
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
        seed: int or None; of dropout.

    Call arguments:
        inputs: dict: "x" `(B, *input_shape)`, "noise_level" `(B,)`, "labels" `(B,)` with `num_classes`, "context" `(B,
            M, D)` with `context_dim`, "concat" `(B, *input_shape[:-1], concat_channels)` with `concat_channels`.
        training: whether dropout drops.

    Returns:
        `(B, *input_shape[:-1], out_channels)`, float32 under mixed precision.

    Raises:
        ValueError: `input_shape` of another rank than 2 or 3, or of a size that the levels do not divide; `attention`
            of another length than `widths`; heads that do not divide a width; unknown norm, activation, time embedding
            or time injection; `dropout` outside [0, 1); `num_classes` < 1; a context and no attention for it.

    Example:

    >>> network = UNet((8, 8, 1), widths=(16, 32), num_classes=10)
    >>> inputs = {"x": keras.ops.ones((4, 8, 8, 1)), "noise_level": keras.ops.zeros((4,)), "labels": keras.ops.zeros((4,), "int32")}
    >>> network(inputs).shape
    (4, 8, 8, 1)
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
        name="unet",
        trainable=True,
        dtype=None,
    ):
        policy = keras.dtype_policies.get(dtype)
        if len(input_shape) not in (2, 3):
            raise ValueError(
                "UNet takes sequences and images: `input_shape` must be (L, C) or (H, W, C), without the batch axis. "
                f"Received: input_shape={tuple(input_shape)}. Use MLP for vectors"
            )
        if len(input_shape) == 2 and input_shape[0] == input_shape[1]:
            warnings.warn(
                f"This UNet takes sequences of {input_shape[0]} positions with {input_shape[1]} channels. For images "
                f"without colours "
                f"add the channel axis: (H, W, 1). Received: input_shape={tuple(input_shape)}",
                stacklevel=3,
            )
        levels, rank, channels = len(widths), len(input_shape) - 1, input_shape[-1]
        check_positive_int(
            channels=channels, levels=levels, **{f"widths[{i}]": width for i, width in enumerate(widths)}
        )
        check_positive_int(num_res_blocks=num_res_blocks, norm_groups=norm_groups)
        check_size(input_shape[:-1], 2 ** (levels - 1))
        check_norm(norm)
        check_dropout(dropout)
        act = get_activation(activation)
        if time_injection not in TIME_INJECTIONS:
            raise ValueError(
                f"Unknown time injection: {time_injection!r}. Known ones: {', '.join(TIME_INJECTIONS)}. Received: "
                f"{time_injection=}"
            )
        defaults = {
            "num_heads": num_heads,
            "head_dim": head_dim,
            "feed_forward": feed_forward,
            "flash_attention": flash_attention,
        }
        per_level = _attention_per_level(attention, levels, defaults)
        if context_dim is not None and not any(per_level):
            raise ValueError(
                "A context enters through attention, and this network has none. "
                f"Received: context_dim={context_dim}, attention={attention!r}"
            )

        norms = {"norm": norm, "norm_groups": norm_groups, "norm_epsilon": norm_epsilon}
        inputs = condition_inputs(input_shape, num_classes, context_dim, policy, concat_channels)
        dim = 4 * widths[0] if embedding_dim is None else embedding_dim
        embedding = embed_conditions(inputs, dim, time_embedding, time_scale, act, num_classes, policy)

        def residual(h, width, name):
            options = {
                **norms,
                "activation": act,
                "time_injection": time_injection,
                "dropout": dropout,
                "zero_init": zero_init,
            }
            return ResidualBlock(width, **options, seed=seed, name=name, dtype=policy)(h, embedding)

        def attend(h, level, name):
            if per_level[level] is None:
                return h
            block = AttentionBlock(
                **per_level[level],
                **norms,
                cross_attention=context_dim is not None,
                zero_init=zero_init,
                name=name,
                dtype=policy,
            )
            return block(h, context=inputs["context"]) if context_dim is not None else block(h)

        def join(h, skip, name):
            return keras.layers.Concatenate(name=name, dtype=policy)([h, skip])

        h = convolution(rank, widths[0], 3, name="conv_in", dtype=policy)(seen(inputs, policy))
        skips = [h]
        for i, width in enumerate(widths):
            if i > 0:
                h = Downsample(width, name=f"down_{i}_downsample", dtype=policy)(h)
            for j in range(num_res_blocks):
                h = residual(h, width, f"down_{i}_residual_{j}")
                if j == num_res_blocks - 1:
                    h = attend(h, i, f"down_{i}_attention")
                skips.append(h)

        for j in range(num_middle_res_blocks):
            h = residual(h, widths[-1], f"middle_{j}_residual_0")
            if j == num_middle_res_blocks - 1:
                h = attend(h, -1, "middle_attention")
            h = residual(h, widths[-1], f"middle_{j}_residual_1")

        for i, width in reversed(list(enumerate(widths))):
            for j in range(num_res_blocks):
                h = residual(join(h, skips.pop(), f"up_{i}_concat_{j}"), width, f"up_{i}_residual_{j}")
            h = attend(h, i, f"up_{i}_attention")
            if i > 0:
                h = Upsample(widths[i - 1], name=f"up_{i}_upsample", dtype=policy)(h)

        h = residual(join(h, skips.pop(), "final_concat"), widths[0], "final_residual")
        h = normalization(norm, widths[0], norm_groups, norm_epsilon, "norm_out", policy)(h)
        h = keras.layers.Activation(act, name="act_out", dtype=policy)(h)
        out_channels_ = channels if out_channels is None else out_channels
        # In float32 under mixed precision too: sampling adds up many outputs, and 8 bits would show.
        output = convolution(
            rank, out_channels_, 3, kernel_initializer="zeros", name="conv_out", dtype=wide_dtype(policy)
        )(h)

        arguments = {
            "input_shape": list(input_shape),
            "widths": list(widths),
            "num_res_blocks": num_res_blocks,
            "attention": attention if isinstance(attention, (str, bool)) or attention is None else list(attention),
            "num_classes": num_classes,
            "context_dim": context_dim,
            "out_channels": out_channels,
            "num_middle_res_blocks": num_middle_res_blocks,
            **norms,
            "activation": activation_config(act),
            "dropout": dropout,
            "time_embedding": time_embedding,
            "time_scale": time_scale,
            "embedding_dim": embedding_dim,
            "time_injection": time_injection,
            **defaults,
            "zero_init": zero_init,
            "seed": seed,
            "concat_channels": concat_channels,
        }
        super().__init__((inputs, output), arguments, policy, name=name, trainable=trainable)
        self.size_multiple = 2 ** (levels - 1)


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
                f"An entry of `attention` is True, False, None, or a dict with some of "
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
