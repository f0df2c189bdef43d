"""Distances between sets of vectors, and what can be said where the density is known.

    sliced_wasserstein          √ mean over unit directions u of W₂²(u·x, u·y)
    mmd                         E k(x, x′) + E k(y, y′) − 2·E k(x, y),      k(x, y) = exp(−|x − y|²/(2σ²))
    energy_distance             2·E|x − y| − E|x − x′| − E|y − y′|
    negative_log_likelihood     −E log p(x), of a density p that is known
    mode_coverage               share of the modes of a known mixture that samples reach

For points in a plane, states of a system, latents: where vectors are compared as they are, without an extractor. The
last two ask for the truth: points from a mixture of Gaussians have one. Everything is float64 on the host.
"""

from typing import NamedTuple

import keras
import numpy as np

from keras_diffusion.configs.checks import check_array, check_number, check_whole
from keras_diffusion.metrics.feature_metric import Estimate
from keras_diffusion.metrics.features import check_features, row_blocks
from keras_diffusion.metrics.kernel_distance import unbiased_mmd
from keras_diffusion.metrics.sliced import random_directions

_DIRECTIONS = 64  # that are computed with at once
_PAIRED = 2000  # samples from whose distances the median is taken


class ModeCoverage(NamedTuple):
    """Which modes samples reach.

    Attributes:
        covered: float in [0, 1], the share of modes with enough samples near them.
        near: float in [0, 1], the share of samples that lie near a mode.
        counts: ints `(K,)`, samples near each mode.
    """

    covered: float
    near: float
    counts: np.ndarray


def sliced_wasserstein(generated, real, directions=1000, seed=0):
    """Sliced Wasserstein distance of order 2: √ mean over directions of W₂², in the units of the samples.

    In one dimension it is the Wasserstein distance itself. It falls with the number of samples like 1/√n where both
    sides have one distribution; compare it with the distance between two halves of the real data.

    Args:
        generated: `(N, width)`.
        real: `(M, width)`; M may differ from N.
        directions: number of random directions. Default 1000.
        seed: of the directions, ≥ 0. Default 0.

    Returns:
        `Estimate`, with the standard error that comes from the directions being random; 0 in one dimension.

    Raises:
        ValueError: other shapes, different widths, NaN or infinity.

    Example:

    >>> x = np.array([[0.0], [1.0], [2.0]])
    >>> round(kd.metrics.sliced_wasserstein(x, x + 3.0).value, 6)
    3.0

    Reference:
        Bonneel et al., "Sliced and Radon Wasserstein barycenters of measures", doi:10.1007/s10851-014-0506-3.
    """
    generated, real = _pair(generated, real)
    width = real.shape[1]
    count = 1 if width == 1 else check_whole("directions", directions, 1)
    units = np.ones((1, 1)) if width == 1 else random_directions(count, width, seed)
    first, second, weights = _merged_ranks(len(generated), len(real))
    squares = np.empty(count)
    for rows in row_blocks(count, _DIRECTIONS):
        x = np.sort(units[rows] @ generated.T, axis=1)[:, first]
        y = np.sort(units[rows] @ real.T, axis=1)[:, second]
        squares[rows] = (x - y) ** 2 @ weights
    value = float(np.sqrt(squares.mean()))
    spread = float(squares.std() / np.sqrt(count))
    return Estimate(value, spread / (2.0 * value) if value > 0 else 0.0)


def mmd(generated, real, sigma=None):
    """Squared maximum mean discrepancy with a Gaussian kernel, unbiased: it may fall below 0.

    Args:
        generated: `(N, width)`, N ≥ 2.
        real: `(M, width)`, M ≥ 2.
        sigma: σ of the kernel, a number > 0. None (default): the median distance between samples, of both sides
            together (2,000 of them at most). Say it to compare several models: the median depends on the samples.

    Returns:
        `Estimate`; its standard error is that of a U-statistic away from 0.

    Raises:
        ValueError: other shapes, fewer than 2 samples, different widths, NaN or infinity; samples that are all equal,
            without `sigma`.

    Example:

    >>> x = np.random.default_rng(0).standard_normal((500, 2))
    >>> kd.metrics.mmd(x[:250], x[250:] + 2.0).value > 0.3
    True

    Reference:
        Gretton et al., "A kernel two-sample test", JMLR 13, 2012, https://jmlr.org/papers/v13/gretton12a.html.
    """
    generated, real = _pair(generated, real, 2)
    sigma = _median_distance(generated, real) if sigma is None else check_number("sigma", sigma, above=0)

    def kernel(x, y):
        return np.exp(_distances(x, y, "sqeuclidean") / (-2.0 * sigma**2))

    return _estimate(generated, real, kernel)


def energy_distance(generated, real):
    """Energy distance 2·E|x − y| − E|x − x′| − E|y − y′|, unbiased: it may fall below 0.

    It has no parameter, and is 0 for equal distributions only. Its square root is a metric.

    Args:
        generated: `(N, width)`, N ≥ 2.
        real: `(M, width)`, M ≥ 2.

    Returns:
        `Estimate`, in the units of the samples; its standard error is that of a U-statistic away from 0.

    Raises:
        ValueError: other shapes, fewer than 2 samples, different widths, NaN or infinity.

    Example:

    >>> kd.metrics.energy_distance([[0.0], [1.0]], [[4.0], [5.0]]).value
    6.0

    Reference:
        Székely & Rizzo, "Energy statistics: a class of statistics based on distances",
        doi:10.1016/j.jspi.2013.03.018.
    """
    generated, real = _pair(generated, real, 2)
    return _estimate(generated, real, lambda x, y: -_distances(x, y, "euclidean"))


