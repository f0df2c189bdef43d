"""The U-Net of FlaxDiff (`Unet`, in 2024 `SimpleUNet`), in all the forms it has had; by default the last one, with its
defects repaired.

    x ── conv ──┬─ blocks ──┬─────────────────── concat, blocks ─ upsample ─┬─ conv ─ concat, block ─ norm, act, conv ── out
                │  ↓ conv   └── skips ──┘                                   │
                │  blocks, attention ── … middle: block, attention, block … │
                └───────────────────────────────────────────────────────────┘

It differs from `UNet` in where widths change: a level's blocks on the way down keep the width that comes in, and the
downsampling after them leads to the level's own; the first skip goes around everything, into a last block.

What FlaxDiff does otherwise, and what says so here (a checkpoint's family sets these itself):

    adds the normalized input at the end of attention, and loses the identity path       "residual": "normalized"
    attends to the text alone, or to nothing at all                                      "only_pure_attention", attention=None
    attends within rows or columns, or lets column w see token w                         "attention_over"
    upsamples to the width of another level than the one that follows                    upsample_widths="flaxdiff"
    requires a text                                                                      `context_dim`

Reference: FlaxDiff, github.com/AshishKumar4/FlaxDiff, flaxdiff/models/simple_unet.py.
"""

import keras

from keras_diffusion.layers import Downsample, ResidualBlock, SinusoidalEmbedding, TimeProjection, Upsample
from keras_diffusion.layers.activations import gelu_tanh
from keras_diffusion.layers.flax_fourier_embedding import FlaxFourierEmbedding
from keras_diffusion.layers.flax_transformer_block import FlaxTransformerBlock
from keras_diffusion.layers.options import activation_config, check_dropout, convolution, get_activation, normalization
from keras_diffusion.networks.network import (
    Network,
    check_positive_int,
    check_size,
    condition_inputs,
    networks,
    seen,
    wide_dtype,
)

UPSAMPLE_WIDTHS = ("next", "flaxdiff")
_ATTENTION_OPTIONS = (
    *(
        "num_heads",
        "head_dim",
        "cross_attention",
        "use_self_and_cross",
        "only_pure_attention",
        "use_projection",
        "norm_inputs",
    ),
    *("explicitly_add_residual", "residual", "attention_over", "norm_epsilon", "flash_attention"),
)


