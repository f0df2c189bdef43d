"""The U-Net of the Keras example "Denoising Diffusion Probabilistic Model", in which many published Keras weights live.

    x ── conv ──┬─ level 0: R … R ───────────── skips ─────────────── concat, R … R ────────────┬─ norm, act, conv ─ out
                │      conv, stride 2           └── each block's output,       nearest ×2, conv │
                │  level 1: (R, A) … (R, A)         each downsampling's ──── concat, (R, A) …   │
                │      conv, stride 2                                                           │
                └─ middle: R, A, R ─────────────────────────────────────────────────────────────┘

R is a residual block that adds the embedded timestep, with one more per level on the way up; A is attention after every
block of a level that has it. What sets it apart from `UNet`: attention that adds to its normalized input
(`NormalizedAttention`), resampling that keeps the number of channels, one more skip per level, group normalization with
Keras's epsilon 1e-3, and timesteps 0 … T−1 as the noise level, in sines and cosines whose frequencies fall from 1 to
1/10000, both included. A label's vector is added to the embedded timestep before the last activation.

Reference: Ho et al., arXiv:2006.11239; A. K. Nain, "Denoising diffusion probabilistic model",
keras.io/examples/generative/ddpm (2022).
"""

from keras_diffusion.layers import NormalizedAttention, ResidualBlock, SinusoidalEmbedding
from keras_diffusion.layers.options import convolution
from keras_diffusion.networks.network import NETWORKS, check_positive_int
from keras_diffusion.networks.unet_levels import LevelUNet

_EPSILON = 1e-3


@NETWORKS.register("ddpm_unet")
class DDPMUNet(LevelUNet):
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

    >>> options = {"has_attention": (False, True), "num_res_blocks": 1, "first_conv_channels": 16}
    >>> network = DDPMUNet((32, 32, 3), widths=(16, 32), **options)
    >>> network({"x": keras.ops.ones((4, 32, 32, 3)), "noise_level": keras.ops.array([0, 10, 100, 999])}).shape
    (4, 32, 32, 3)

    Reference:
        Ho et al. 2020, arXiv:2006.11239, appendix B; A. K. Nain, keras.io/examples/generative/ddpm (2022).
    """

    concat_name = "up_{i}_concat_{j}"

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
        self.check_levels()
        check_positive_int(
            num_res_blocks=num_res_blocks, first_conv_channels=first_conv_channels, norm_groups=norm_groups
        )
        if len(has_attention) != len(widths):
            raise ValueError(
                f"`has_attention` needs one bool per level, as many as `widths` ({len(widths)}). Received: "
                f"has_attention={has_attention!r}"
            )
        self.has_attention = tuple(bool(flag) for flag in has_attention)
        super().__init__(name, trainable, dtype)

    def embed(self, inputs):
        dim = 4 * self.first_conv_channels
        half = dim // 2
        # The example divides the exponent by half − 1, so that the last frequency is 1/10000 itself;
        # SinusoidalEmbedding divides by half.
        sinusoids = SinusoidalEmbedding(dim, max_period=10000.0 ** (half / (half - 1)), name="time_embedding")
        embedding = self.embed_in_two_steps(sinusoids(inputs["noise_level"]), dim)
        return self.activated(self.add_label(embedding, inputs), "swish", "condition_act")

    def first(self, given):
        return convolution(2, self.first_conv_channels, 3, name="conv_in", dtype=self.policy)(given["x"])

    def block(self, h, way, i, j, given):
        h = self._residual(h, self.widths[i], f"{way}_{i}_residual_{j}", given)
        return self._attend(h, f"{way}_{i}_attention_{j}") if self.has_attention[i] else h

    def _middle(self, h, given):
        h = self._attend(self._residual(h, self.widths[-1], "middle_residual_0", given), "middle_attention")
        return self._residual(h, self.widths[-1], "middle_residual_1", given)

    def last(self, h):
        return self.finish(h, ("group", self.norm_groups, _EPSILON), "swish")

    def _residual(self, h, width, name, given):
        options = self.passed("norm_groups", norm_epsilon=_EPSILON, time_injection="add")
        return ResidualBlock(width, name=name, **options)(h, given["embedding"])

    def _attend(self, h, name):
        return NormalizedAttention(self.norm_groups, _EPSILON, name=name, dtype=self.policy)(h)
