"""MIND: the Monge Inception Distance, a sliced Wasserstein distance of features.

    MIND = 3·d·mean over unit directions u of W₂²(u·x, u·y),      W₂² = mean over ranks i of (u·x₍ᵢ₎ − u·y₍ᵢ₎)²

In one dimension the best transport goes from rank to rank, so sorting is all there is to do. No covariance is
estimated: a thousand samples suffice, whatever the width d.

Reference: Berthet et al., "MIND: Monge Inception Distance for generative models evaluation", arXiv:2605.06797.
"""

import numpy as np

from keras_diffusion.configs.checks import check_array, check_whole
from keras_diffusion.metrics.feature_metric import FEATURE_METRICS, Estimate, FeatureMetric
from keras_diffusion.metrics.features import check_features, wide_blocks

_DIRECTIONS = 64  # that are computed with at once


def random_directions(count, width, seed=2020):
    """Unit vectors in random directions.

    Args:
        count: how many.
        width: of the features.
        seed: ≥ 0.

    Returns:
        float64 `(count, width)`.
    """
    directions = np.random.RandomState(seed).standard_normal((count, width))
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)


def mind(generated, real, directions):
    """MIND along given directions: 3·d·mean of the squared one-dimensional Wasserstein distances.

    Args:
        generated: `(N, width)`, features.
        real: `(N, width)`, as many.
        directions: `(directions, width)`, of length 1; see `random_directions`.

    Returns:
        `Estimate`. Its standard error is explained in `MIND`.

    Raises:
        ValueError: unequal numbers or widths, or NaN.

    Example:

    >>> x = np.array([[0.0, 0.0], [1.0, 0.0]])
    >>> kd.metrics.mind(x, x + [2.0, 0.0], directions=np.eye(2)).value  # 3·2·(2² + 0²)/2
    12.0
    """
    generated, real = check_features("generated", generated), check_features("real", real)
    directions = check_array("directions", directions, "float64")
    if generated.shape != real.shape or directions.ndim != 2 or directions.shape[1] != real.shape[1]:
        raise ValueError(
            "MIND along directions (directions, width) compares as many generated as real samples (N, width). "
            f"Received: shapes {generated.shape}, {real.shape}, and directions of shape {directions.shape}"
        )
    value, potentials = 0.0, np.zeros((2, len(real)))
    for start in range(0, len(directions), _DIRECTIONS):
        some = directions[start : start + _DIRECTIONS]
        x, y = _projected(generated, some), _projected(real, some)
        order_x, order_y = np.argsort(x), np.argsort(y)
        x, y = np.take_along_axis(x, order_x, axis=1), np.take_along_axis(y, order_y, axis=1)
        value += np.sum((x - y) ** 2)
        potentials[0] += _potential(x, y, order_x)
        potentials[1] += _potential(y, x, order_y)
    scale = 3.0 * real.shape[1] / len(directions)
    variance = np.var(potentials, axis=1).sum() / len(real)
    return Estimate(float(scale * value / len(real)), float(scale * np.sqrt(variance)))


@FEATURE_METRICS.register("mind", "sliced_wasserstein_inception")
class MIND(FeatureMetric):
    """Monge Inception Distance, 3·d·mean over directions of W₂² of the projected features.

    Of the larger side a random part is used, as many samples as the smaller one has. The standard error is that of the
    delta method: √((Var φ(x) + Var ψ(y))/n), where φ and ψ are the derivatives with respect to a sample, the
    Kantorovich potentials, averaged over the directions. Where the distributions are equal it is up to twice too large.
    The directions belong to the metric: they are the same at every call.

    Args:
        projections: number of directions. Default 1000.
        seed: of the directions and of the part, ≥ 0. torch-fidelity draws others from the same seed; `mind` takes any.
            Default 2020.

    Example:

    >>> rng = np.random.default_rng(0)
    >>> generated, real = rng.normal(0.5, 1.0, (1000, 4)), rng.normal(0.0, 1.0, (1000, 4))
    >>> print(kd.metrics.get("mind")(generated, real))  # about 3·4·0.5²
    2.606 ± 0.25

    Reference:
        Berthet et al., arXiv:2605.06797. Standard error: del Barrio & Loubes, "Central limit theorems for empirical
        transportation cost in general dimension", arXiv:1705.01299.
    """

    name, title, better = "mind", "MIND", "lower"

    def __init__(self, projections=1000, seed=2020):
        check_whole("projections", projections, 1)
        check_whole("seed", seed, 0)

    def measure(self, generated, real, training):
        rng = np.random.RandomState(self.seed)
        count = min(len(generated), len(real))
        generated, real = (x if len(x) == count else x[rng.permutation(len(x))[:count]] for x in (generated, real))
        return mind(generated, real, random_directions(self.projections, real.shape[1], self.seed))


def _projected(features, directions):
    """float64 `(directions, N)`."""
    return np.concatenate([directions @ block.T for block in wide_blocks(features)], axis=1)


def _potential(own, other, order):
    """Sum over directions of φ at every sample: dφ/dx = 2·(x − T(x)) along each direction, T from rank to rank."""
    slope = own - other
    steps = np.diff(own) * (slope[:, 1:] + slope[:, :-1])  # trapezoids of 2·(x − T(x))
    potential = np.zeros_like(own)
    np.cumsum(steps, axis=1, out=potential[:, 1:])
    potential -= potential.mean(axis=1, keepdims=True)
    result = np.empty_like(own)
    np.put_along_axis(result, order, potential, axis=1)
    return result.sum(axis=0)
