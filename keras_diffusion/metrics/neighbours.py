"""Does the model draw, or does it copy? Distances to the nearest training sample.

    d(x) = min over training samples y of |x − y|

A model that has memorized the training data has d = 0. The number alone means little, since training data may be dense,
so it is compared with d of held-out real samples. A model that samples the true distribution has the same distribution
of d; clearly smaller distances suggest copying, clearly larger ones samples off the data.

Distances between pixels do not account for shifts or lighting: this detects exact and near copies of small images. For
large ones, use distances between features.

AuthPct needs no held-out samples. It calls a sample a copy if it is closer to a training sample than any other training
sample is.
"""

from typing import NamedTuple

import numpy as np

from keras_diffusion.metrics.blocks import squared_distances
from keras_diffusion.metrics.feature_metric import FEATURE_METRICS, Estimate, FeatureMetric


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
    indices = _nearest(samples, reference)
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


@FEATURE_METRICS.register("auth_pct", "authpct")
class AuthPct(FeatureMetric):
    """Percentage of generated samples that are authentic: farther from the nearest training sample than that one's own
    nearest neighbour among the training samples.

    Copies give 0. Samples of the training distribution give about 30 in one dimension and 90 in hundreds (2,000 normal
    samples): compare with the value of held-out samples. The standard error is the binomial one, √(p(1 − p)/N), for
    the given training data.

    Example:

    >>> training = np.array([[0.0], [1.0], [3.0]])
    >>> kd.metrics.get("auth_pct")(np.array([[0.1], [4.9], [5.1], [2.5]]), training=training).value
    25.0

    Reference:
        Alaa et al., "How faithful is your synthetic data?", arXiv:2102.08921, section 4.3, as computed by Stein et al.,
        arXiv:2306.04675 (dgm-eval).
    """

    name, title, better = "auth_pct", "AuthPct", "higher"
    needs = ("features", "training")
    uses_real = False
    why = "A training sample is compared with its nearest neighbour, which is another one."

    def measure(self, generated, real, training):
        found = nearest_neighbours(generated, training)
        hit, places = np.unique(found.indices, return_inverse=True)
        own = np.linalg.norm(training[hit] - training[_nearest(training[hit], training, but=hit)], axis=1)
        share = float(np.mean(own[places] < found.distances))
        return Estimate(100.0 * share, float(100.0 * np.sqrt(share * (1.0 - share) / len(generated))))


def _nearest(samples, reference, but=None):
    """Index of the nearest reference; `but` has a reference for each that does not count."""
    indices, best = np.zeros(len(samples), int), np.full(len(samples), np.inf)
    for rows, columns, squares in squared_distances(samples, reference):
        if but is not None:
            squares[but[rows, None] == np.arange(columns.start, columns.stop)] = np.inf
        nearest = squares.argmin(axis=1)
        values = np.take_along_axis(squares, nearest[:, None], axis=1)[:, 0]
        closer = values < best[rows]
        indices[rows] = np.where(closer, columns.start + nearest, indices[rows])
        best[rows] = np.minimum(best[rows], values)
    return indices
