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
    PerFrame,
    ResidualBlock,
    SpatialTransformer,
    TemporalConvolution,
    TemporalTransformer,
    Upsample,
)
from keras_diffusion.layers.options import convolution, get_activation, normalization
from keras_diffusion.networks.network import NETWORKS, check_positive_int
from keras_diffusion.networks.unet_levels import TextUNet


@NETWORKS.register("unet_3d")
class UNet3D(TextUNet):
    """U-Net for videos with optional text and class labels, for timesteps as the noise level.

    Use it with a predictor that tells it timesteps: `EpsilonPredictor(condition="timestep")`.

    Args:
        input_shape: `(F, H, W, C)` of the samples that `generate` makes: F frames; any F runs, and any H and W that are
            multiples of 2^(levels − 1). None where any size goes. Default (None, None, None, 4).
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

    Reference:
        Ho et al. 2022, arXiv:2204.03458; Wang et al. 2023, arXiv:2308.06571.
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
        if len(input_shape) != 4:
            raise ValueError(
                "UNet3D takes videos: `input_shape` must be (F, H, W, C), F frames, without the batch axis. "
                f"Received: input_shape={tuple(input_shape)}. Use UNet2DCondition for images"
            )
        self.check_levels(rank=None)
        check_positive_int(norm_groups=norm_groups)
        self.check_text_levels()
        self.activation = get_activation(activation)
        super().__init__(name, trainable, dtype)

    def halved_axes(self, size):
        return size[1:]

    def first(self, given):
        return self._convolution(self.seen(given), self.widths[0], "conv_in", dtype=self.policy)

    def residual(self, h, level, name, given):
        options = self.passed("norm_groups", "activation", "dropout", "seed", "remat")
        space = {"time_injection": "add", "norm_epsilon": self.norm_epsilon}
        block = ResidualBlock(self.widths[level], name=f"{name}_residual", **space, **options)
        epsilon = self.norm_epsilon if self.time_norm_epsilon is None else self.time_norm_epsilon
        time = TemporalConvolution(name=f"{name}_time", norm_epsilon=epsilon, **options)
        return time(self._per_frame(block)(h, given["embedding"]))

    def transform(self, h, level, name, given):
        heads = self._heads[level]
        options = {
            "num_heads": heads,
            "head_dim": self.widths[level] // heads,
            "depth": self._depths[level],
            "activation": self.feed_forward_activation,
            **self.passed("norm_groups", "norm_epsilon", "flash_attention", "remat"),
        }
        context = self.context_of(given)
        spatial = SpatialTransformer(name=f"{name}_transformer", cross_attention=bool(context), **options)
        condition = {key.replace("context", "condition"): tensor for key, tensor in context.items()}
        h = self._per_frame(spatial)(h, **condition)
        return TemporalTransformer(name=f"{name}_time_transformer", **options)(h)

    def downsample(self, h, i, given):
        layer = Downsample(self.widths[i], symmetric=True, name=f"down_{i}_downsample", dtype=self.policy)
        return self._per_frame(layer)(h)

    def upsample(self, h, i, given):
        return self._per_frame(Upsample(self.widths[i], name=f"up_{i}_upsample", dtype=self.policy))(h)

    def last(self, h):
        norm = normalization("group", self.widths[0], self.norm_groups, self.norm_epsilon, "norm_out", self.policy)
        h = keras.layers.Activation(self.activation, name="act_out", dtype=self.policy)(self._per_frame(norm)(h))
        # In float32 under mixed precision too: sampling adds up many outputs, and 8 bits would show.
        return self._convolution(h, self.channels_out, "conv_out", kernel_initializer="zeros", dtype=self.wide)

    def _per_frame(self, layer):
        return PerFrame(layer, name=f"{layer.name}_per_frame", dtype=self.policy)

    def _convolution(self, h, filters, name, **options):
        layer = convolution(3, filters, 3, name=name, **options)
        if self.flaxdiff_compatible:
            layer = AsOneVideo(layer, name=f"{name}_across", dtype=layer.dtype_policy)
        return layer(h)
