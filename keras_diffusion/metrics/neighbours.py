"""Does the model draw, or does it copy? Distances to the nearest training sample.

    d(x) = min over training samples y of |x − y|

A model that has memorized the training data has d = 0. The number alone means little, since training data may be dense,
so it is compared with d of held-out real samples. A model that samples the true distribution has the same distribution
of d; clearly smaller distances suggest copying, clearly larger ones samples off the data.

Distances between pixels do not account for shifts or lighting: this detects exact and near copies of small images. For
large ones, use distances between features.
"""

from typing import NamedTuple

import numpy as np

_ROWS = 1024  # samples compared at once, to bound the memory


class Neighbours(NamedTuple):
    """Nearest neighbours of some samples in a reference set.

    Attributes:
        distances: float64 `(N,)`, Euclidean, in the units of the samples.
        indices: ints `(N,)`, into the reference.
    """

    distances: np.ndarray
    indices: np.ndarray


class Memorization(NamedTuple):
    """Distances to the nearest training sample, of generated samples and of real ones.

    Attributes:
        generated: float64 `(N,)`, of generated samples.
        held_out: float64 `(M,)`, of real samples that the model was not trained on.
    """

    generated: np.ndarray
    held_out: np.ndarray

    @property
    def ratio(self):
        """Median distance of generated samples over that of held-out ones: about 1 is right, 0 is copying."""
        return float(np.median(self.generated) / np.median(self.held_out))

    def closer_than(self, share=0.05):
        """Share of generated samples nearer to the training data than the nearest `share` of held-out ones.

        Equal distributions give `share`; a model that copies now and then gives more, even if its median looks right.

        Args:
            share: quantile of the held-out distances, in [0, 1]. Default 0.05.

        Returns:
            float in [0, 1].
        """
        return float(np.mean(self.generated < np.quantile(self.held_out, share)))


def nearest_neighbours(samples, reference):
    """For each sample, the nearest sample of a reference set in the Euclidean distance over all values.

    Args:
        samples: `(N, ...)`, float.
        reference: `(M, ...)`, float, of the same sample shape.

    Returns:
        `Neighbours`: distances `(N,)` and indices `(N,)` into `reference`.

    Raises:
        ValueError: arrays of different sample shapes, empty ones, or NaN.

    Example:

    >>> nearest_neighbours(np.array([[0.0, 0.0]]), np.array([[3.0, 4.0], [6.0, 8.0]])).distances
    array([5.])
    """
    samples, reference = np.asarray(samples), np.asarray(reference)
    if samples.ndim < 2 or samples.shape[1:] != reference.shape[1:] or not samples.size or not reference.size:
        raise ValueError(
            "Neighbours need arrays (N, ...) and (M, ...) of samples of one shape, with N and M at least 1. "
            f"Received: samples of shape {samples.shape}, reference of shape {reference.shape}"
        )
    for name, array in (("samples", samples), ("reference", reference)):
        if not np.isfinite(array).all():
            raise ValueError(
                f"Distances need finite values. Received: {name} with "
                f"{int((~np.isfinite(array)).sum())} NaN or infinite values"
            )
    samples, reference = (array.reshape(len(array), -1).astype("float64") for array in (samples, reference))
    indices = np.concatenate([_nearest(samples[i : i + _ROWS], reference) for i in range(0, len(samples), _ROWS)])
    # The distance once more from the difference: |x|² − 2x·y + |y|² loses the last digits, and a copy should have
    # exactly 0.
    return Neighbours(np.linalg.norm(samples - reference[indices], axis=1), indices)


def memorization(generated, training, held_out):
    """Distances to the nearest training sample, of generated samples beside those of real ones that were held out.

    Args:
        generated: `(N, ...)`, float.
        training: `(M, ...)`, the samples that the model was trained on.
        held_out: `(K, ...)`, real samples that it was not trained on.

    Returns:
        `Memorization`.

    Raises:
        ValueError: as `nearest_neighbours`.
    """
    return Memorization(
        nearest_neighbours(generated, training).distances, nearest_neighbours(held_out, training).distances
    )


def _nearest(samples, reference):
    squares = np.sum(reference**2, axis=1) - 2.0 * samples @ reference.T  # |x|² is the same for all y
    return np.argmin(squares, axis=1)
