"""What autoencoders have in common: two halves, and latents in units that suit diffusion.

    encode:  latent = scale · (encoder(image) − shift)
    decode:  image = decoder(latent/scale + shift)

`scale` gives the latents of the training data about unit variance, and `shift` mean 0: one number for all channels, or
one for each.
"""

import keras
from keras import ops

from keras_diffusion.configs.arguments import ArgumentsMixin
from keras_diffusion.configs.checks import check_number, shown
from keras_diffusion.layers.initializers import zero_kernels
from keras_diffusion.lora.network import LoRAMixin
from keras_diffusion.networks.network import check_size, wide_dtype

HALVES = ("encoder", "decoder")


class Autoencoder(ArgumentsMixin, LoRAMixin, keras.Model):
    """Base class of autoencoders.

    A subclass has the arguments `latent_channels`, `scale`, `shift` and `halves`, and its constructor ends in
    `set_halves`. The encoder tells of an image the latents, unscaled; where it tells more, the subclass says which of
    it they are (`means`).

    Attributes:
        encoder, decoder: Keras models, or None.
        size_multiple: f, how many pixels of an axis become one position of latents.
    """

    def set_halves(self, size_multiple, encoder, decoder):
        """Builds the halves that there are.

        Args:
            size_multiple: f.
            encoder, decoder: functions that return built Keras models `images → latents` and `latents → images`.

        Raises:
            ValueError: unknown halves, a scale that is not above 0.
        """
        halves = self.halves
        if not halves or not set(halves) <= set(HALVES):
            raise ValueError(
                f"`halves` names the parts that there are: {', '.join(HALVES)}, or both. Received: halves={halves!r}"
            )
        self.set_scaling(self.scale, self.shift)
        self.halves = tuple(half for half in HALVES if half in halves)
        self.size_multiple = size_multiple
        self.encoder = encoder() if "encoder" in halves else None
        self.decoder = decoder() if "decoder" in halves else None
        self.built = True

    def set_scaling(self, scale, shift=0.0):
        """Sets `scale` and `shift`: latent = scale·(mean − shift).

        Args:
            scale: number > 0, or a sequence of `latent_channels` of them. 1/(standard deviation) of the means gives
                latents of unit variance.
            shift: number, or a sequence of `latent_channels` numbers. Default 0.

        Raises:
            ValueError: anything else.

        Example:

        >>> autoencoder = AutoencoderKL(widths=(8, 16), latent_channels=2)
        >>> autoencoder.set_scaling(scale=[0.5, 0.25], shift=[0.1, -0.3])
        >>> autoencoder.get_config()["scale"]
        [0.5, 0.25]
        """
        self.scale = _for_channels("scale", scale, self.latent_channels, above=0)
        self.shift = _for_channels("shift", shift, self.latent_channels)

    def encode(self, images):
        """Scaled latents of images, where there is a distribution of them its mean.

        Args:
            images: `(B, H, W, channels)` in [−1, 1].

        Returns:
            `(B, H/f, W/f, latent_channels)`, f = `size_multiple`.

        Raises:
            ValueError: no encoder, or a size that the levels do not divide.
        """
        return self._scaled(self.means(images))

    def means(self, images):
        """The latents of `encode` before `scale` and `shift`: `(B, H/f, W/f, latent_channels)`."""
        return self._encoded(images)

    def decode(self, latents):
        """Images of scaled latents.

        Args:
            latents: `(B, h, w, latent_channels)`.

        Returns:
            `(B, f·h, f·w, channels)`, about in [−1, 1], f = `size_multiple`.

        Raises:
            ValueError: no decoder.
        """
        self._require("decoder")
        latents = ops.convert_to_tensor(latents, self._wide)
        return self.decoder(latents / self._factor(self.scale) + self._factor(self.shift))

    def call(self, images):
        return self.decode(self.encode(images))

    @classmethod
    def join(cls, encoder, decoder):
        """One autoencoder with the encoder of one and the decoder of another.

        Args:
            encoder: autoencoder of this class with an encoder.
            decoder: one with a decoder and otherwise the same config.

        Returns:
            autoencoder with copies of their weights.

        Raises:
            ValueError: configs that differ.
        """
        configs = [{**half.get_config(), "halves": list(HALVES), "name": decoder.name} for half in (encoder, decoder)]
        differ = [key for key, value in configs[0].items() if value != configs[1][key]]
        if differ:
            received = "; ".join(f"{key}={configs[0][key]} and {configs[1][key]}" for key in differ)
            raise ValueError(f"Two halves of an autoencoder have the same config. Received: {received}")
        encoder._require("encoder")
        decoder._require("decoder")
        with zero_kernels():
            joined = cls.from_config(configs[1])
        joined.encoder.set_weights(encoder.encoder.get_weights())
        joined.decoder.set_weights(decoder.decoder.get_weights())
        return joined

    def _encoded(self, images):
        """What the encoder tells of images."""
        self._require("encoder")
        check_size(tuple(images.shape)[1:-1], self.size_multiple)
        return self.encoder(images)

    def _scaled(self, means):
        return self._factor(self.scale) * (means - self._factor(self.shift))

    def _factor(self, value):
        """`scale` or `shift` as a factor of tensors `(..., latent_channels)`."""
        return value if isinstance(value, float) else ops.convert_to_tensor(list(value), self._wide)

    def _require(self, half):
        if half not in self.halves:
            raise ValueError(
                f"This autoencoder has no {half}: it was built with halves={self.halves}. Load the file of the {half} "
                f"too and put them together with {type(self).__name__}.join(encoder, decoder)"
            )

    @property
    def _wide(self):
        # Images and latents are in float32 under mixed precision too.
        return wide_dtype(self.dtype_policy)


def _for_channels(name, value, channels, **bounds):
    """`value` as a float, or as a tuple of `channels` floats."""
    if getattr(value, "shape", ()) != ():
        value = ops.convert_to_numpy(value).tolist()
    if not isinstance(value, (list, tuple)):
        return check_number(name, value, **bounds)
    if len(value) != channels:
        raise ValueError(
            f"`{name}` is one number, or one for each of the {channels} channels of latents. Received: "
            f"{name}={shown(value)}, {len(value)} of them"
        )
    return tuple(check_number(f"{name}[{i}]", number, **bounds) for i, number in enumerate(value))
