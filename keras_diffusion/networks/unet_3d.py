"""A U-Net for videos: Stable Diffusion's U-Net on every frame, and layers along time between its blocks.

    x ─ conv ─┬─ level 0: (block, time, transformer, time) × n ─┬─ skips ─ (concat, the same) × (n + 1) ─ norm, act,
    conv ─ out
              │      downsample                                 │              upsample
              │      …                                          │              …
              │  last level: (block, time) × n ─────────────────┴─ skips ─ (concat, the same) × (n + 1)
              └─ middle: block, time, transformer, time, block, time ────────┘

    block          `ResidualBlock`           one frame, and the noise level      time after it: `TemporalConvolution`
    transformer    `SpatialTransformer`      one frame, and the text             time after it: `TemporalTransformer`

The first and the last convolution have kernels (3, 3, 3). Frames are never halved, so that a video may have any number
of them; layers along time that start at the identity make a network for images of a new one. A video of one frame is an
image.

FlaxDiff's class of this kind gives those two convolutions the frames of all samples in one row: the last frame of a
video is a neighbour of the first one of the next, and what comes out for a video depends on the batch. Here kernels
reach over the frames of one video, with zeros beyond its ends, which is the same for a batch of one;
`flaxdiff_compatible` brings the old arithmetic back.

References: Ho et al., "Video diffusion models", arXiv:2204.03458 (space and time by turns); Wang et al., "ModelScope
text-to-video technical report", arXiv:2308.06571 (these layers along time); FlaxDiff, github.com/AshishKumar4/FlaxDiff,
flaxdiff/models/unet_3d.py.
"""

import keras