def negative_log_likelihood(samples, density):
    """−E log p(x) of samples under a density that is known, in nats.

    Samples of p itself reach the entropy of p, not 0; fewer nats say that samples keep to where p is high, as they do
    when modes are dropped or guidance is strong. So compare with real samples.

    Args:
        samples: `(N, width)`, N ≥ 2.
        density: object with `log_prob(samples)`, such as `denoisers.MixtureDenoiser`, or a function that returns log p
            `(N,)`.

    Returns:
        `Estimate`, with its standard error.

    Raises:
        ValueError: other shapes, NaN or infinity; a density that returns another shape, or NaN. Samples where p = 0
            make the result infinite.

    Example:

    >>> density = kd.denoisers.MixtureDenoiser([1.0], [[0.0]], [1.0])
    >>> round(kd.metrics.negative_log_likelihood(density.sample(10_000), density).value, 1)  # ½·log(2πe) = 1.42
    1.4
    """
    samples = _checked("samples", samples, 2)
    log_prob = getattr(density, "log_prob", density)
    values = [_log_prob(log_prob, samples[rows]) for rows in row_blocks(len(samples))]
    nats = -np.concatenate(values)
    if np.isinf(nats).any():
        return Estimate(float(nats.mean()), None)
    return Estimate(float(nats.mean()), float(nats.std(ddof=1) / np.sqrt(len(nats))))


def mode_coverage(samples, modes, tolerance, least=1):
    """Which modes of a known mixture samples reach.

    Each sample counts for the nearest mode, if it is no further away than the tolerance.

    Args:
        samples: `(N, width)`.
        modes: `(K, width)`, where the modes are.
        tolerance: greatest distance, a number > 0 or one for each mode `(K,)`: 3 or 4 standard deviations of a mode.
        least: a mode is covered from so many samples on. Default 1.

    Returns:
        `ModeCoverage`.

    Raises:
        ValueError: other shapes, different widths, NaN or infinity; a tolerance that is not positive.

    Example:

    >>> kd.metrics.mode_coverage([[0.1], [0.2], [9.0]], modes=[[0.0], [3.0]], tolerance=0.5)
    ModeCoverage(covered=0.5, near=0.6666666666666666, counts=array([2, 0]))

    Reference:
        Metz et al., "Unrolled generative adversarial networks", arXiv:1611.02163.
    """
    samples, modes = _pair(samples, modes, names=("samples", "modes"))
    check_whole("least", least, 1)
    tolerance = np.broadcast_to(_checked_tolerance(tolerance, len(modes)), len(modes))
    counts = np.zeros(len(modes), int)
    for rows in row_blocks(len(samples)):
        distances = _distances(samples[rows], modes, "euclidean")
        nearest = distances.argmin(axis=1)
        near = distances[np.arange(len(nearest)), nearest] <= tolerance[nearest]
        counts += np.bincount(nearest[near], minlength=len(modes))
    return ModeCoverage(float(np.mean(counts >= least)), float(counts.sum() / len(samples)), counts)


def _merged_ranks(n, m):
    """Ranks (i, j) and weights of the best transport between n and m sorted points of equal weight on each side."""
    ends = np.unique(np.concatenate([np.arange(1, n + 1) * m, np.arange(1, m + 1) * n]))  # in units of 1/(n·m)
    weights = np.diff(ends, prepend=0) / (n * m)
    return (ends - 1) // m, (ends - 1) // n, weights


def _estimate(x, y, kernel):
    value, spread_x, spread_y = unbiased_mmd(x, y, kernel)
    return Estimate(value, float(2.0 * np.sqrt(spread_x / len(x) + spread_y / len(y))))


def _distances(x, y, kind):
    # From the differences themselves: |x|² − 2x·y + |y|² loses digits where points lie close together.
    from scipy.spatial.distance import cdist

    return cdist(x, y, kind)


def _median_distance(generated, real):
    rng = np.random.default_rng(0)
    pooled = np.concatenate([generated, real])
    pooled = pooled[rng.choice(len(pooled), min(len(pooled), _PAIRED), replace=False)]
    median = float(np.median(_distances(pooled, pooled, "euclidean")[np.triu_indices(len(pooled), 1)]))
    if not median > 0:
        raise ValueError(
            "The median distance between samples is the kernel's width, and must be above 0. Received: samples of "
            "which most are equal. Pass sigma=…"
        )
    return median


def _log_prob(log_prob, samples):
    values = log_prob(samples)
    values = keras.ops.convert_to_numpy(values) if keras.ops.is_tensor(values) else np.asarray(values)
    values = values.astype("float64")
    if values.shape != (len(samples),) or np.isnan(values).any():
        raise ValueError(
            f"A density returns log p for each of {len(samples)} samples. Received: shape {values.shape} with "
            f"{int(np.isnan(values).sum())} NaN"
        )
    return values


def _checked_tolerance(tolerance, count):
    array = check_array("tolerance", tolerance, "float64")
    if array.shape not in ((), (count,)) or not np.all(array > 0):
        raise ValueError(f"`tolerance` is a number > 0, or one for each mode, ({count},). Received: {tolerance!r}")
    return array


def _checked(name, value, least=1):
    array = check_features(name, value).astype("float64")
    if len(array) < least:
        raise ValueError(f"At least {least} samples are needed on each side. Received: {name} with {len(array)}")
    return array


def _pair(first, second, least=1, names=("generated", "real")):
    first, second = _checked(names[0], first, least), _checked(names[1], second, least)
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"Vectors of one width are compared. Received: {names[0]} of shape {first.shape}, {names[1]} of shape "
            f"{second.shape}"
        )
    return first, second