@networks.register("flax_unet")
class FlaxUNet(Network):
    """FlaxDiff's U-Net for images.

    Args:
        input_shape: `(H, W, C)`. H and W multiples of 2^(levels − 1), or None for any such size.
        widths: FlaxDiff's `feature_depths`, finest first. Default (64, 128, 256, 512).
        num_res_blocks: residual blocks per level, on the way down and on the way up. Default 2.
        attention: FlaxDiff's `attention_configs`: "auto" (default: the coarser half of the levels), None for none at
            all, or one entry per level: None, or a dict with options of `FlaxTransformerBlock` ({} for its defaults).
        middle_attention: such an entry for the middle; "last" (default) is that of the last level.
        context_dim: size of the context's vectors, or None (default). The context enters wherever there is attention,
            unless an entry says "cross_attention": False.
        out_channels: channels of the output; None (default) for as many as the input.
        num_middle_res_blocks: pairs of blocks at the lowest resolution, ≥ 0. Default 1.
        norm_groups: groups of the group normalizations; 0 for normalization by the root mean square. Default 8; the
            greatest common divisor with the channels is taken.
        activation: name or function. Default "swish".
        embedding_dim: FlaxDiff's `emb_features`, even. Default 256.
        time_embedding: "fourier" (default; for log(σ/α)/4) or "sinusoidal" (for timesteps).
        fourier_stream: see `FlaxFourierEmbedding`. Default "partitionable".
        time_injection: "add" (default) or "scale_shift", see `ResidualBlock`.
        conv_in_kernel, conv_out_kernel, downsample_kernel: sizes of these convolutions. Default 3.
        middle_conv: whether a convolution leads into the middle, instead of its first block. Default False.
        up_conv: whether a convolution follows the way up. Default True.
        separable: whether the middle's blocks and all but the first of every level on the way up have separable
            convolutions, the latter of sizes 5, 7, …. Default False.
        upsample_widths: "next" (default): upsampling leads to the width of the level that follows; "flaxdiff": from
            level i to widths[−i].
        norm_epsilon: of the residual blocks and of attention. Default 1e-4.
        norm_out_epsilon: of the last normalization. Default 1e-6.
        dropout: share of activations that training sets to 0, in [0, 1). Default 0.
        zero_init: whether the last layer of every branch starts at 0. Default True.
        remat: whether training computes every block again on the way back: less memory, more time. Default False.
        concat_channels: channels of "concat", what is known beside x; 0 (default) for a network without. The first
            layer sees C + concat_channels channels, the output has those of x.
        seed: int or None; of dropout.

    Call arguments:
        inputs: dict: "x" `(B, H, W, C)`, "noise_level" `(B,)`, FlaxDiff's `temb`; "context" `(B, M, D)`, `textcontext`,
            with `context_dim`. Without, a context is allowed and has no effect, as in FlaxDiff. "concat" `(B, H, W,
            concat_channels)` with `concat_channels`.
        training: whether dropout drops.

    Returns:
        `(B, H, W, out_channels)`, float32 under mixed precision.

    Raises:
        ValueError: `input_shape` of another rank than 3, or of a size that the levels do not divide; `attention` of
            another length than `widths`; more heads than a width has channels; unknown option; `dropout` outside [0,
            1); a context and no attention for it.

    Example:

    >>> network = FlaxUNet((8, 8, 1), widths=(16, 32))
    >>> network({"x": keras.ops.ones((4, 8, 8, 1)), "noise_level": keras.ops.zeros((4,))}).shape
    (4, 8, 8, 1)
    """

    def __init__(
        self,
        input_shape,
        widths=(64, 128, 256, 512),
        num_res_blocks=2,
        attention="auto",
        middle_attention="last",
        context_dim=None,
        out_channels=None,
        num_middle_res_blocks=1,
        norm_groups=8,
        activation="swish",
        embedding_dim=256,
        time_embedding="fourier",
        fourier_stream="partitionable",
        time_injection="add",
        conv_in_kernel=3,
        conv_out_kernel=3,
        downsample_kernel=3,
        middle_conv=False,
        up_conv=True,
        separable=False,
        upsample_widths="next",
        norm_epsilon=1e-4,
        norm_out_epsilon=1e-6,
        dropout=0.0,
        zero_init=True,
        remat=False,
        seed=None,
        concat_channels=0,
        name="flax_unet",
        trainable=True,
        dtype=None,
    ):
        policy = keras.dtype_policies.get(dtype)
        if len(input_shape) != 3:
            raise ValueError(
                "FlaxUNet takes images: `input_shape` must be (H, W, C), without the batch axis. "
                f"Received: input_shape={tuple(input_shape)}. Use UNet for sequences and MLP for vectors"
            )
        levels = len(widths)
        check_positive_int(
            channels=input_shape[-1], levels=levels, **{f"widths[{i}]": width for i, width in enumerate(widths)}
        )
        check_positive_int(num_res_blocks=num_res_blocks, embedding_dim=embedding_dim)
        check_size(input_shape[:-1], 2 ** (levels - 1))
        check_dropout(dropout)
        if upsample_widths not in UPSAMPLE_WIDTHS:
            raise ValueError(
                f"`upsample_widths` must be one of {', '.join(UPSAMPLE_WIDTHS)}. Received: "
                f"upsample_widths={upsample_widths!r}"
            )
        act = get_activation(activation)
        defaults = {"cross_attention": context_dim is not None, "norm_epsilon": norm_epsilon}
        per_level = _attention_per_level(attention, levels, defaults)
        middle_entry = per_level[-1] if middle_attention == "last" else _attention_entry(middle_attention, defaults)
        if context_dim is not None and not any(
            entry and entry["cross_attention"] for entry in (*per_level, middle_entry)
        ):
            raise ValueError(
                "A context enters through attention, and this network has none for it. "
                f"Received: context_dim={context_dim}, attention={attention!r}"
            )

        norm = "rms" if norm_groups == 0 else "group"
        inputs = condition_inputs(input_shape, None, context_dim, policy, concat_channels)
        embedding = _embed(inputs["noise_level"], embedding_dim, time_embedding, fourier_stream, wide_dtype(policy))
        options = {"norm": norm, "norm_groups": norm_groups, "norm_epsilon": norm_epsilon, "activation": act}
        options |= {
            "time_injection": time_injection,
            "dropout": dropout,
            "zero_init": zero_init,
            "seed": seed,
            "remat": remat,
        }

        def residual(h, width, name, **special):
            return ResidualBlock(width, **options, **special, name=name, dtype=policy)(h, embedding)

        def attend(h, entry, name):
            if entry is None:
                return h
            block = FlaxTransformerBlock(
                **entry, zero_init=zero_init, dropout=dropout, seed=seed, remat=remat, name=name, dtype=policy
            )
            return block(h, context=inputs["context"]) if entry["cross_attention"] else block(h)

        def conv(h, width, kernel_size, name):
            return convolution(2, width, kernel_size, name=name, dtype=policy)(h)

        def join(h, skip, name):
            return keras.layers.Concatenate(name=name, dtype=policy)([h, skip])

        h = conv(seen(inputs, policy), widths[0], conv_in_kernel, "conv_in")
        skips = [h]
        for i in range(levels):
            for j in range(num_res_blocks):
                h = residual(h, h.shape[-1], f"down_{i}_residual_{j}")
                if j == num_res_blocks - 1:
                    h = attend(h, per_level[i], f"down_{i}_attention")
                skips.append(h)
            if i < levels - 1:
                h = Downsample(widths[i], downsample_kernel, name=f"down_{i}_downsample", dtype=policy)(h)

        if middle_conv:
            h = conv(h, widths[-1], 3, "middle_conv")
        for j in range(num_middle_res_blocks):
            h = residual(h, widths[-1], f"middle_{j}_residual_0", separable=separable)
            if j == num_middle_res_blocks - 1:
                h = attend(h, middle_entry, "middle_attention")
            h = residual(h, widths[-1], f"middle_{j}_residual_1", separable=separable)

        # Levels on the way up are counted from the coarsest, as FlaxDiff does.
        for i, width in enumerate(reversed(widths)):
            for j in range(num_res_blocks):
                special = {"separable": True, "kernel_size": 2 * j + 3} if separable and j > 0 else {}
                h = residual(join(h, skips.pop(), f"up_{i}_concat_{j}"), width, f"up_{i}_residual_{j}", **special)
            h = attend(h, per_level[levels - 1 - i], f"up_{i}_attention")
            if i < levels - 1:
                target = widths[levels - 2 - i] if upsample_widths == "next" else widths[-i]
                h = Upsample(target, name=f"up_{i}_upsample", dtype=policy)(h)

        if up_conv:
            h = conv(h, widths[0], 3, "up_conv")
        h = residual(join(h, skips.pop(), "final_concat"), widths[0], "final_residual")
        h = normalization(norm, widths[0], norm_groups, norm_out_epsilon, "norm_out", policy)(h)
        h = keras.layers.Activation(act, name="act_out", dtype=policy)(h)
        channels = input_shape[-1] if out_channels is None else out_channels
        start = "zeros" if zero_init else "glorot_uniform"
        output = convolution(
            2, channels, conv_out_kernel, kernel_initializer=start, name="conv_out", dtype=wide_dtype(policy)
        )(h)

        arguments = {
            "input_shape": list(input_shape),
            "widths": list(widths),
            "num_res_blocks": num_res_blocks,
            "attention": attention if isinstance(attention, str) or attention is None else list(attention),
            "middle_attention": middle_attention,
            "context_dim": context_dim,
            "out_channels": out_channels,
            "num_middle_res_blocks": num_middle_res_blocks,
            "norm_groups": norm_groups,
            "activation": activation_config(act),
            "embedding_dim": embedding_dim,
            "time_embedding": time_embedding,
            "fourier_stream": fourier_stream,
            "time_injection": time_injection,
            "conv_in_kernel": conv_in_kernel,
            "conv_out_kernel": conv_out_kernel,
            "downsample_kernel": downsample_kernel,
            "middle_conv": middle_conv,
            "up_conv": up_conv,
            "separable": separable,
            "upsample_widths": upsample_widths,
            "norm_epsilon": norm_epsilon,
            "norm_out_epsilon": norm_out_epsilon,
            "dropout": dropout,
            "zero_init": zero_init,
            "remat": remat,
            "seed": seed,
            "concat_channels": concat_channels,
        }
        super().__init__((inputs, output), arguments, policy, name=name, trainable=trainable)
        self.size_multiple = 2 ** (levels - 1)

    def call(self, inputs, training=None, mask=None):
        if isinstance(inputs, dict) and "context" not in self.condition_keys:
            inputs = {key: value for key, value in inputs.items() if key != "context"}
        return super().call(inputs, training=training, mask=mask)


