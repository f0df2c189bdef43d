"""The U-Net of FlaxDiff (`Unet`, in 2024 `SimpleUNet`), in all the forms it has had; by default the last one, with its
defects repaired.

    x ─ conv ─┬─ blocks ──┬─────────────────── concat, blocks ─ upsample ─┬─ conv ─ concat, block ─ norm, act, conv
              │  ↓ conv   └── skips ──┘                                   │
              │  blocks, attention ── … middle: block, attention, block   │
              └───────────────────────────────────────────────────────────┘

It differs from `UNet` in where widths change: a level's blocks on the way down keep the width that comes in, and the
downsampling after them leads to the level's own; the first skip goes around everything, into a last block.

What FlaxDiff does otherwise, and what says so here (a checkpoint's family sets these itself):

    adds the normalized input after attention, and loses the identity path   "residual": "normalized"
    attends to the text alone, or to nothing                                 "only_pure_attention", attention=None
    attends within rows or columns, or lets column w see token w             "attention_over"
    upsamples to the width of another level than the one that follows        upsample_widths="flaxdiff"
    requires a text                                                          `context_dim`

Reference: FlaxDiff, github.com/AshishKumar4/FlaxDiff, flaxdiff/models/simple_unet.py.
"""

from keras_diffusion.configs.checks import check_choice
from keras_diffusion.layers import (
    Downsample,
    FlaxFourierEmbedding,
    FlaxTransformerBlock,
    ResidualBlock,
    SinusoidalEmbedding,
    TimeProjection,
    Upsample,
)
from keras_diffusion.layers.activations import gelu_tanh
from keras_diffusion.layers.options import convolution, get_activation
from keras_diffusion.networks.network import NETWORKS, TIME_EMBEDDINGS, check_positive_int
from keras_diffusion.networks.unet_levels import LevelUNet, paired_middle

UPSAMPLE_WIDTHS = ("next", "flaxdiff")
_BLOCK_OPTIONS = ("dropout", "seed", "remat", "zero_init")
_ATTENTION_OPTIONS = (
    "num_heads head_dim cross_attention use_self_and_cross only_pure_attention use_projection norm_inputs "
    "explicitly_add_residual residual attention_over norm_epsilon flash_attention"
).split()


