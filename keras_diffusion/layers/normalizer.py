"""Images of zero mean and unit variance, channel by channel: the units in which some networks were trained.

    encode:  z = (v − mean)/√variance,     v = low + (x + 1)/2·(high − low)
    decode:  v = mean + √variance·z,       x = 2·(v − low)/(high − low) − 1

x are images in [−1, 1], v the same images in the range [low, high] in which mean and variance were measured: the Keras
example of DDIM has images in [0, 1] and begins with a `Normalization` layer. As the `autoencoder` of a `DiffusionModel`
it lets `fit` and `generate` stay in [−1, 1]. Noise of variance 1 is then as strong as the data, which a schedule
assumes.
"""

import numpy as np
from keras import ops

from keras_diffusion.configs.registry import serializable
from keras_diffusion.core.precision import solver_layer_options
from keras_diffusion.layers.layer import Layer

_SMALLEST_STD = 1e-7  # a channel that is constant: as in Keras's Normalization


@serializable
class Normalizer(Layer):
    """Maps images in [−1, 1] to zero mean and unit variance per channel, and back.

    Args:
        mean: mean of each channel in the units of `value_range`, float or array that broadcasts over `(B, H, W, C)`.
        variance: variance of each channel, the same way, ≥ 0.
        value_range: (low, high), the range of images for which mean and variance hold. Default (0, 1).

    Attributes:
        mean: float32 array, of the shape that was given.
        variance: float32 array, of the shape that was given.

    Call arguments:
        images: `(B, ..., C)` in [−1, 1].

    Returns:
        `(B, ..., C)` float32, as `encode`.

    Raises:
        ValueError: a negative variance, values that are not finite, or an empty `value_range`.

    Example:

    >>> normalizer = Normalizer(mean=[0.5, 0.4, 0.3], variance=[0.08, 0.07, 0.06])
    >>> model = keras_diffusion.DiffusionModel(network, autoencoder=normalizer)
    """

    def __init__(self, mean, variance, value_range=(0.0, 1.0), **kwargs):
        super().__init__(**solver_layer_options(kwargs, self))
        mean, variance = np.asarray(mean, "float32"), np.asarray(variance, "float32")
        if not (np.all(np.isfinite(mean)) and np.all(np.isfinite(variance)) and np.all(variance >= 0)):
            raise ValueError(
                f"A normalizer needs finite means and variances ≥ 0. Received: mean={mean}, variance={variance}"
            )
        low, high = (float(value) for value in value_range)
        if not low < high:
            raise ValueError(
                f"`value_range` is (low, high) with low < high. Received: value_range={tuple(value_range)}"
            )
        # Held as Keras configs hold them: attributes that are arrays would be tracked, or compared by `==`.
        self._mean, self._variance, self.value_range = mean.tolist(), variance.tolist(), (low, high)
        self.built = True

    @classmethod
    def from_data(cls, images, value_range=(0.0, 1.0)):
        """A normalizer for these images, as Keras's `Normalization.adapt` would find it.

        Args:
            images: `(N, ..., C)`, float in [−1, 1] or uint8; or batches of such, or of dicts with the key "images",
                such as `data.Batches`.
            value_range: see `Normalizer`.

        Returns:
            `Normalizer` with mean and variance of each channel, `(C,)`.

        Raises:
            ValueError: no images, or images that are not finite.
        """
        batches = [images] if hasattr(images, "shape") or isinstance(images, dict) else images
        low, high = value_range
        count, total, squares = 0, 0.0, 0.0
        for batch in batches:
            x = ops.convert_to_numpy(batch["images"] if isinstance(batch, dict) else batch)
            x = x / 127.5 - 1.0 if x.dtype == np.uint8 else x.astype("float64")
            v = (low + (x + 1.0) / 2.0 * (high - low)).reshape(-1, x.shape[-1])
            count, total, squares = count + len(v), total + v.sum(axis=0), squares + np.square(v).sum(axis=0)
        if count == 0:
            raise ValueError("A normalizer is measured on images. Received: none")
        mean = total / count
        return cls(mean, np.maximum(squares / count - mean**2, 0.0), value_range)

    @property
    def mean(self):
        """Mean of each channel, float32 array."""
        return np.asarray(self._mean, "float32")

    @property
    def variance(self):
        """Variance of each channel, float32 array."""
        return np.asarray(self._variance, "float32")

    def encode(self, images):
        """Images as z, zero mean and unit variance.

        Args:
            images: `(B, ..., C)` in [−1, 1].

        Returns:
            z, `(B, ..., C)`.
        """
        shift, scale = self._affine()
        return (ops.convert_to_tensor(images, self.compute_dtype) - shift) / scale

    def decode(self, z):
        """z as images.

        Args:
            z: `(B, ..., C)`, zero mean and unit variance.

        Returns:
            images `(B, ..., C)`, within [−1, 1] as far as z allows.
        """
        shift, scale = self._affine()
        return ops.convert_to_tensor(z, self.compute_dtype) * scale + shift

    def call(self, images):
        return self.encode(images)

    def _affine(self):
        """x = scale·z + shift."""
        low, high = self.value_range
        mean, std = np.asarray(self._mean, "float64"), np.maximum(np.sqrt(self._variance), _SMALLEST_STD)
        shift, scale = 2.0 * (mean - low) / (high - low) - 1.0, 2.0 * std / (high - low)
        return ops.convert_to_tensor(shift, self.compute_dtype), ops.convert_to_tensor(scale, self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "mean": self._mean, "variance": self._variance}
