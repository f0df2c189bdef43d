"""An autoencoder whose latents are codes: rounded, or taken from a learned codebook.

    encode:  image ─ encoder ─ bottleneck.latents ─ scale·(· − shift) ─▶ latents, continuous
    decode:  latents ─ 1/scale, shift ─ bottleneck.discretized ─ decoder ─▶ image

A diffusion model learns the latents as they are before quantization, and quantization is the decoder's first layer
(Rombach et al.); so what it makes need not lie on codes.
"""

import keras
from keras import ops

from keras_diffusion.configs.arguments import ArgumentsMixin
from keras_diffusion.configs.checks import shown
from keras_diffusion.configs.registry import serializable
from keras_diffusion.layers.bottleneck import BOTTLENECKS
from keras_diffusion.networks.autoencoder import checked_scaling, scaled, unscaled


@serializable
class QuantizedAutoencoder(ArgumentsMixin, keras.Model):
    """`AutoencoderKL`, or another autoencoder, with a bottleneck of codes; its own scale does not count.

    Args:
        autoencoder: model with `moments` and `decode`, such as `AutoencoderKL`; its log variance is left out.
        bottleneck: `Bottleneck` with codes, or its name: "fsq" or "vq".
        scale: factor on latents, one number or one per channel. Default 1.
        shift: subtracted before `scale`, likewise. Default 0.

    Call arguments:
        images: `(B, H, W, channels)` in [−1, 1].

    Returns:
        `decode(encode(images))`, `(B, H, W, channels)`.

    Raises:
        ValueError: a bottleneck without codes, or for other latent channels; a scale that is not above 0.

    Example:

    >>> inner = AutoencoderKL(widths=(32, 64), latent_channels=3)
    >>> autoencoder = QuantizedAutoencoder(inner, keras_diffusion.layers.FSQBottleneck((8, 6, 5)))
    >>> autoencoder.codes(keras.ops.ones((2, 16, 24, 3))).shape
    (2, 8, 12)

    Reference:
        Mentzer et al. 2023, arXiv:2309.15505; van den Oord et al. 2017, arXiv:1711.00937; Rombach et al. 2022,
        arXiv:2112.10752, section 3.1, on the quantization in the decoder.
    """

    def __init__(self, autoencoder, bottleneck="fsq", scale=1.0, shift=0.0, name="quantized_autoencoder", **kwargs):
        super().__init__(name=name, **kwargs)
        self.autoencoder, self.bottleneck = autoencoder, BOTTLENECKS.get(bottleneck)
        if self.bottleneck.num_codes is None:
            raise ValueError(
                f"Codes come from a bottleneck that has some: 'fsq' or 'vq'. Received: bottleneck={shown(bottleneck)}"
            )
        self.bottleneck.check_channels(autoencoder.latent_channels)
        self.set_scaling(scale, shift)
        self.built = True

    @property
    def channels(self):
        """Channels of images."""
        return self.autoencoder.channels

    @property
    def latent_channels(self):
        """Channels of latents."""
        return self.autoencoder.latent_channels

    @property
    def size_multiple(self):
        """What sides of images are multiples of."""
        return getattr(self.autoencoder, "size_multiple", 1)

    def moments(self, images):
        """What the encoder says: (mean, log variance), before bottleneck and scale.

        Args:
            images: `(B, H, W, channels)` in [−1, 1].

        Returns:
            two tensors `(B, h, w, latent_channels)`.
        """
        return self.autoencoder.moments(images)

    def set_scaling(self, scale, shift=0.0):
        """Sets `scale` and `shift`.

        Args:
            scale: number > 0, or one per channel.
            shift: number, or one per channel. Default 0.

        Raises:
            ValueError: anything else.
        """
        self.scale, self.shift = checked_scaling(scale, shift, self.latent_channels)

    def encode(self, images):
        """Scaled latents of images, continuous.

        Args:
            images: `(B, H, W, channels)` in [−1, 1].

        Returns:
            `(B, h, w, latent_channels)`.
        """
        return scaled(self, self.bottleneck.latents(self.moments(images)[0]))

    def codes(self, images):
        """Numbers of the codes of images.

        Args:
            images: `(B, H, W, channels)` in [−1, 1].

        Returns:
            integers `(B, h, w)`, below `bottleneck.num_codes`.
        """
        return self.bottleneck.codes(self.bottleneck.discretized(self.bottleneck.latents(self.moments(images)[0])))

    def decode(self, latents):
        """Images of scaled latents, which are quantized first.

        Args:
            latents: `(B, h, w, latent_channels)`.

        Returns:
            `(B, H, W, channels)`, about in [−1, 1].
        """
        latents = unscaled(self, ops.convert_to_tensor(latents))
        quantized = latents + ops.stop_gradient(self.bottleneck.discretized(latents) - latents)
        return self.autoencoder.decode(scaled(self.autoencoder, quantized))

    def call(self, images):
        return self.decode(self.encode(images))
