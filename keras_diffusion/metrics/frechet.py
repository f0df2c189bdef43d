"""Fréchet distance: how far two clouds of features are apart, each taken for a normal distribution.

    FD = |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2·(Σ₁Σ₂)^½)

With Inception features it is FID, with DINOv2's FD-DINOv2. tr (Σ₁Σ₂)^½ is the sum of the singular values of R₁ᵀR₂,
where Σ = R·Rᵀ: no root of a matrix that is not symmetric, and no digits lost to square roots of tiny eigenvalues.

FD of few samples is too large, by about bias/n, since estimated covariances differ though the true ones do not. FD∞ is
the value at 1/n = 0 of a line through FDs of subsets.
"""

import numpy as np
import scipy.linalg

from keras_diffusion.configs.checks import check_flag, check_whole
from keras_diffusion.metrics.feature_metric import FEATURE_METRICS, Estimate, FeatureMetric
from keras_diffusion.metrics.features import wide_blocks
from keras_diffusion.metrics.statistics import FeatureStatistics


def frechet_distance(generated, real):
    """FD = |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2·(Σ₁Σ₂)^½).

    Args:
        generated: features `(N, width)`, or a `FeatureStatistics`.
        real: likewise; the two may change places.

    Returns:
        float ≥ 0, up to rounding.

    Raises:
        ValueError: fewer than two rows, unequal widths, or NaN.

    Example:

    >>> round(kd.metrics.frechet_distance(np.array([[0.0], [2.0]]), np.array([[3.0], [7.0]])), 6)  # means 1, 5
    18.0

    Reference:
        Heusel et al., "GANs trained by a two time-scale update rule converge to a local Nash equilibrium",
        arXiv:1706.08500, equation 6.
    """
    generated, real = FeatureStatistics.of(generated), FeatureStatistics.of(real)
    if generated.mean.size != real.mean.size:
        raise ValueError(
            f"FD compares features of one width. Received: {generated.mean.size} and {real.mean.size} features"
        )
    values = scipy.linalg.svdvals(_root(generated.covariance).T @ _root(real.covariance), check_finite=False)
    return _value(generated, real, values)


@FEATURE_METRICS.register("fd", "fid", "frechet_distance")
class FD(FeatureMetric):
    """Fréchet distance, FD = |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2·(Σ₁Σ₂)^½); on Inception features FID.

    Its standard error is that of the delta method: √(Var φ(x)/N + Var ψ(y)/M), where φ and ψ are FD's derivatives with
    respect to a generated and to a real sample. It does not contain the bias: compare values of the same N and M. Where
    the distributions are equal, the derivatives vanish, and it is up to twice too large. With statistics in place of
    real features it says how much the generated samples alone contribute.

    Args:
        allow_singular: whether covariances of no more samples than features are accepted, which have no full rank: FD
            is then mostly bias. Default False.

    Example:

    >>> rng = np.random.default_rng(0)
    >>> generated, real = rng.normal(0.5, 1.0, (500, 4)), rng.normal(0.0, 1.0, (500, 4))
    >>> print(kd.metrics.get("fd")(generated, real))  # about 4·0.5²
    0.9272 ± 0.12

    Reference:
        Heusel et al., "GANs trained by a two time-scale update rule converge to a local Nash equilibrium",
        arXiv:1706.08500. Standard error: Rippl, Munk & Sturm, "Limit laws of the empirical Wasserstein distance:
        Gaussian distributions", arXiv:1507.04090, theorem 2.3.
    """

    name, title, better = "fd", "FD", "lower"
    takes_statistics = True
    why = (
        "The covariance of no more samples than features is singular, and FD is then mostly bias: take more samples, "
        'features of a smaller width, or MIND, which works with a thousand (kd.metrics.get("mind")). '
        "`allow_singular=True` computes it all the same."
    )

    def __init__(self, allow_singular=False):
        check_flag("allow_singular", allow_singular)

    def minimum(self, width):
        return 2 if self.allow_singular else width + 1

    def measure(self, generated, real, training):
        first, second = FeatureStatistics.of(generated), FeatureStatistics.of(real)
        root_1, root_2 = _root(first.covariance), _root(second.covariance)
        left, values, right = scipy.linalg.svd(root_1.T @ root_2, check_finite=False)
        used = values > values[0] * len(values) * np.finfo("float64").eps
        scale = 1.0 / np.sqrt(values[used])
        shift = first.mean - second.mean
        # x ↦ T·x with T = P·Pᵀ moves one normal distribution to the other; back it is Q·Qᵀ.
        variance = _variance(generated, first.mean, shift, root_2 @ right[used].T * scale) / len(generated)
        if not isinstance(real, FeatureStatistics):
            variance += _variance(real, second.mean, -shift, root_1 @ left[:, used] * scale) / len(real)
        return Estimate(_value(first, second, values), float(np.sqrt(variance)))


