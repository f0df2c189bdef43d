"""The discriminator of pix2pix: says of each patch of a picture whether it looks real.

    picture ─ conv, act ─ (conv, norm, act) … ─ conv, norm, act ─ conv ─▶ logits, one per patch
              └────── stride 2, a width each ──┘  └── stride 1 ──┘

Convolutions are 4×4. With three widths a logit sees 70×70 pixels: textures and edges, which is where pictures of an
autoencoder fall short, and not the scene, which it gets right without.

The norms are group norms where pix2pix has batch norms: there is no running state that real and made pictures would
have to share, a picture is judged alike in any batch, and small batches do no harm. The first layer has none, so that
brightness and contrast are seen.

Reference: Isola et al., "Image-to-image translation with conditional adversarial networks", arXiv:1611.07004, section
3.2.2.
"""

import keras

from keras_diffusion.configs.arguments import ArgumentsMixin
from keras_diffusion.configs.checks import check_number
from keras_diffusion.configs.registry import Registry
from keras_diffusion.layers.options import convolution, normalization
from keras_diffusion.networks.network import check_positive_int, wide_dtype

DISCRIMINATORS = Registry("discriminator")
DISCRIMINATORS.base(keras.Model)

_MOST = 512  # channels of the layer of stride 1, as in pix2pix


@DISCRIMINATORS.register("patch")
class PatchDiscriminator(ArgumentsMixin, keras.Model):
    """Pix2pix's discriminator of N layers, for `AutoencoderModel(discriminator=…)`.

    Args:
        channels: of pictures. Default 3.
        widths: channels of the layers that halve the size, N of them; a layer of twice the last width (at most 512) and
            the one of the logits keep it. Default (64, 128, 256), as in pix2pix, which sees 70×70 pixels; two widths
            see 34×34, one sees 16×16.
        slope: of the leaky ReLU below 0, in [0, 1). Default 0.2.
        norm_groups: groups of the group norms. Default 32; the greatest common divisor with a width is taken.

    Call arguments:
        images: `(B, H, W, channels)` in [−1, 1]; H and W at least 2^(N + 1).

    Returns:
        logits `(B, H/2^N, W/2^N, 1)`, rounded up, float32 under mixed precision: above 0 where a patch looks real.

    Raises:
        ValueError: sizes < 1; pictures that are smaller, or have other channels.

    Example:

    >>> discriminator = PatchDiscriminator(widths=(8, 16))
    >>> discriminator(keras.ops.ones((2, 16, 24, 3))).shape
    (2, 4, 6, 1)

    Reference:
        Isola et al. 2017, arXiv:1611.07004, section 3.2.2 and appendix 6.1.2; Wu & He 2018, arXiv:1803.08494.
    """

    def __init__(
        self,
        channels=3,
        widths=(64, 128, 256),
        slope=0.2,
        norm_groups=32,
        name="patch_discriminator",
        trainable=True,
        dtype=None,
    ):
        super().__init__(name=name, trainable=trainable, dtype=dtype)
        check_positive_int(channels=channels, layers=len(widths), norm_groups=norm_groups)
        check_positive_int(**{f"widths[{i}]": width for i, width in enumerate(widths)})
        self.slope = check_number("slope", slope, 0, below=1)
        self.size_least = 2 ** (len(widths) + 1)
        self.graph = self._graph()
        self.built = True

    def call(self, images):
        sides, channels = tuple(images.shape)[1:-1], images.shape[-1]
        if len(images.shape) != 4 or channels != self.channels:
            raise ValueError(
                f"This discriminator takes pictures (B, H, W, {self.channels}). Received: pictures of shape "
                f"{tuple(images.shape)}"
            )
        if any(side is not None and side < self.size_least for side in sides):
            raise ValueError(
                f"A discriminator of {len(self.widths)} widths judges pictures of at least {self.size_least}×"
                f"{self.size_least}, so that there are several patches. Received: pictures of shape "
                f"{tuple(images.shape)}, widths={self.widths}. Take fewer widths"
            )
        return self.graph(images)

    def _graph(self):
        wide = wide_dtype(self.dtype_policy)
        h = inputs = keras.Input((None, None, self.channels), name="images", dtype=wide)
        widths = [*self.widths, min(2 * self.widths[-1], _MOST)]
        for i, width in enumerate(widths):
            h = self._convolution(width, f"conv_{i}", strides=2 if i < len(self.widths) else 1)(h)
            if i > 0:
                h = normalization("group", width, self.norm_groups, 1e-5, f"norm_{i}", self.dtype_policy)(h)
            h = keras.layers.LeakyReLU(self.slope, name=f"act_{i}", dtype=self.dtype_policy)(h)
        return keras.Model(inputs, self._convolution(1, "conv_out", dtype=wide)(h), name="layers")

    def _convolution(self, filters, name, dtype=None, **options):
        return convolution(2, filters, 4, name=name, dtype=dtype or self.dtype_policy, **options)
