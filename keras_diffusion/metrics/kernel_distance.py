"""Kernel distances: squared maximum mean discrepancies (MMD²) between features.

    MMD² = mean k(x, x′) + mean k(y, y′) − 2·mean k(x, y)

    KID     k(x, y) = (x·y/d + 1)³, unbiased: pairs of a sample with itself are left out
    CMMD    k(x, y) = exp(−|x − y|²/(2·10²)), with them, times 1000

The unbiased estimate is right on average for any number of samples, and may fall below 0.
"""

import numpy as np

from keras_diffusion.configs.checks import check_number, check_whole
from keras_diffusion.metrics.blocks import cross_kernel_sums, own_kernel_sums
from keras_diffusion.metrics.feature_metric import FEATURE_METRICS, Estimate, FeatureMetric
from keras_diffusion.metrics.features import check_features


def kernel_distance(generated, real, subsets=100, subset_size=1000, seed=2020):
    """KID: unbiased MMD² with the kernel (x·y/d + 1)³, the mean over random subsets or over all pairs.

    Args:
        generated: `(N, width)`, features.
        real: `(M, width)`.
        subsets: number of pairs of subsets, or None for the estimate from all samples, which no seed changes; its time
            grows with the square of their number.
        subset_size: samples of a subset, at most N and M.
        seed: of the subsets. The numbers of torch-fidelity with the same seed.

    Returns:
        `Estimate`.

    Raises:
        ValueError: too few samples, unequal widths, or NaN.

    Example:

    >>> x, y = np.array([[0.0], [1.0]]), np.array([[1.0], [2.0]])
    >>> kd.metrics.kernel_distance(x, y, subsets=None).value  # 1 + 27 − 2·(1 + 1 + 8 + 27)/4
    9.5
    """
    return KID(subsets, subset_size, seed)(generated, real)


def subset_distances(generated, real, subsets=100, subset_size=1000, seed=2020):
    """The KIDs of the subsets that `kernel_distance` takes the mean of.

    Args:
        generated, real, subsets, subset_size, seed: see `kernel_distance`; `subsets` is not None.

    Returns:
        float64 `(subsets,)`. Their standard deviation is what torch-fidelity writes after ±.
    """
    metric = KID(subsets, subset_size, seed)
    generated, real = check_features("generated", generated), check_features("real", real)
    metric.check_counts(generated.shape[1], generated=len(generated), real=len(real))
    return np.array([value for value, _, _ in metric._each_subset(generated, real)])


@FEATURE_METRICS.register("kid", "kd", "kernel_distance")
class KID(FeatureMetric):
    """Kernel distance, MMD² with k(x, y) = (x·y/d + 1)³, unbiased; on Inception features KID.

    The standard error is that of a U-statistic, √(4·Var h(x)/N + 4·Var h(y)/M), h(x) being the mean of k(x, x′) −
    k(x, y) over the others, plus what the choice of the subsets adds. Where the distributions are equal it is twice too
    large, and more if N is many times `subset_size`. torch-fidelity shows the standard deviation of the subsets
    instead.

    Args:
        subsets: number of pairs of subsets, or None for the estimate from all pairs of samples, whose time grows with
            the square of their number. Default 100.
        subset_size: samples of a subset. Default 1000.
        seed: of the subsets, ≥ 0; the same subsets as torch-fidelity's. Default 2020.

    Example:

    >>> rng = np.random.default_rng(0)
    >>> generated, real = rng.normal(0.5, 1.0, (500, 4)), rng.normal(0.0, 1.0, (500, 4))
    >>> print(kd.metrics.get("kid", subset_size=500)(generated, real))
    1.188 ± 0.17

    Reference:
        Bińkowski et al., "Demystifying MMD GANs", arXiv:1801.01401, section 4.
    """

    name, title, better = "kid", "KID", "lower"

    def __init__(self, subsets=100, subset_size=1000, seed=2020):
        check_whole("subsets", subsets, 1, optional=True)
        check_whole("subset_size", subset_size, 2)
        check_whole("seed", seed, 0)
        if subsets is not None:
            self.why = (
                f"Subsets hold {subset_size:,} different samples each: take more samples, a smaller `subset_size`, or "
                "`subsets=None`, the estimate from all pairs, which needs 2."
            )

    def minimum(self, width):
        return 2 if self.subsets is None else self.subset_size

    def measure(self, generated, real, training):
        if self.subsets is None:
            value, spread_x, spread_y = unbiased_mmd(generated, real, polynomial_kernel)
            return Estimate(value, float(np.sqrt(4.0 * (spread_x / len(generated) + spread_y / len(real)))))
        values, spread_x, spread_y = np.mean(list(self._each_subset(generated, real)), axis=0)
        all_samples = 4.0 * (spread_x / len(generated) + spread_y / len(real))
        one_subset = 4.0 * (spread_x + spread_y) / self.subset_size
        return Estimate(float(values), float(np.sqrt(all_samples + (one_subset - all_samples) / self.subsets)))

    def _each_subset(self, generated, real):
        rng = np.random.RandomState(self.seed)
        for _ in range(self.subsets):
            x = generated[rng.choice(len(generated), self.subset_size, replace=False)]
            y = real[rng.choice(len(real), self.subset_size, replace=False)]
            yield unbiased_mmd(x, y, polynomial_kernel)


