"""Bottlenecks: what keeps the latents of an autoencoder simple enough for a second model to learn them.

    kl      z = mean + std·ε,   loss KL(N(mean, std²) ‖ N(0, 1))                     continuous
    fsq     each number rounded to one of a few levels                               ∏ levels codes, no loss
    vq      each vector replaced by the nearest of a learned codebook, loss |z − code|²

Rounding and replacing have no derivative: on the way back they count as the identity (straight-through).
"""

import keras
import numpy as np
from keras import ops

from keras_diffusion.configs.checks import check_number, check_whole, shown
from keras_diffusion.configs.registry import Registry
from keras_diffusion.layers.layer import Layer

BOTTLENECKS = Registry("bottleneck", default="kl")

_EPSILON = 1e-3  # what FSQ leaves between the last level and the end of its tanh


@BOTTLENECKS.base
class Bottleneck(Layer):
    """Base class of bottlenecks.

    Call arguments:
        mean: what the encoder says, `(B, h, w, D)`.
        log_variance: likewise.
        noise: standard normal, shaped like `mean`; None for none.

    Returns:
        dict with "latents" `(B, h, w, D)`, which go to the decoder; "losses", a dict from names to tensors `(B,)`; and,
        where latents are codes, "codes", integers `(B, h, w)`.

    Attributes:
        num_codes: number of codes, or None where latents are continuous.
        needs_variance: whether the encoder's log variance counts.
        loss_names: names of its losses, a tuple.
    """

    num_codes: int | None = None
    needs_variance = False
    loss_names: tuple[str, ...] = ()

    def call(self, mean, log_variance, noise=None):
        latents = self.latents(mean)
        quantized = self.discretized(latents)
        codes = {} if self.num_codes is None else {"codes": self.codes(quantized)}
        straight = latents + ops.stop_gradient(quantized - latents)
        return {"latents": straight, "losses": self.losses_of(latents, quantized), **codes}

    def check_channels(self, channels):
        """Raises unless the bottleneck is one for latents of so many channels.

        Args:
            channels: int, D.

        Raises:
            ValueError: it is for another number.
        """

    def latents(self, mean):
        """The continuous latents, which a diffusion model learns.

        Args:
            mean: what the encoder says, `(B, h, w, D)`.

        Returns:
            tensor like `mean`.
        """
        return mean

    def discretized(self, latents):
        """The latents that the decoder gets, on codes where there are some; without a derivative of its own.

        Args:
            latents: `(B, h, w, D)`.

        Returns:
            tensor like `latents`.
        """
        return latents

    def codes(self, quantized):
        """Numbers of the codes.

        Args:
            quantized: of `discretized`, `(B, h, w, D)`.

        Returns:
            integers `(B, h, w)`, below `num_codes`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no codes")

    def losses_of(self, latents, quantized):
        """What replacing latents by codes costs.

        Args:
            latents, quantized: `(B, h, w, D)`.

        Returns:
            dict from names to tensors `(B,)`.
        """
        return {}


@BOTTLENECKS.register("kl")
class KLBottleneck(Bottleneck):
    """A normal distribution, kept near N(0, 1): the bottleneck of Stable Diffusion.

    The loss "kl" is ½·Σ(mean² + std² − 1 − log std²) over the latent numbers of a picture, in nats.

    Reference:
        Kingma & Welling 2013, arXiv:1312.6114, appendix B; Rombach et al. 2022, arXiv:2112.10752, section 3.1.
    """

    needs_variance = True
    loss_names = ("kl",)

    def call(self, mean, log_variance, noise=None):
        latents = mean if noise is None else mean + ops.exp(0.5 * log_variance) * noise
        per_number = divergence(mean, log_variance)
        return {"latents": latents, "losses": {"kl": ops.sum(per_number, axis=(1, 2, 3))}}


def divergence(mean, log_variance):
    """KL(N(mean, variance) ‖ N(0, 1)) of each number.

    Args:
        mean, log_variance: tensors of one shape `(B, h, w, D)`.

    Returns:
        tensor of that shape, in nats.
    """
    return 0.5 * (ops.square(mean) + ops.exp(log_variance) - 1.0 - log_variance)


@BOTTLENECKS.register("fsq")
class FSQBottleneck(Bottleneck):
    """Finite scalar quantization: every number of a latent vector is rounded to one of a few levels in [−1, 1].

    There is nothing to learn and no loss, and hardly a code that is never used.

    Args:
        levels: number of levels of each latent channel, ints ≥ 2. Default (8, 5, 5, 5): 1,000 codes of 4 channels.

    Raises:
        ValueError: no levels, or fewer than 2 in one.

    Reference:
        Mentzer et al. 2023, arXiv:2309.15505, section 3.1.
    """

    def __init__(self, levels=(8, 5, 5, 5), **kwargs):
        super().__init__(**kwargs)
        if not isinstance(levels, (list, tuple)) or not levels:
            raise ValueError(f"`levels` are integers ≥ 2, one for each channel. Received: levels={shown(levels)}")
        self.levels = tuple(check_whole(f"levels[{i}]", level, 2) for i, level in enumerate(levels))
        self.num_codes = int(np.prod(self.levels))
        self.built = True

    def check_channels(self, channels):
        if channels != len(self.levels):
            raise ValueError(
                f"FSQ has a number of levels for each latent channel, here {channels}. Received: levels={self.levels}"
            )

    def latents(self, mean):
        half, offset = self._halves(mean.dtype)
        shift = ops.arctanh(offset / half)
        return (ops.tanh(mean + shift) * half - offset) / self._widths(mean.dtype)

    def discretized(self, latents):
        widths = self._widths(latents.dtype)
        last = ops.convert_to_tensor(np.array(self.levels, "float32") - 1.0, latents.dtype) - widths
        # What a diffusion model made may lie beyond the levels.
        return ops.clip(ops.round(latents * widths), -widths, last) / widths

    def codes(self, quantized):
        widths = self._widths("float32")
        basis = ops.convert_to_tensor(np.cumprod((1, *self.levels[:-1])).astype("float32"))
        places = ops.round((ops.cast(quantized, "float32") + 1.0) * widths)
        return ops.cast(ops.sum(places * basis, axis=-1), "int32")

    def _halves(self, dtype):
        levels = np.array(self.levels, "float32")
        half, offset = (levels - 1.0) * (1.0 + _EPSILON) / 2.0, np.where(levels % 2 == 0, 0.5, 0.0)
        return ops.convert_to_tensor(half, dtype), ops.convert_to_tensor(offset.astype("float32"), dtype)

    def _widths(self, dtype):
        return ops.convert_to_tensor(np.array([level // 2 for level in self.levels], "float32"), dtype)


@BOTTLENECKS.register("vq")
class VQBottleneck(Bottleneck):
    """Vector quantization: every latent vector is replaced by the nearest one of a learned codebook.

    The loss "vq" is mean (code − sg z)² + β·mean (z − sg code)², sg meaning without a derivative: the codes come to
    the vectors, and the encoder commits itself to its codes.

    Args:
        num_codes: size of the codebook, int ≥ 2. Default 512.
        dim: length of the vectors: the latent channels. Default 4.
        commitment: β ≥ 0. Default 0.25.

    Raises:
        ValueError: numbers out of range.

    Reference:
        van den Oord et al. 2017, arXiv:1711.00937, equation 3.
    """

    loss_names = ("vq",)

    def __init__(self, num_codes=512, dim=4, commitment=0.25, **kwargs):
        super().__init__(**kwargs)
        check_whole("num_codes", num_codes, 2)
        check_whole("dim", dim, 1)
        self.commitment = check_number("commitment", commitment, 0)
        near_zero = keras.initializers.RandomUniform(-1.0 / num_codes, 1.0 / num_codes)
        self.codebook = self.add_weight(shape=(num_codes, dim), initializer=near_zero, name="codebook")
        self.built = True

    def check_channels(self, channels):
        if channels != self.dim:
            raise ValueError(
                f"The vectors of a codebook are as long as the latents have channels, here {channels}. Received: "
                f"dim={self.dim}"
            )

    def discretized(self, latents):
        return ops.take(self.codebook, self.codes(latents), axis=0)

    def codes(self, quantized):
        book = ops.stop_gradient(ops.cast(self.codebook, quantized.dtype))
        products = ops.matmul(ops.stop_gradient(quantized), ops.transpose(book))
        return ops.argmin(ops.sum(ops.square(book), axis=-1) - 2.0 * products, axis=-1)

    def losses_of(self, latents, quantized):
        codes = ops.mean(ops.square(quantized - ops.stop_gradient(latents)), axis=(1, 2, 3))
        encoder = ops.mean(ops.square(latents - ops.stop_gradient(quantized)), axis=(1, 2, 3))
        return {"vq": codes + self.commitment * encoder}
