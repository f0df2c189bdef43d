"""A small autoencoder for the latents of a large one: TAESD, TAESDXL, TAESD3, TAEF1.

    encode:  (image + 1)/2 ─ conv, blocks ─ (conv of stride 2, blocks) … ─ conv ─▶ latent
    decode:  3·tanh(latent/3) ─ conv, act ─ blocks, up, conv … ─ blocks, conv ─▶ 2·image − 1
    block:   relu(x + conv(act(conv(act(conv(x))))))

All convolutions are 3×3, and of one width; there are neither norms nor attention. It was distilled from the autoencoder
of Stable Diffusion (or of Stable Diffusion XL, 3, or Flux), whose scaled latents are its own: `scale` is 1. With a
fiftieth of the weights it decodes many times faster, with somewhat less detail: for previews at every step, and where
the large one does not fit.

Its latents lie within ±3 but for some, so that a picture of a byte per number keeps them: `to_bytes`, `from_bytes`.

Reference: O. Bohan, "Tiny AutoEncoder for Stable Diffusion", https://github.com/madebyollin/taesd; the class
`AutoencoderTiny` of diffusers.
"""

import keras
from keras import ops

from keras_diffusion.configs.checks import check_number
from keras_diffusion.configs.registry import serializable
from keras_diffusion.layers import Downsample, Upsample
from keras_diffusion.layers.options import convolution, get_activation
from keras_diffusion.networks.autoencoder import HALVES, Autoencoder
from keras_diffusion.networks.network import check_positive_int

_LIMIT = 3.0  # of what the decoder sees


