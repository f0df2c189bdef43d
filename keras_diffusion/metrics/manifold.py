"""Precision, recall, density and coverage: balls around samples stand for where a distribution lives.

The ball of a sample reaches to its k-th nearest neighbour on its own side.

    precision   share of generated samples in the ball of some real one: are they plausible?
    recall      share of real samples in the ball of some generated one: is nothing missing?
    density     mean over generated samples of (number of real balls around it)/k: 1 where both are equal
    coverage    share of real samples whose ball has a generated sample in it

An outlier among the real samples has a large ball and makes precision too high; density counts balls and bears it.
Coverage keeps to balls of real samples and bears outliers among the generated ones, as recall does not.
"""

import numpy as np

from keras_diffusion.configs.checks import check_whole
from keras_diffusion.metrics.blocks import squared_distances
from keras_diffusion.metrics.feature_metric import FEATURE_METRICS, Estimate, FeatureMetric
from keras_diffusion.metrics.features import row_blocks


class _BallMetric(FeatureMetric):
    """Base of the four. The standard error takes the other side, and so the balls, as given.

    Args:
        neighbours: k ≥ 1.
    """

    def __init__(self, neighbours):
        check_whole("neighbours", neighbours, 1)
        self.why = f"The ball of a sample reaches to its neighbour number {neighbours}, which is another sample."

    def minimum(self, width):
        return self.neighbours + 1


@FEATURE_METRICS.register("precision")
class Precision(_BallMetric):
    """Share of generated samples that are in the ball of some real one, its surface included.

    The standard error is the binomial one, √(p(1 − p)/N).

    Args:
        neighbours: k; balls reach to the k-th nearest neighbour. Default 3.

    Example:

    >>> real = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> kd.metrics.get("precision", neighbours=1)(np.array([[0.5], [3.9], [9.0], [9.5]]), real).value
    0.5

    Reference:
        Kynkäänniemi et al., "Improved precision and recall metric for assessing generative models", arXiv:1904.06991,
        equation 2.
    """

    name, title, better = "precision", "precision", "higher"

    def __init__(self, neighbours=3):
        super().__init__(neighbours)

    def measure(self, generated, real, training):
        return _share(_in_some_ball(generated, real, self.neighbours))


@FEATURE_METRICS.register("recall")
class Recall(_BallMetric):
    """Share of real samples that are in the ball of some generated one, its surface included.

    The standard error is the binomial one, √(p(1 − p)/M).

    Args:
        neighbours: k; balls reach to the k-th nearest neighbour. Default 3.

    Example:

    >>> real = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> kd.metrics.get("recall", neighbours=1)(np.array([[0.5], [0.9], [9.0], [9.5]]), real).value
    0.25

    Reference:
        Kynkäänniemi et al., "Improved precision and recall metric for assessing generative models", arXiv:1904.06991,
        equation 2.
    """

    name, title, better = "recall", "recall", "higher"

    def __init__(self, neighbours=3):
        super().__init__(neighbours)

    def measure(self, generated, real, training):
        return _share(_in_some_ball(real, generated, self.neighbours))


@FEATURE_METRICS.register("density")
class Density(_BallMetric):
    """Mean over generated samples of (number of real balls that it is inside)/k: about 1 where both sides are equal.

    The standard error is that of the mean over the generated samples.

    Args:
        neighbours: k; balls reach to the k-th nearest neighbour. Default 5.

    Example:

    >>> real = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> kd.metrics.get("density", neighbours=1)(np.array([[0.5], [9.0]]), real).value  # in two balls, in none
    1.0

    Reference:
        Naeem et al., "Reliable fidelity and diversity metrics for generative models", arXiv:2002.09797, equation 3.
    """

    name, title, better = "density", "density", "higher"

    def __init__(self, neighbours=5):
        super().__init__(neighbours)

    def measure(self, generated, real, training):
        radii, balls = squared_radii(real, self.neighbours), np.zeros(len(generated))
        for rows, columns, squares in squared_distances(generated, real):
            balls[rows] += np.sum(squares < radii[columns], axis=1)
        balls /= self.neighbours
        return Estimate(float(balls.mean()), float(balls.std() / np.sqrt(len(balls))))


@FEATURE_METRICS.register("coverage")
class Coverage(_BallMetric):
    """Share of real samples with a generated sample inside their ball.

    The standard error is the binomial one, √(p(1 − p)/M). Equal distributions give about 1 − 2⁻ᵏ for N = M.

    Args:
        neighbours: k; balls reach to the k-th nearest neighbour. Default 5.

    Example:

    >>> real = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> kd.metrics.get("coverage", neighbours=1)(np.array([[0.5], [9.0]]), real).value
    0.5

    Reference:
        Naeem et al., "Reliable fidelity and diversity metrics for generative models", arXiv:2002.09797, equation 4.
    """

    name, title, better = "coverage", "coverage", "higher"

    def __init__(self, neighbours=5):
        super().__init__(neighbours)

    def measure(self, generated, real, training):
        nearest = np.full(len(real), np.inf)
        for rows, _, squares in squared_distances(real, generated):
            nearest[rows] = np.minimum(nearest[rows], squares.min(axis=1))
        return _share(nearest < squared_radii(real, self.neighbours))


def squared_radii(features, neighbours):
    """Squared distance of every sample to its k-th nearest neighbour among the others.

    Args:
        features: float `(N, width)`, N > k.
        neighbours: k ≥ 1.

    Returns:
        float64 `(N,)`.
    """
    radii = np.empty(len(features))
    for rows in row_blocks(len(features)):
        nearest = np.full((rows.stop - rows.start, neighbours + 1), np.inf)
        for _, _, squares in squared_distances(features[rows], features):
            # Itself counts, at distance 0: hence one more.
            nearest = np.partition(np.concatenate([nearest, squares], axis=1), neighbours, axis=1)[:, : neighbours + 1]
        radii[rows] = nearest.max(axis=1)
    return radii


def _in_some_ball(samples, centres, neighbours):
    radii, inside = squared_radii(centres, neighbours), np.zeros(len(samples), bool)
    for rows, columns, squares in squared_distances(samples, centres):
        inside[rows] |= np.any(squares <= radii[columns], axis=1)
    return inside


def _share(hits):
    share = float(np.mean(hits))
    return Estimate(share, float(np.sqrt(share * (1.0 - share) / len(hits))))
