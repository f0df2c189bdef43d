"""The autoencoder of Stable Diffusion: images to latents an eighth of their size, and back.

    encode:  image ─ conv ─ (blocks, down) … ─ block, attention, block ─ norm, act, conv ─ 1×1 ─▶ mean, log variance
             latent = scale · (mean − shift)
    decode:  latent/scale + shift ─ 1×1 ─ conv ─ block, attention, block ─ (blocks, up) … ─ norm, act, conv ─▶ image

Diffusion then runs on 64×64×4 numbers in place of 512×512×3. `scale` gives the latents of the training data about unit
variance, and `shift` mean 0: one number for all channels, or one for each.

The encoder tells a normal distribution of latents, kept close to N(0, I) in training by its Kullback–Leibler divergence
(hence the name); `encode` takes its mean, which is also its mode, and `sample` draws from it. Encoder and decoder may
be there alone: to generate, the decoder suffices.

Reference: Rombach et al., "High-resolution image synthesis with latent diffusion models", arXiv:2112.10752, section
3.1.
"""

import keras
from keras import ops

from keras_diffusion.configs.registry import serializable
from keras_diffusion.layers import AttentionBlock, Downsample, ResidualBlock, Upsample
from keras_diffusion.layers.options import convolution, get_activation, normalization
from keras_diffusion.networks.autoencoder import HALVES, Autoencoder, scaled
from keras_diffusion.networks.network import check_positive_int

_LOG_VARIANCE_RANGE = (-30.0, 20.0)


