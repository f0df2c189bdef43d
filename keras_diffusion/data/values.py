"""From stored numbers to model numbers: images to float32 in [−1, 1], labels to int32.

uint8 images are scaled, x/127.5 − 1. Float images are used as they are, which invites the classic mistake: pictures in
[0, 1] or [0, 255] train without complaint and look wrong for hours. So floats must lie in [−1, 1]; values outside it,
NaN and infinity are errors that name the first bad sample. Pictures in [0, 1] pass this check: `fit` warns if no value
is below 0.
"""

import numpy as np

_TOLERANCE = 1e-3
_CHUNK = 1024


def standardize_images(images, indices, value_range=(-1.0, 1.0)):
    """Images as float32.

    Args:
        images: uint8 or float array `(B, ...)`.
        indices: sample numbers `(B,)`, for error messages.
        value_range: allowed range of floats, or None: they only have to be finite (latents, points).

    Returns:
        float32 array `(B, ...)`.

    Raises:
        ValueError: a dtype other than uint8 and float, NaN or infinity, or floats out of range.
    """
    if images.dtype == np.uint8:
        return images.astype("float32") / np.float32(127.5) - np.float32(1.0)
    check_floats(images, indices, value_range)
    return np.ascontiguousarray(images, dtype="float32")


def check_images(images, value_range=(-1.0, 1.0)):
    """Checks a whole array `(N, ...)` in chunks, so that a big one is not held in memory twice."""
    for start in range(0, len(images), _CHUNK):
        chunk = images[start : start + _CHUNK]
        if chunk.dtype != np.uint8:
            check_floats(chunk, range(start, start + len(chunk)), value_range)


def check_floats(images, indices, value_range):
    """Raises a ValueError that names the first sample that is not finite or outside `value_range`."""
    if not np.issubdtype(images.dtype, np.floating):
        raise ValueError(
            f"Images must be uint8 (scaled to [-1, 1] for you) or floats in [-1, 1]. Received: dtype={images.dtype}. "
            'Convert them, for example with images.astype("uint8").'
        )
    if images.size == 0:
        return
    low, high = (-np.inf, np.inf) if value_range is None else (value_range[0] - _TOLERANCE, value_range[1] + _TOLERANCE)
    # One pass each in the usual case. NaN fails the comparisons, so they must not be negated.
    smallest, largest = images.min(), images.max()
    if low <= smallest and largest <= high and np.isfinite(smallest) and np.isfinite(largest):
        return
    flat = images.reshape(len(images), -1)
    finite = np.isfinite(flat).all(axis=1)
    if not finite.all():
        bad = indices[int(np.argmin(finite))]
        count = int((~finite).sum())
        raise ValueError(
            f"Images must be finite. Received: NaN or infinity in sample {bad} (first of {count} in this block of "
            f"{len(images)}). "
            "Remove or repair these samples."
        )
    inside = ((flat >= low) & (flat <= high)).all(axis=1)
    bad = indices[int(np.argmin(inside))]
    raise ValueError(
        f"Float images must lie in [{value_range[0]:g}, {value_range[1]:g}], the range that models train and sample "
        f"in. Received: values from {smallest:g} to {largest:g}, first in sample {bad}. Scale them (x / 127.5 - 1 for "
        "0..255), pass uint8 images, which are scaled for you, or pass value_range=None for data that are no pictures."
    )


def standardize_labels(labels, indices, num_classes=None):
    """Class ids `(B,)` as int32.

    Raises:
        ValueError: labels that are not integers, have another rank, or lie outside [0, num_classes).
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"Labels must be one integer class id per sample. Received: labels of shape {labels.shape}, "
            f"dtype={labels.dtype}. "
            "Turn one-hot rows into ids with labels.argmax(-1); pass vectors under the key 'context'."
        )
    upper = np.inf if num_classes is None else num_classes
    bad = np.flatnonzero((labels < 0) | (labels >= upper))
    if bad.size:
        raise ValueError(
            f"Labels must lie in [0, {'number of classes' if num_classes is None else num_classes}). Received: label "
            f"{labels[bad[0]]} of sample {indices[int(bad[0])]}. Raise num_classes or number the classes from 0."
        )
    return labels.astype("int32")
