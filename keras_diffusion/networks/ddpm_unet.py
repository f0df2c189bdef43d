"""The U-Net of the Keras example "Denoising Diffusion Probabilistic Model", in which many published Keras weights live.

    x ── conv ──┬─ level 0: R … R ──────────────── skips ─────────────── concat, R (num_res_blocks + 1 times) ─┬─ norm, act, conv ── out
                │      conv, stride 2              └── each block's output,       nearest ×2, conv             │
                │  level 1: (R, A) … (R, A)            each downsampling's ──── concat, (R, A) …               │
                │      conv, stride 2                                                                          │
                └─ middle: R, A, R ────────────────────────────────────────────────────────────────────────────┘

R is a residual block that adds the embedded timestep, A attention after every block of a level that has it. What sets
it apart from `UNet`: attention that adds to its normalized input (`NormalizedAttention`), resampling that keeps the
number of channels, one more skip per level, group normalization with Keras's epsilon 1e-3, and timesteps 0 … T−1 as the
noise level, in sines and cosines whose frequencies fall from 1 to 1/10000, both included. A label's vector is added to
the embedded timestep before the last activation.

Reference: Ho et al., arXiv:2006.11239; A. K. Nain, "Denoising diffusion probabilistic model",
keras.io/examples/generative/ddpm (2022).
"""

import keras

from keras_diffusion.layers import (
    Downsample,
    LabelEmbedding,
    NormalizedAttention,
    ResidualBlock,
    SinusoidalEmbedding,
    Upsample,
)
from keras_diffusion.layers.options import convolution, normalization, unbuilt_dense
from keras_diffusion.networks.network import (
    Network,
    check_positive_int,
    check_size,
    condition_inputs,
    networks,
    wide_dtype,
)

_EPSILON = 1e-3


