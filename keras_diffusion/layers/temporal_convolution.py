"""Convolution along time: four times norm → act → convolution over three frames, added to the video.

    out = x + f₄(f₃(f₂(f₁(x)))),      f_i(h) = conv_i(dropout(act(norm_i(h)))),      kernels (3, 1, 1)

Between blocks that see single frames it carries what one frame knows to its neighbours; four kernels of three frames
reach four frames in either direction. Positions of a frame do not mix. The norm's statistics are those of all frames.
With `zero_init` conv₄ starts at 0: the network starts as one for images. f₁ has no dropout, as what comes before has.

Reference: Wang et al., "ModelScope text-to-video technical report", arXiv:2308.06571.
"""

from keras import ops

from keras_diffusion.configs.registry import serializable
from keras_diffusion.layers.layer import Layer, built
from keras_diffusion.layers.options import check_dropout, convolution, get_activation, normalization

_STEPS = 4


@serializable
class TemporalConvolution(Layer):
    """Four convolutions over neighbouring frames, added to x.

    Args:
        norm_groups: of the group norms. Default 32; the greatest common divisor with the channels is taken.
        norm_epsilon: added to the variance. Default 1e-5.
        activation: name or function. Default "swish".
        dropout: share of activations that training sets to 0, in [0, 1). Default 0.
        zero_init: whether the last convolution starts at 0. Default True.
        seed: int or None; of dropout.
        remat: whether training computes the layer again on the way back, instead of remembering it: less memory, more
            time. Default False.

    Call arguments:
        x: `(B, F, H, W, C)`.
        training: whether dropout drops.

    Returns:
        `(B, F, H, W, C)`.

    Raises:
        ValueError: an unknown activation; `dropout` outside [0, 1).

    Example:

    >>> TemporalConvolution()(keras.ops.ones((2, 5, 4, 6, 32))).shape
    (2, 5, 4, 6, 32)
    """

    def __init__(
        self,
        norm_groups=32,
        norm_epsilon=1e-5,
        activation="swish",
        dropout=0.0,
        zero_init=True,
        seed=None,
        remat=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_dropout(dropout)
        self.activation = get_activation(activation)
        self.seed_generator = self._dropout_generator()

    def build(self, x_shape):
        channels = x_shape[-1]
        self.norms, self.convolutions = [], []
        for i in range(1, _STEPS + 1):
            last = "zeros" if self.zero_init and i == _STEPS else "glorot_uniform"
            norm = normalization("group", channels, self.norm_groups, self.norm_epsilon, f"norm{i}", self.dtype_policy)
            conv = convolution(
                3, channels, (3, 1, 1), kernel_initializer=last, name=f"conv{i}", dtype=self.dtype_policy
            )
            self.norms.append(built(norm, x_shape))
            self.convolutions.append(built(conv, x_shape))

    def call(self, x, training=False):
        masks = self._dropout_masks(_STEPS - 1, ops.shape(x), training)
        return self._recomputed(self._run, training)(x, *masks)

    def _run(self, x, *masks):
        h = x
        for i, (norm, conv) in enumerate(zip(self.norms, self.convolutions, strict=True)):
            h = self.activation(norm(h))
            h = conv(h * masks[i - 1] if masks and i > 0 else h)
        return x + h
