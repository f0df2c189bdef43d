"""Inception Score: are samples recognized with certainty, and are all classes among them?

    IS = exp(mean over x of KL(p(y | x) ‖ p(y))),      p(y) = mean over x of p(y | x)

p(y | x) are a classifier's probabilities. From 1 to the number of classes; real samples do not count. The classifier
should know the classes of the data: with Inception's, IS says little about anything but natural pictures.
"""

import itertools

import numpy as np
from scipy.special import log_softmax, logsumexp

from keras_diffusion.configs.checks import check_whole
from keras_diffusion.metrics.feature_metric import FEATURE_METRICS, Estimate, FeatureMetric


@FEATURE_METRICS.register("inception_score", "is", "isc")
class InceptionScore(FeatureMetric):
    """IS = exp(mean KL(p(y | x) ‖ p(y))): the mean over disjoint parts of the shuffled samples.

    The standard error is that of the mean over the parts. torch-fidelity shows their standard deviation instead, which
    is √splits times as large, up to the factor √(1 − 1/splits).

    Args:
        splits: number of parts. Default 10.
        seed: of the shuffle, ≥ 0; the same parts as torch-fidelity's. Default 2020.

    Example:

    >>> logits = 20.0 * np.eye(4)[np.arange(400) % 4]  # four classes, each recognized with certainty; parts are uneven
    >>> round(kd.metrics.get("inception_score")(logits).value, 1)
    3.9

    Reference:
        Salimans et al., "Improved techniques for training GANs", arXiv:1606.03498, section 4; torch-fidelity's order of
        the samples.
    """

    name, title, better = "inception_score", "IS", "higher"
    needs = ("logits",)
    uses_real = False

    def __init__(self, splits=10, seed=2020):
        check_whole("splits", splits, 2)
        check_whole("seed", seed, 0)
        self.why = (
            f"IS is the mean over {splits} parts, and a part of a single sample has an IS of 1: take fewer `splits`."
        )

    def minimum(self, width):
        return 2 * self.splits

    def measure(self, generated, real, training):
        count = len(generated)
        order = np.random.RandomState(self.seed).permutation(count)
        bounds = [i * count // self.splits for i in range(self.splits + 1)]
        scores = np.array([_score(generated[order[a:b]]) for a, b in itertools.pairwise(bounds)])
        return Estimate(float(scores.mean()), float(scores.std(ddof=1) / np.sqrt(self.splits)))


def _score(logits):
    log_p = log_softmax(logits.astype("float64"), axis=1)
    log_mean = logsumexp(log_p, axis=0) - np.log(len(log_p))
    divergence = np.exp(log_p) * (log_p - log_mean)  # a probability of 0 has a finite logarithm here, and adds 0
    return np.exp(np.mean(np.sum(divergence, axis=1)))
