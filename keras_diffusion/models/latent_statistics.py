"""Mean and spread of latents over a data set: where an autoencoder's `scale` and `shift` come from."""

from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_diffusion.configs.checks import check_whole
from keras_diffusion.models import training_data, validation
from keras_diffusion.models.latents import encoded_means
from keras_diffusion.models.validation import SAMPLE_KEY
from keras_diffusion.runtime.devices import to_host


class LatentStatistics(NamedTuple):
    """What latents are like, before scaling: `model.measure_latents` returns it.

    Args:
        mean: of all numbers, float.
        std: likewise.
        channel_means: of each channel, float64 `(D,)`.
        channel_stds: likewise.
        num_latents: number of latent vectors that were measured.
    """

    mean: float
    std: float
    channel_means: np.ndarray
    channel_stds: np.ndarray
    num_latents: int

    def scaling(self, per_channel=False):
        """The factor and the shift with which scale·(mean − shift) has unit variance.

        Args:
            per_channel: whether there is one of each per channel. Default False: one factor, and no shift.

        Returns:
            (scale, shift): floats, or lists of D.

        Raises:
            ValueError: latents, or a channel, that do not vary.
        """
        spread = self.channel_stds if per_channel else np.array([self.std])
        if not (np.isfinite(spread).all() and (spread > 0).all()):
            raise ValueError(
                "Only latents that vary can be scaled to unit variance. Received: latents with the standard "
                f"deviation{'s' if per_channel else ''} {', '.join(f'{value:g}' for value in spread)}. Train the "
                "autoencoder longer, or with fewer latent channels"
            )
        if per_channel:
            return (1.0 / self.channel_stds).tolist(), self.channel_means.tolist()
        return 1.0 / self.std, 0.0


def measure(autoencoder, batches):
    """The statistics of latents of pictures, in one pass with sums in float64.

    Args:
        autoencoder: model with `means` or `moments`, and perhaps a `bottleneck`.
        batches: iterable of float32 tensors or arrays `(B, H, W, C)`.

    Returns:
        `LatentStatistics`.

    Raises:
        ValueError: no pictures.
    """
    count, total, squares, centre = 0, 0.0, 0.0, None
    for batch in batches:
        latents = to_host(encoded_means(autoencoder, ops.convert_to_tensor(batch)))
        rows = np.asarray(latents, "float64").reshape(-1, latents.shape[-1])
        # About the first batch's mean: about 0, the squares of a large mean would take the digits.
        centre = rows.mean(axis=0) if centre is None else centre
        count, total = count + len(rows), total + (rows - centre).sum(axis=0)
        squares = squares + ((rows - centre) ** 2).sum(axis=0)
    if count == 0:
        raise ValueError("Latents are measured on at least one batch of pictures. Received: data without any")
    offset = total / count
    variances, means = np.maximum(squares / count - offset**2, 0.0), centre + offset
    overall = float(np.sqrt(np.mean(variances) + np.var(means)))
    return LatentStatistics(float(means.mean()), overall, means, np.sqrt(variances), count)


def batches_of(data, sample_shape, batch_size):
    """Pictures of data in memory or in batches, each batch float32 in [−1, 1].

    Args:
        data: as in `AutoencoderModel.fit`.
        sample_shape: shape of one picture, None where any size goes.
        batch_size: of data in memory.

    Yields:
        arrays `(B, H, W, C)`.

    Raises:
        ValueError: pictures of another shape or kind.
    """
    size = check_whole("batch_size", batch_size, 1)
    if getattr(data, "latents", None) is not None:
        raise ValueError(f"Latents are measured on pictures. Received: packed latents, {data.latents}")
    arrays = training_data.in_memory(data)
    if arrays is not None:
        every = arrays[SAMPLE_KEY]
        parts = (every[i : i + size] for i in range(0, len(every), size))
    elif isinstance(data, keras.utils.PyDataset):
        parts = (data[i] for i in range(len(data)))
    else:
        parts = iter(data)
    for part in parts:
        part = part[0] if isinstance(part, (tuple, list)) else part
        images = part[SAMPLE_KEY] if isinstance(part, dict) else part
        yield np.asarray(to_host(validation.unpack_batch(images, sample_shape, ())[0]))


def set_scaling(autoencoder, scale, shift):
    """Sets `scale` and `shift` of an autoencoder.

    Args:
        autoencoder: any; its method `set_scaling` is called where it has one.
        scale: number > 0, or a list of one per channel.
        shift: number, or likewise.
    """
    if hasattr(autoencoder, "set_scaling"):
        autoencoder.set_scaling(scale, shift)
    else:
        autoencoder.scale, autoencoder.shift = scale, shift