@NETWORKS.register("flax_unet")
class FlaxUNet(LevelUNet):
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

    Reference:
        FlaxDiff's `Unet`, flaxdiff/models/simple_unet.py.
    """

    hides_padding = False

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
        self.check_levels()
        check_positive_int(num_res_blocks=num_res_blocks, embedding_dim=embedding_dim)

        if upsample_widths not in UPSAMPLE_WIDTHS:
            raise ValueError(
                f"`upsample_widths` must be one of {', '.join(UPSAMPLE_WIDTHS)}. Received: "
                f"upsample_widths={upsample_widths!r}"
            )
        self.activation = get_activation(activation)
        defaults = {"cross_attention": context_dim is not None, "norm_epsilon": norm_epsilon}
        entries = _attention_per_level(attention, len(widths), defaults)
        entries.append(entries[-1] if middle_attention == "last" else _attention_entry(middle_attention, defaults))
        if context_dim is not None and not any(entry and entry["cross_attention"] for entry in entries):
            raise ValueError(
                "A context enters through attention, and this network has none for it. "
                f"Received: context_dim={context_dim}, attention={attention!r}"
            )
        self._attention = entries  # of each level, and of the middle
        super().__init__(name, trainable, dtype)

    def first(self, given):
        return self._convolution(self.seen(given), self.widths[0], "conv_in", self.conv_in_kernel)

    def embed(self, inputs):
        dim = self.embedding_dim
        rule = f"Unknown time embedding: {self.time_embedding!r}. Known ones: {', '.join(TIME_EMBEDDINGS)}"
        check_choice("time_embedding", self.time_embedding, TIME_EMBEDDINGS, rule)
        if self.time_embedding == "fourier":
            layer = FlaxFourierEmbedding(dim, self.fourier_stream, name="time_embedding")
        else:
            # FlaxDiff divides the exponent by dim/2 − 1, so that the last frequency is 1/10000 itself;
            # SinusoidalEmbedding divides by dim/2.
            half = dim // 2
            layer = SinusoidalEmbedding(dim, max_period=10000.0 ** (half / max(half - 1, 1)), name="time_embedding")
        options = {"activation": gelu_tanh, "name": "time_projection", "dtype": self.wide}
        return TimeProjection(dim, **options)(layer(inputs["noise_level"]))

    def _down(self, h, skips, given):
        for i, width in enumerate(self.widths):
            for j in range(self.num_res_blocks):
                h = self.block_of(h, h.shape[-1], f"down_{i}_residual_{j}", given)
                if j == self.num_res_blocks - 1:
                    h = self.attend(h, i, f"down_{i}_attention", given)
                skips.append(h)
            if i < len(self.widths) - 1:
                h = Downsample(width, self.downsample_kernel, name=f"down_{i}_downsample", dtype=self.policy)(h)
        return h

    def _middle(self, h, given):
        if self.middle_conv:
            h = self._convolution(h, self.widths[-1], "middle_conv")
        return paired_middle(self, h, given, separable=self.separable)

    def _up(self, h, skips, given):
        # Levels on the way up are counted from the coarsest, as FlaxDiff does.
        last = len(self.widths) - 1
        for i, width in enumerate(reversed(self.widths)):
            for j in range(self.num_res_blocks):
                special = {"separable": True, "kernel_size": 2 * j + 3} if self.separable and j > 0 else {}
                h = self.join(h, skips.pop(), f"up_{i}_concat_{j}")
                h = self.block_of(h, width, f"up_{i}_residual_{j}", given, **special)
            h = self.attend(h, last - i, f"up_{i}_attention", given)
            if i < last:
                target = self.widths[last - 1 - i] if self.upsample_widths == "next" else self.widths[-i]
                h = Upsample(target, name=f"up_{i}_upsample", dtype=self.policy)(h)
        if self.up_conv:
            h = self._convolution(h, self.widths[0], "up_conv")
        return self.block_of(self.join(h, skips.pop(), "final_concat"), self.widths[0], "final_residual", given)

    def last(self, h):
        norm = (self._norm, self.norm_groups, self.norm_out_epsilon)
        start = "zeros" if self.zero_init else "glorot_uniform"
        return self.finish(h, norm, self.activation, self.conv_out_kernel, start)

    @property
    def _norm(self):
        return "rms" if self.norm_groups == 0 else "group"

    def block_of(self, h, width, name, given, **options):
        """A residual block.

        Args:
            h: features `(None, ..., channels)`.
            width: channels of the output.
            name: of the layer.
            given: the dict of inputs and "embedding".

        Returns:
            features `(None, ..., width)`.
        """
        names = ("norm_groups", "norm_epsilon", "activation", "time_injection")
        options = self.passed(*names, *_BLOCK_OPTIONS, norm=self._norm, **options)
        return ResidualBlock(width, name=name, **options)(h, given["embedding"])

    def attend(self, h, level, name, given):
        """The attention of a level, where it has some.

        Args:
            h: features of the level.
            level: its number; −1 is the coarsest, the middle's.
            name: of the layer.
            given: the dict of inputs and "embedding"; attention sees its "context".

        Returns:
            features like `h`.
        """
        entry = self._attention[level]
        if entry is None:
            return h
        block = FlaxTransformerBlock(**entry, name=name, **self.passed(*_BLOCK_OPTIONS))
        return block(h, context=given["context"]) if entry["cross_attention"] else block(h)

    def _convolution(self, h, width, name, kernel_size=3):
        return convolution(2, width, kernel_size, name=name, dtype=self.policy)(h)

    def call(self, inputs, training=None, mask=None):
        if isinstance(inputs, dict) and "context" not in self.condition_keys:
            inputs = {key: value for key, value in inputs.items() if key != "context"}
        return super().call(inputs, training=training, mask=mask)


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
            "An entry of `attention` is None, or a dict with some of "
            f"{', '.join(_ATTENTION_OPTIONS)}. Received: {entry!r}"
        )
    return {**defaults, **entry}