@serializable
class AutoencoderTiny(Autoencoder):
    """Encoder and decoder of convolutions alone; `DiffusionModel(autoencoder=…)` diffuses the latents.

    Args:
        width: channels of all levels. Default 64.
        encoder_blocks: blocks of each level, finest first; every level but the first begins with halving the size.
            Default (1, 3, 3, 3).
        decoder_blocks: blocks of each level, coarsest first; every level but the last ends with doubling the size; as
            many levels as the encoder has. Default (3, 3, 3, 1).
        channels: of images. Default 3.
        latent_channels: of latents. Default 4; Stable Diffusion 3 and Flux have 16.
        activation: within blocks, whose end is a ReLU. Default "relu".
        scale: factor on latents > 0, one number or one per channel. Default 1.
        shift: subtracted before `scale`; one number or one per channel. Default 0.
        latent_magnitude: latents up to this magnitude become bytes. Default 3.
        latent_shift: the byte's share of 255 that stands for a latent of 0. Default 0.5.
        halves: which of "encoder" and "decoder" there are. Default both.

    Call arguments:
        images: `(B, H, W, channels)` in [−1, 1]; H and W multiples of 2^(levels − 1).

    Returns:
        `decode(encode(images))`, `(B, H, W, channels)`.

    Raises:
        ValueError: sizes < 1, an encoder and a decoder of different depth, unknown halves; `encode` without an encoder,
            `decode` without a decoder; images of a size that the levels do not divide.

    Example:

    >>> autoencoder = AutoencoderTiny(width=8)
    >>> latents = autoencoder.encode(keras.ops.ones((2, 16, 24, 3)))
    >>> latents.shape, autoencoder.decode(latents).shape
    ((2, 2, 3, 4), (2, 16, 24, 3))

    Reference:
        O. Bohan, https://github.com/madebyollin/taesd.
    """

    def __init__(
        self,
        width=64,
        encoder_blocks=(1, 3, 3, 3),
        decoder_blocks=(3, 3, 3, 1),
        channels=3,
        latent_channels=4,
        activation="relu",
        scale=1.0,
        shift=0.0,
        latent_magnitude=3.0,
        latent_shift=0.5,
        halves=HALVES,
        name="autoencoder_tiny",
        trainable=True,
        dtype=None,
    ):
        super().__init__(name=name, trainable=trainable, dtype=dtype)
        levels = len(encoder_blocks)
        check_positive_int(width=width, channels=channels, latent_channels=latent_channels, levels=levels)
        for argument in ("encoder_blocks", "decoder_blocks"):
            blocks = getattr(self, argument)
            check_positive_int(**{f"{argument}[{i}]": count for i, count in enumerate(blocks)})
        if len(decoder_blocks) != levels:
            raise ValueError(
                "The decoder doubles as often as the encoder halves. Received: "
                f"encoder_blocks={self.encoder_blocks}, decoder_blocks={self.decoder_blocks}"
            )
        self.latent_magnitude = check_number("latent_magnitude", latent_magnitude, above=0)
        self.latent_shift = check_number("latent_shift", latent_shift, 0, 1)
        self.activation = get_activation(activation)
        self.set_halves(2 ** (levels - 1), self._encoder, self._decoder)

    def to_bytes(self, latents):
        """Scaled latents as a picture of bytes.

        Args:
            latents: `(B, h, w, latent_channels)`.

        Returns:
            uint8 `(B, h, w, latent_channels)`: 255·(latent/(2·magnitude) + shift), magnitude and shift being
            `latent_magnitude` and `latent_shift`; beyond ±magnitude the nearest byte.
        """
        share = ops.convert_to_tensor(latents, self._wide) / (2.0 * self.latent_magnitude) + self.latent_shift
        return ops.cast(ops.round(255.0 * ops.clip(share, 0.0, 1.0)), "uint8")

    def from_bytes(self, picture):
        """The inverse of `to_bytes`, within 1/85 for a magnitude of 3.

        Args:
            picture: uint8 `(B, h, w, latent_channels)`.

        Returns:
            latents `(B, h, w, latent_channels)`.
        """
        share = ops.cast(ops.convert_to_tensor(picture), self._wide) / 255.0
        return 2.0 * self.latent_magnitude * (share - self.latent_shift)

    def _encoder(self):
        h = inputs = keras.Input((None, None, self.channels), name="images", dtype=self._wide)
        h = self._convolution("conv_in")((h + 1.0) / 2.0)
        for i, count in enumerate(self.encoder_blocks):
            if i > 0:
                down = Downsample(self.width, symmetric=True, use_bias=False, name=f"down_{i}", dtype=self.dtype_policy)
                h = down(h)
            h = self._blocks(h, i, count)
        return keras.Model(inputs, self._convolution("conv_out", self.latent_channels, self._wide)(h), name="encoder")

    def _decoder(self):
        h = inputs = keras.Input((None, None, self.latent_channels), name="latents", dtype=self._wide)
        h = self._convolution("conv_in")(_LIMIT * ops.tanh(h / _LIMIT))
        h = keras.layers.Activation(self.activation, name="act_in", dtype=self.dtype_policy)(h)
        for i, count in enumerate(self.decoder_blocks):
            h = self._blocks(h, i, count)
            if i < len(self.decoder_blocks) - 1:
                h = Upsample(self.width, use_bias=False, name=f"up_{i}", dtype=self.dtype_policy)(h)
        h = self._convolution("conv_out", self.channels, self._wide)(h)
        return keras.Model(inputs, 2.0 * h - 1.0, name="decoder")

    def _blocks(self, h, level, count):
        for j in range(count):
            x, name = h, f"block_{level}_{j}"
            for k in range(3):
                h = self._convolution(f"{name}_conv_{k}")(h)
                if k < 2:
                    h = keras.layers.Activation(self.activation, name=f"{name}_act_{k}", dtype=self.dtype_policy)(h)
            h = keras.layers.Add(name=f"{name}_add", dtype=self.dtype_policy)([x, h])
            h = keras.layers.Activation("relu", name=f"{name}_relu", dtype=self.dtype_policy)(h)
        return h

    def _convolution(self, name, filters=None, dtype=None):
        return convolution(2, filters or self.width, 3, name=name, dtype=dtype or self.dtype_policy)