@FEATURE_METRICS.register("cmmd")
class CMMD(FeatureMetric):
    """CMMD: 1000·MMD² with k(x, y) = exp(−|x − y|²/(2σ²)), meant for CLIP embeddings of length 1.

    All pairs count, a sample with itself too, as in the original: the estimate is biased upwards, by
    about 1000·(1 − mean k)·(1/N + 1/M), and never below 0. Time grows with the square of the number of samples. The
    standard error is that of a V-statistic, as in `KID`.

    Args:
        sigma: σ of the kernel, `()`, > 0. Default 10.
        scale: factor of the result, > 0. Default 1000.

    Example:

    >>> x, y = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[0.0, 1.0], [-1.0, 0.0]])
    >>> round(kd.metrics.get("cmmd")(x, y).value, 4)
    9.9007

    Reference:
        Jayasumana et al., "Rethinking FID: towards a better evaluation metric for image generation", arXiv:2401.09603,
        equations 5 and 6.
    """

    name, title, better = "cmmd", "CMMD", "lower"

    def __init__(self, sigma=10.0, scale=1000.0):
        check_number("sigma", sigma, above=0)
        check_number("scale", scale, above=0)

    def measure(self, generated, real, training):
        def kernel(x, y):
            squares = np.sum(x**2, axis=1)[:, None] + np.sum(y**2, axis=1) - 2.0 * x @ y.T
            return np.exp(np.maximum(squares, 0.0, out=squares) / (-2.0 * self.sigma**2))

        n, m = len(generated), len(real)
        xx, yy = own_kernel_sums(generated, kernel), own_kernel_sums(real, kernel)
        xy, yx = cross_kernel_sums(generated, real, kernel)
        value = (xx.sum() + n) / n**2 + (yy.sum() + m) / m**2 - 2.0 * xy.sum() / (n * m)
        variance = 4.0 * (np.var(xx / n - xy / m) / n + np.var(yy / m - yx / n) / m)
        return Estimate(float(self.scale * value), float(self.scale * np.sqrt(variance)))


def unbiased_mmd(x, y, kernel):
    """Unbiased MMD² from all pairs, without those of a sample with itself.

    Args:
        x: `(N, width)`, N ≥ 2.
        y: `(M, width)`, M ≥ 2.
        kernel: as in `blocks.own_kernel_sums`.

    Returns:
        (MMD², Var h(x), Var h(y)), floats; h(x) is the mean of k(x, x′) − k(x, y) over the other samples.
    """
    n, m = len(x), len(y)
    xx, yy = own_kernel_sums(x, kernel), own_kernel_sums(y, kernel)
    xy, yx = cross_kernel_sums(x, y, kernel)
    value = xx.sum() / (n * (n - 1)) + yy.sum() / (m * (m - 1)) - 2.0 * xy.sum() / (n * m)
    return float(value), float(np.var(xx / (n - 1) - xy / m)), float(np.var(yy / (m - 1) - yx / n))


def polynomial_kernel(x, y):
    """(x·y/d + 1)³ of all pairs, d being the width: KID's kernel."""
    k = x @ y.T
    k /= x.shape[1]
    k += 1.0
    return k * k * k