@serializable
class AutoencoderKL(Autoencoder):
    """Encoder and decoder between images and latents; `DiffusionModel(autoencoder=…)` diffuses the latents.

    Args:
        widths: channels of each level, finest first; every level but the last halves the size. Default (128, 256, 512,
            512).
        num_res_blocks: blocks per level of the encoder; the decoder has one more. Default 2.
        channels: of images. Default 3.
        latent_channels: of latents. Default 4.
        scale: factor on latents > 0, one number or one per channel. Default 0.18215, Stable Diffusion's.
        shift: subtracted from the mean before `scale`, for latents about 0; one number or one per channel. Default 0.
        quant_convs: whether there are 1×1 convolutions: behind the encoder, before the decoder. Default (True, True).
        attention: whether the middle has attention. Default True.
        activation: default "swish".
        norm_groups: groups of the group norms. Default 32; the greatest common divisor with a width is taken.
        norm_epsilon: of the group norms. Default 1e-6; KerasCV has 1e-5.
        halves: which of "encoder" and "decoder" there are. Default both.

    Call arguments:
        images: `(B, H, W, channels)` in [−1, 1]; H and W multiples of 2^(levels − 1).

    Returns:
        `decode(encode(images))`, `(B, H, W, channels)`.

    Raises:
        ValueError: sizes < 1, unknown halves, a scale that is not above 0; `encode` without an encoder, `decode`
            without a decoder; images of a size that the levels do not divide.

    Example:

    >>> autoencoder = AutoencoderKL(widths=(32, 64))
    >>> latents = autoencoder.encode(keras.ops.ones((2, 16, 24, 3)))
    >>> latents.shape, autoencoder.decode(latents).shape
    ((2, 8, 12, 4), (2, 16, 24, 3))

    Reference:
        Rombach et al. 2022, arXiv:2112.10752, section 3.1; Kingma & Welling 2013, arXiv:1312.6114.
    """

    def __init__(
        self,
        widths=(128, 256, 512, 512),
        num_res_blocks=2,
        channels=3,
        latent_channels=4,
        scale=0.18215,
        norm_groups=32,
        norm_epsilon=1e-6,
        halves=HALVES,
        shift=0.0,
        quant_convs=(True, True),
        attention=True,
        activation="swish",
        name="autoencoder_kl",
        trainable=True,
        dtype=None,
    ):
        super().__init__(name=name, trainable=trainable, dtype=dtype)
        check_positive_int(
            levels=len(widths), num_res_blocks=num_res_blocks, channels=channels, latent_channels=latent_channels
        )
        check_positive_int(norm_groups=norm_groups, **{f"widths[{i}]": width for i, width in enumerate(widths)})
        self.activation = get_activation(activation)
        self.set_halves(2 ** (len(widths) - 1), self._encoder, self._decoder)

    def means(self, images, tile_size=None, tile_overlap=None, batch_size=None):
        """The means of the distributions that `moments` tells.

        Args:
            images: `(B, H, W, channels)` in [−1, 1].
            tile_size, tile_overlap, batch_size: see `decode`.

        Returns:
            `(B, H/f, W/f, latent_channels)`, f = 2^(levels − 1).
        """
        return self.moments(images, tile_size, tile_overlap, batch_size)[0]

    def moments(self, images, tile_size=None, tile_overlap=None, batch_size=None):
        """The distribution of latents, before `scale`.

        Args:
            images: `(B, H, W, channels)` in [−1, 1].
            tile_size, tile_overlap, batch_size: see `decode`.

        Returns:
            (mean, log variance), each `(B, H/f, W/f, latent_channels)`, f = 2^(levels − 1).

        Raises:
            ValueError: no encoder, or a size that the levels do not divide.
        """
        mean, log_variance = ops.split(self._encoded(images, tile_size, tile_overlap, batch_size), 2, axis=-1)
        return mean, ops.clip(log_variance, *_LOG_VARIANCE_RANGE)

    def sample(self, images, noise):
        """Scaled latents drawn from the distributions of images: mean + standard deviation · noise.

        Args:
            images: `(B, H, W, channels)` in [−1, 1].
            noise: standard normal numbers `(B, H/f, W/f, latent_channels)`, f = 2^(levels − 1). Zeros give `encode`.

        Returns:
            `(B, H/f, W/f, latent_channels)`.

        Raises:
            ValueError: no encoder, or a size that the levels do not divide.
        """
        mean, log_variance = self.moments(images)
        return scaled(self, mean + ops.exp(0.5 * log_variance) * ops.convert_to_tensor(noise, mean.dtype))

    def _encoder(self):
        h = inputs = keras.Input((None, None, self.channels), name="images", dtype=self._wide)
        h = self._convolution(self.widths[0], 3, "conv_in")(h)
        for i, width in enumerate(self.widths):
            for j in range(self.num_res_blocks):
                h = self._block(width, f"down_{i}_{j}")(h)
            if i < len(self.widths) - 1:
                h = Downsample(width, name=f"down_{i}_downsample", dtype=self.dtype_policy)(h)
        h = self._out(self._middle(h), 2 * self.latent_channels)
        if self.quant_convs[0]:
            h = self._convolution(2 * self.latent_channels, 1, "conv_moments", self._wide)(h)
        return keras.Model(inputs, h, name="encoder")

    def _decoder(self):
        h = inputs = keras.Input((None, None, self.latent_channels), name="latents", dtype=self._wide)
        if self.quant_convs[1]:
            h = self._convolution(self.latent_channels, 1, "conv_latents", self._wide)(h)
        h = self._middle(self._convolution(self.widths[-1], 3, "conv_in")(h))
        for i, width in reversed(list(enumerate(self.widths))):
            for j in range(self.num_res_blocks + 1):
                h = self._block(width, f"up_{i}_{j}")(h)
            if i > 0:
                h = Upsample(width, name=f"up_{i}_upsample", dtype=self.dtype_policy)(h)
        return keras.Model(inputs, self._out(h, self.channels), name="decoder")

    def _middle(self, h):
        h = self._block(self.widths[-1], "middle_0")(h)
        if self.attention:
            h = AttentionBlock(num_heads=1, name="middle_attention", **self._common())(h)
        return self._block(self.widths[-1], "middle_1")(h)

    def _out(self, h, channels):
        h = normalization("group", h.shape[-1], self.norm_groups, self.norm_epsilon, "norm_out", self.dtype_policy)(h)
        h = keras.layers.Activation(self.activation, name="act_out", dtype=self.dtype_policy)(h)
        return self._convolution(channels, 3, "conv_out", self._wide)(h)

    def _block(self, width, name):
        options = {"activation": self.activation, "time_injection": None, **self._common()}
        return ResidualBlock(width, name=f"{name}_residual", **options)

    def _common(self):
        return {"norm_groups": self.norm_groups, "norm_epsilon": self.norm_epsilon, "dtype": self.dtype_policy}

    def _convolution(self, filters, kernel_size, name, dtype=None):
        return convolution(2, filters, kernel_size, name=name, dtype=dtype or self.dtype_policy)