@FEATURE_METRICS.register("fd_infinity", "fid_infinity")
class FDInfinity(FeatureMetric):
    """FD∞: FD without the bias of few generated samples, a line in 1/n through FDs of subsets, at 1/n = 0.

    The bias of few real samples stays. The standard error contains that of the line's end, and FD's own.

    Args:
        points: number of subsets, evenly between the smallest (a tenth of the samples, but at most 5,000 and more than
            features) and all samples. Default 15.
        seed: of the subsets, ≥ 0. Default 2020.

    Example:

    >>> rng = np.random.default_rng(0)
    >>> generated, real = rng.normal(0.0, 1.0, (1000, 8)), rng.normal(0.0, 1.0, (20_000, 8))
    >>> print(kd.metrics.get("fd")(generated, real))  # 0, if there were more samples
    0.02877 ± 0.0086
    >>> print(kd.metrics.get("fd_infinity")(generated, real))
    -0.0007945 ± 0.0092

    Reference:
        Chong & Forsyth, "Effectively unbiased FID and Inception Score and where to find them", arXiv:1911.07023,
        section 4.
    """

    name, title, better = "fd_infinity", "FD∞", "lower"
    takes_statistics = True
    why = (
        "The line goes through FDs of subsets, each of more samples than features. Take more samples, features of a "
        'smaller width, or MIND (kd.metrics.get("mind")).'
    )

    def __init__(self, points=15, seed=2020):
        check_whole("points", points, 3)
        check_whole("seed", seed, 0)

    def minimum(self, width):
        return 2 * (width + 1)

    def measure(self, generated, real, training):
        real_statistics = FeatureStatistics.of(real)
        least = max(generated.shape[1] + 1, min(5000, len(generated) // 10))
        counts = np.linspace(least, len(generated), self.points).astype(int)
        rng = np.random.RandomState(self.seed)
        subsets = (generated[rng.choice(len(generated), count, replace=False)] for count in counts)
        distances = [frechet_distance(subset, real_statistics) for subset in subsets]
        value, error = extrapolated(counts, distances)
        own = FD(allow_singular=True)(generated, real).standard_error
        return Estimate(value, float(np.hypot(error, own)))


def extrapolated(counts, values):
    """The end of a line through values that depend on a number of samples, value ≈ a + b/n, at n = ∞.

    Args:
        counts: numbers of samples n, `(points,)`, at least 3 and not all equal.
        values: `(points,)`.

    Returns:
        (a, its standard error in the least-squares fit).
    """
    table = np.stack([np.ones(len(counts)), 1.0 / np.asarray(counts, "float64")], axis=1)
    line = np.linalg.lstsq(table, values, rcond=None)[0]
    spread = np.sum((values - table @ line) ** 2) / (len(counts) - 2)
    return float(line[0]), float(np.sqrt(spread * np.linalg.inv(table.T @ table)[0, 0]))


def _root(covariance):
    """R with R·Rᵀ = covariance."""
    values, vectors = scipy.linalg.eigh(covariance, check_finite=False)
    return vectors * np.sqrt(np.maximum(values, 0.0))


def _value(first, second, singular_values):
    traces = np.trace(first.covariance) + np.trace(second.covariance)
    return float(np.sum((first.mean - second.mean) ** 2) + traces - 2.0 * np.sum(singular_values))


def _variance(features, mean, shift, half_map):
    """Variance of FD's derivative with respect to a sample x, 2·shift·(x − μ) + |x − μ|² − (x − μ)ᵀ·T·(x − μ)."""
    derivatives = []
    for block in wide_blocks(features):
        block -= mean
        moved = np.sum((block @ half_map) ** 2, axis=1)
        derivatives.append(2.0 * block @ shift + np.sum(block**2, axis=1) - moved)
    return np.var(np.concatenate(derivatives))