def _embed(noise_level, dim, kind, stream, dtype):
    """The condition vector `(B, dim)`."""
    if kind == "fourier":
        embedding = FlaxFourierEmbedding(dim, stream, name="time_embedding")(noise_level)
    elif kind == "sinusoidal":
        half = dim // 2
        # FlaxDiff divides the exponent by half − 1, so that the last frequency is 1/10000 itself; SinusoidalEmbedding
        # divides by half.
        embedding = SinusoidalEmbedding(dim, max_period=10000.0 ** (half / max(half - 1, 1)), name="time_embedding")(
            noise_level
        )
    else:
        raise ValueError(f"Unknown time embedding: {kind!r}. Known ones: fourier, sinusoidal.")
    return TimeProjection(dim, activation=gelu_tanh, name="time_projection", dtype=dtype)(embedding)


def _attention_per_level(attention, levels, defaults):
    """`attention` as one entry per level: None, or a dict of `FlaxTransformerBlock` options."""
    if attention == "auto":
        attention = [{} if i >= levels // 2 else None for i in range(levels)]
    elif attention is None:
        attention = [None] * levels
    elif isinstance(attention, (str, dict)) or len(attention) != levels:
        raise ValueError(
            f"`attention` needs one entry per level, as many as `widths` ({levels}), or is 'auto' or None. "
            f"Received: attention={attention!r}"
        )
    return [_attention_entry(entry, defaults) for entry in attention]


def _attention_entry(entry, defaults):
    if entry is None:
        return None
    if not isinstance(entry, dict) or not set(entry) <= set(_ATTENTION_OPTIONS):
        raise ValueError(
            f"An entry of `attention` is None, or a dict with some of {', '.join(_ATTENTION_OPTIONS)}. Received: "
            f"{entry!r}"
        )
    return {**defaults, **entry}
