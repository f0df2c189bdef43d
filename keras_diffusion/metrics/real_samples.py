"""Real samples as arrays, read in an order that depends on no seed and no epoch."""

import hashlib

import numpy as np
from keras import ops

from keras_diffusion.configs.checks import check_whole, shown
from keras_diffusion.core.noise import philox
from keras_diffusion.models.arguments import check_image_values
from keras_diffusion.models.validation import SAMPLE_KEY, check_finite, scaled_images

#: What of the data generated samples can follow.
CONDITIONS = ("labels", "context", "context_mask", "concat", "captions")
_AT_ONCE = 256  # samples that are read together


def read_samples(data, count=None):
    """Samples of data as arrays, without flips, augmentation, and the order of an epoch.

    Args:
        data: as in `Reference`.
        count: how many at most; None (default): all.

    Returns:
        dict of arrays: "images", float32 in [−1, 1], and conditions.

    Raises:
        ValueError: no samples, NaN, pictures out of range, arrays of different lengths.
    """
    check_whole("num_samples", count, 1, optional=True)
    if getattr(data, "latents", None) is not None:
        raise ValueError(
            f"Samples are compared with pictures. Received: packed latents, {data.latents}. Pass the pictures that "
            "they were made of"
        )
    if isinstance(data, dict) or hasattr(data, "shape"):
        found = data if isinstance(data, dict) else {SAMPLE_KEY: data}
        found = {key: np.asarray(value) for key, value in found.items() if key in (SAMPLE_KEY, *CONDITIONS)}
        found = _of_arrays(found, count)
    elif hasattr(data, "samples") and hasattr(data, "num_samples"):  # data.Batches
        found = _joined(_by_number(data, count))
    else:
        found = _joined(_from_the_front(data, count), count)
    images = found.get(SAMPLE_KEY)
    if images is None or not len(images):
        raise ValueError(
            "Data to measure against are samples (M, ...), a dict with “images”, or batches of these. Received: "
            f"{shown(data)}"
        )
    check_image_values(SAMPLE_KEY, images, images.ndim - 1)
    images = scaled_images(SAMPLE_KEY, images)
    check_finite(SAMPLE_KEY, images)
    return {**found, SAMPLE_KEY: images}


def _of_arrays(arrays, count):
    lengths = {key: len(array) for key, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"The arrays of data have one length. Received: {lengths}")
    rows = _order(next(iter(lengths.values()), 0), count)
    return {key: array[rows] for key, array in arrays.items()}


def _by_number(data, count):
    """Parts of `data.Batches`, read by number: a stream from its front, all else in a random order."""
    total = data.num_samples
    if total is None or hasattr(data.source, "stream"):
        if count is None and total is None:
            raise ValueError("How much of a stream is read has to be said. Received: num_samples=None for a stream")
        rows = np.arange(min(n for n in (count, total) if n is not None))
    else:
        rows = _order(total, count)
    for start in range(0, len(rows), _AT_ONCE):
        yield data.samples(rows[start : start + _AT_ONCE])


def _from_the_front(batches, count):
    """Batches as dicts, until there are `count` samples."""
    done = 0
    for batch in batches:
        batch = batch[0] if isinstance(batch, (tuple, list)) else batch
        batch = batch if isinstance(batch, dict) else {SAMPLE_KEY: batch}
        yield {key: _to_numpy(value) for key, value in batch.items()}
        done += len(batch[SAMPLE_KEY])
        if count is not None and done >= count:
            return


def _joined(parts, count=None):
    parts = list(parts)
    keys = [key for key in (SAMPLE_KEY, *CONDITIONS) if parts and key in parts[0]]
    return {key: np.concatenate([part[key] for part in parts])[:count] for key in keys}


def _order(total, count):
    """Which of `total` samples are read: all, or `count` random ones, the same ones whenever it is asked."""
    return philox(0, 0).permutation(total)[:count]


def _to_numpy(value):
    return ops.convert_to_numpy(value) if ops.is_tensor(value) else np.asarray(value)


def content_hash(images):
    """A name for an array by what it holds, 64 hexadecimal digits."""
    digest = hashlib.sha256(f"{images.shape} {images.dtype}".encode())
    for start in range(0, len(images), _AT_ONCE):  # without a second copy of all of them
        digest.update(np.ascontiguousarray(images[start : start + _AT_ONCE]).tobytes())
    return digest.hexdigest()