@networks.register("ddpm_unet")
class DDPMUNet(Network):
    """U-Net of the Keras example of DDPM, for timesteps and ε-prediction.

    Use it with a predictor that tells it timesteps: `EpsilonPredictor(condition="timestep")`.

    Args:
        input_shape: `(H, W, C)`. H and W multiples of 2^(levels − 1), or None for any such size.
        widths: channels of each level, finest first. Default (64, 128, 256, 512).
        has_attention: whether attention follows the residual blocks, a bool per level. Default (False, False, True,
            True). The middle always has it.
        num_res_blocks: residual blocks per level on the way down; on the way up there is one more. Default 2.
        first_conv_channels: channels of the first convolution; the embedded timestep has four times as many. Default
            64.
        norm_groups: groups of the group normalizations. Default 8; where it does not divide the channels, their
            greatest common divisor is taken.
        num_classes: number of classes, or None (default) for a network without labels. Label `num_classes` means "no
            class".
        out_channels: channels of the output; None (default) for as many as the input.

    Call arguments:
        inputs: dict: "x" `(B, H, W, C)`, "noise_level" `(B,)` timesteps, "labels" `(B,)` with `num_classes`.

    Returns:
        `(B, H, W, out_channels)`, float32 under mixed precision.

    Raises:
        ValueError: `input_shape` of another rank than 3 or of a size that the levels do not divide; `has_attention` of
            another length than `widths`; sizes < 1.

    Example:

    >>> network = DDPMUNet((32, 32, 3), widths=(16, 32), has_attention=(False, True), num_res_blocks=1, first_conv_channels=16)
    >>> network({"x": keras.ops.ones((4, 32, 32, 3)), "noise_level": keras.ops.array([0, 10, 100, 999])}).shape
    (4, 32, 32, 3)
    """

    def __init__(
        self,
        input_shape,
        widths=(64, 128, 256, 512),
        has_attention=(False, False, True, True),
        num_res_blocks=2,
        first_conv_channels=64,
        norm_groups=8,
        num_classes=None,
        out_channels=None,
        name="ddpm_unet",
        trainable=True,
        dtype=None,
    ):
        policy = keras.dtype_policies.get(dtype)
        check_image_levels("DDPMUNet", input_shape, widths)
        check_positive_int(
            num_res_blocks=num_res_blocks, first_conv_channels=first_conv_channels, norm_groups=norm_groups
        )
        if len(has_attention) != len(widths):
            raise ValueError(
                f"`has_attention` needs one bool per level, as many as `widths` ({len(widths)}). Received: "
                f"has_attention={has_attention!r}"
            )
        inputs = condition_inputs(input_shape, num_classes, None, policy)
        dim = 4 * first_conv_channels
        embedding = _embed(inputs, dim, num_classes, wide_dtype(policy))

        def residual(h, width, name):
            options = {"norm_groups": norm_groups, "norm_epsilon": _EPSILON, "time_injection": "add"}
            return ResidualBlock(width, **options, name=name, dtype=policy)(h, embedding)

        def attend(h, name):
            return NormalizedAttention(norm_groups, _EPSILON, name=name, dtype=policy)(h)

        h = convolution(2, first_conv_channels, 3, name="conv_in", dtype=policy)(inputs["x"])
        skips = [h]
        for i, width in enumerate(widths):
            for j in range(num_res_blocks):
                h = residual(h, width, f"down_{i}_residual_{j}")
                h = attend(h, f"down_{i}_attention_{j}") if has_attention[i] else h
                skips.append(h)
            if i < len(widths) - 1:
                h = Downsample(width, name=f"down_{i}_downsample", dtype=policy)(h)
                skips.append(h)

        h = residual(h, widths[-1], "middle_residual_0")
        h = attend(h, "middle_attention")
        h = residual(h, widths[-1], "middle_residual_1")

        for i, width in reversed(list(enumerate(widths))):
            for j in range(num_res_blocks + 1):
                h = keras.layers.Concatenate(name=f"up_{i}_concat_{j}", dtype=policy)([h, skips.pop()])
                h = residual(h, width, f"up_{i}_residual_{j}")
                h = attend(h, f"up_{i}_attention_{j}") if has_attention[i] else h
            if i > 0:
                h = Upsample(width, name=f"up_{i}_upsample", dtype=policy)(h)

        h = normalization("group", h.shape[-1], norm_groups, _EPSILON, "norm_out", policy)(h)
        h = keras.layers.Activation("swish", name="act_out", dtype=policy)(h)
        channels = input_shape[-1] if out_channels is None else out_channels
        output = convolution(2, channels, 3, kernel_initializer="zeros", name="conv_out", dtype=wide_dtype(policy))(h)

        arguments = {
            "input_shape": list(input_shape),
            "widths": list(widths),
            "has_attention": [bool(flag) for flag in has_attention],
            "num_res_blocks": num_res_blocks,
            "first_conv_channels": first_conv_channels,
            "norm_groups": norm_groups,
            "num_classes": num_classes,
            "out_channels": out_channels,
        }
        super().__init__((inputs, output), arguments, policy, name=name, trainable=trainable)
        self.size_multiple = 2 ** (len(widths) - 1)


def _embed(inputs, dim, num_classes, dtype):
    """The condition vector `(B, dim)`: the timestep through sines, cosines and two dense layers, plus the label's
    vector, activated.
    """
    half = dim // 2
    # The example divides the exponent by half − 1, so that the last frequency is 1/10000 itself; SinusoidalEmbedding
    # divides by half.
    h = SinusoidalEmbedding(dim, max_period=10000.0 ** (half / (half - 1)), name="time_embedding")(
        inputs["noise_level"]
    )
    h = unbuilt_dense(dim, activation="swish", name="time_dense1", dtype=dtype)(h)
    h = unbuilt_dense(dim, name="time_dense2", dtype=dtype)(h)
    if num_classes is not None:
        label = LabelEmbedding(num_classes, dim, name="label_embedding", dtype=dtype)(inputs["labels"])
        h = keras.layers.Add(name="time_and_label", dtype=dtype)([h, label])
    return keras.layers.Activation("swish", name="condition_act", dtype=dtype)(h)


def check_image_levels(network, input_shape, widths):
    """Raises ValueError unless `input_shape` is (H, W, C) with sizes that all levels but the last can halve."""
    if len(input_shape) != 3:
        raise ValueError(
            f"{network} takes images: `input_shape` must be (H, W, C), without the batch axis. "
            f"Received: input_shape={tuple(input_shape)}. Use UNet for sequences and MLP for vectors"
        )
    check_positive_int(
        channels=input_shape[-1], levels=len(widths), **{f"widths[{i}]": width for i, width in enumerate(widths)}
    )
    check_size(input_shape[:-1], 2 ** (len(widths) - 1))