from keras_diffusion.layers import (
    AsOneVideo,
    Downsample,
    LabelEmbedding,
    PerFrame,
    ResidualBlock,
    SpatialTransformer,
    TemporalConvolution,
    TemporalTransformer,
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
from keras_diffusion.networks.unet_2d_condition import attention_per_level, heads_per_level, per_level, plain


@networks.register("unet_3d")
class UNet3D(Network):
    """U-Net for videos with optional text and class labels, for timesteps as the noise level.

    Use it with a predictor that tells it timesteps: `EpsilonPredictor(condition="timestep")`.

    Args:
        input_shape: `(F, H, W, C)` of the samples that `generate` makes: F frames; any F runs, and any H and W that are
            multiples of 2^(levels − 1). None: not told. Default (None, None, None, 4).
        widths: channels of each level, finest first. Default (320, 640, 1280, 1280).
        num_res_blocks: blocks n per level on the way down, one number or one per level; n + 1 on the way up. Default 2.
        attention: whether a level has transformers, one entry per level; None (default): all but the last. The middle
            always has one.
        context_dim: size of the context's vectors, or None (default) for a network without a context.
        num_heads: number of attention heads, one for all levels or one per level. Default 8.
        transformer_depth: blocks per transformer, one number or one per level; the middle has the last. Default 1.
        num_classes: number of classes, or None (default) for a network without labels.
        out_channels: channels of the output; None (default) for as many as the input.
        norm_groups: groups of the group norms. Default 32; the greatest common divisor with a width is taken.
        norm_epsilon: of the group norms. Default 1e-5.
        time_norm_epsilon: of those of the convolutions along time; None (default) for `norm_epsilon`. FlaxDiff has
            1e-6.
        activation: of blocks, convolutions along time and the embedding. Default "swish".
        feed_forward_activation: of the gates in transformers. Default "gelu".
        time_dim: size of the condition vector; None (default): 4·widths[0].
        cos_first: whether the cosines of the timestep's embedding come first. Default True.
        freq_shift: its frequencies are 10000^(−k/(half − freq_shift)). Default 0.
        dropout: of blocks and convolutions along time, in [0, 1). Default 0.
        remat: whether training computes every block again on the way back: less memory, more time. Default False.
        flash_attention: None (default: where Keras finds a fused kernel), True or False.
        flaxdiff_compatible: whether the first and the last convolution see the batch as one video, as FlaxDiff does.
            Default False.
        concat_channels: channels of "concat", what is known beside x; 0 (default) for a network without. The first
            layer sees C + concat_channels channels, the output has those of x.
        seed: int or None; of dropout.

    Call arguments:
        inputs: dict: "x" `(B, F, H, W, C)`, "noise_level" `(B,)`, timesteps 0 … 999, "context" `(B, M, context_dim)`
            with `context_dim`, the same for all frames of a video, "labels" `(B,)` with `num_classes`, and "concat"
            `(B, F, H, W, concat_channels)` with `concat_channels`.
        training: whether dropout drops.

    Returns:
        `(B, F, H, W, out_channels)`, float32 under mixed precision.

    Raises:
        ValueError: an `input_shape` of another rank than 4; a size that the levels do not divide; heads that do not
            divide a width; a list of another length than `widths`; `dropout` outside [0, 1).

    Example:

    >>> network = UNet3D((5, 8, 12, 3), widths=(32, 64), num_heads=2)
    >>> network({"x": keras.ops.ones((2, 5, 8, 12, 3)), "noise_level": keras.ops.array([0.0, 999.0])}).shape
    (2, 5, 8, 12, 3)
    """

    any_size = True

    def __init__(
        self,
        input_shape=(None, None, None, 4),
        widths=(320, 640, 1280, 1280),
        num_res_blocks=2,
        attention=None,
        context_dim=None,
        num_heads=8,
        transformer_depth=1,
        num_classes=None,
        out_channels=None,
        norm_groups=32,
        norm_epsilon=1e-5,
        time_norm_epsilon=None,
        activation="swish",
        feed_forward_activation="gelu",
        time_dim=None,
        cos_first=True,
        freq_shift=0,
        dropout=0.0,
        remat=False,
        flash_attention=None,
        flaxdiff_compatible=False,
        seed=None,
        concat_channels=0,
        name="unet_3d",
        trainable=True,
        dtype=None,
    ):
        policy = keras.dtype_policies.get(dtype)
        if len(input_shape) != 4:
            raise ValueError(
                "UNet3D takes videos: `input_shape` must be (F, H, W, C), F frames, without the batch axis. "
                f"Received: input_shape={tuple(input_shape)}. Use UNet2DCondition for images"
            )
        levels, channels = len(widths), input_shape[-1]
        check_positive_int(channels=channels, levels=levels, norm_groups=norm_groups)
        check_positive_int(**{f"widths[{i}]": width for i, width in enumerate(widths)})
        check_size(input_shape[1:-1], 2 ** (levels - 1))
        blocks, depths = (
            per_level("num_res_blocks", num_res_blocks, levels),
            per_level("transformer_depth", transformer_depth, levels),
        )
        attention = attention_per_level(attention, levels)
        heads = heads_per_level(widths, num_heads, None)
        act = get_activation(activation)
        options = {"norm_groups": norm_groups, "remat": remat, "dtype": policy}

        inputs = condition_inputs((None, None, None, channels), num_classes, context_dim, policy, concat_channels)
        wide, dim = wide_dtype(policy), time_dim or 4 * widths[0]
        embedding = sinusoidal_embedding(widths[0], freq_shift, cos_first)(inputs["noise_level"])
        # A label comes between the last dense layer and its activation.
        last = "linear" if num_classes is not None else None
        embedding = TimeProjection(dim, act, last_activation=last, name="time_projection", dtype=wide)(embedding)
        if num_classes is not None:
            label = LabelEmbedding(num_classes, dim, name="label_embedding", dtype=wide)(inputs["labels"])
            embedding = keras.layers.Add(name="time_and_label", dtype=wide)([embedding, label])
            embedding = keras.layers.Activation(act, name="act_embedding", dtype=wide)(embedding)

        def per_frame(layer):
            return PerFrame(layer, name=f"{layer.name}_per_frame", dtype=policy)

        def residual(h, level, name):
            common = {"norm_epsilon": norm_epsilon, "activation": act, "dropout": dropout, "seed": seed, **options}
            block = ResidualBlock(widths[level], time_injection="add", name=f"{name}_residual", **common)
            common["norm_epsilon"] = norm_epsilon if time_norm_epsilon is None else time_norm_epsilon
            return TemporalConvolution(name=f"{name}_time", **common)(per_frame(block)(h, embedding))

        def transform(h, level, name):
            common = {
                "num_heads": heads[level],
                "head_dim": widths[level] // heads[level],
                "depth": depths[level],
                **options,
            }
            common |= {
                "activation": feed_forward_activation,
                "flash_attention": flash_attention,
                "norm_epsilon": norm_epsilon,
            }
            spatial = SpatialTransformer(name=f"{name}_transformer", cross_attention=context_dim is not None, **common)
            h = per_frame(spatial)(h, inputs["context"]) if context_dim is not None else per_frame(spatial)(h)
            return TemporalTransformer(name=f"{name}_time_transformer", **common)(h)

        def conv(h, filters, name, **special):
            layer = convolution(3, filters, 3, name=name, **special)
            return (
                AsOneVideo(layer, name=f"{name}_across", dtype=layer.dtype_policy) if flaxdiff_compatible else layer
            )(h)

        h = conv(seen(inputs, policy), widths[0], "conv_in", dtype=policy)
        skips = [h]
        for i, width in enumerate(widths):
            for j in range(blocks[i]):
                h = residual(h, i, f"down_{i}_{j}")
                h = transform(h, i, f"down_{i}_{j}") if attention[i] else h
                skips.append(h)
            if i < levels - 1:
                h = per_frame(Downsample(width, symmetric=True, name=f"down_{i}_downsample", dtype=policy))(h)
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
                h = per_frame(Upsample(width, name=f"up_{i}_upsample", dtype=policy))(h)

        h = per_frame(normalization("group", widths[0], norm_groups, norm_epsilon, "norm_out", policy))(h)
        h = keras.layers.Activation(act, name="act_out", dtype=policy)(h)
        filters = channels if out_channels is None else out_channels
        # In float32 under mixed precision too: sampling adds up many outputs, and 8 bits would show.
        output = conv(h, filters, "conv_out", kernel_initializer="zeros", dtype=wide)

        arguments = {
            "input_shape": list(input_shape),
            "widths": list(widths),
            "num_res_blocks": plain(num_res_blocks),
            "attention": attention,
            "context_dim": context_dim,
            "num_heads": plain(num_heads),
            "transformer_depth": plain(transformer_depth),
            "num_classes": num_classes,
            "out_channels": out_channels,
            "norm_groups": norm_groups,
            "norm_epsilon": norm_epsilon,
            "time_norm_epsilon": time_norm_epsilon,
            "activation": activation_config(act),
            "feed_forward_activation": feed_forward_activation,
            "time_dim": time_dim,
            "cos_first": cos_first,
            "freq_shift": freq_shift,
            "dropout": dropout,
            "remat": remat,
            "flash_attention": flash_attention,
            "flaxdiff_compatible": flaxdiff_compatible,
            "seed": seed,
            "concat_channels": concat_channels,
        }
        super().__init__((inputs, output), arguments, policy, name=name, trainable=trainable)
        self.size_multiple = 2 ** (levels - 1)

    def halved_axes(self, size):
        return size[1:]
