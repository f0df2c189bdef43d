"""Distances between vectors, against closed forms."""

import numpy as np
import pytest
from scipy import stats

import keras_diffusion as kd
from keras_diffusion import metrics


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_sliced_wasserstein_of_one_dimension_is_the_wasserstein_distance(rng):
    x, y = rng.standard_normal((40, 1)), 2.0 * rng.standard_normal((40, 1)) + 1.0
    expected = np.sqrt(np.mean((np.sort(x[:, 0]) - np.sort(y[:, 0])) ** 2))
    found = metrics.sliced_wasserstein(x, y)
    np.testing.assert_allclose(found.value, expected, rtol=1e-12)
    assert found.standard_error == 0.0


def test_unequal_numbers_are_transported_exactly(rng):
    x, y = rng.standard_normal((6, 2)), rng.standard_normal((9, 2))
    # Each sample as often as makes both sides equally many is the same distribution.
    repeated = metrics.sliced_wasserstein(np.repeat(x, 3, axis=0), np.repeat(y, 2, axis=0), directions=50).value
    np.testing.assert_allclose(metrics.sliced_wasserstein(x, y, directions=50).value, repeated, rtol=1e-12)


def test_a_shift_is_seen_as_wide_as_it_is(rng):
    """W₂ along u of x and x + s is |u·s|, whose mean square is |s|²/d."""
    x, shift = rng.standard_normal((50, 3)), np.array([3.0, 0.0, 4.0])
    found = metrics.sliced_wasserstein(x, x + shift, directions=4000)
    assert abs(found.value - 5.0 / np.sqrt(3)) < 4 * found.standard_error < 0.15


@pytest.mark.parametrize("sigma", [0.5, 2.0])
def test_mmd_of_gaussians_has_a_closed_form(rng, sigma):
    """E k(x, y) = (σ²/(σ² + s² + t²))^{d/2}·exp(−|μ − ν|²/(2(σ² + s² + t²))) for N(μ, s²) and N(ν, t²)."""
    s, t, gap, d = 1.0, 0.5, 1.0, 2
    x, y = s * rng.standard_normal((1500, d)), t * rng.standard_normal((1200, d)) + [gap, 0.0]

    def mean_kernel(variance, squared_gap):
        total = sigma**2 + variance
        return (sigma**2 / total) ** (d / 2) * np.exp(-squared_gap / (2 * total))

    expected = mean_kernel(2 * s**2, 0) + mean_kernel(2 * t**2, 0) - 2 * mean_kernel(s**2 + t**2, gap**2)
    found = metrics.mmd(x, y, sigma=sigma)
    assert abs(found.value - expected) < 4 * found.standard_error < 0.3 * expected


def test_mmd_is_unbiased_and_the_median_sets_its_scale(rng):
    x = rng.standard_normal((200, 2))
    values = [metrics.mmd(*np.split(rng.permutation(x), 2)).value for _ in range(40)]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(40), "0 for equal distributions, on average"
    y = rng.standard_normal((200, 2)) + 1.0
    np.testing.assert_allclose(metrics.mmd(1e3 * x, 1e3 * y).value, metrics.mmd(x, y).value, rtol=1e-9)


def test_energy_distance_is_scipys_without_its_bias(rng):
    """scipy takes the root, and counts pairs of a sample with itself."""
    x, y = rng.standard_normal(60), rng.standard_normal(50) + 0.7
    n, m = len(x), len(y)
    within_x, within_y = (np.abs(v[:, None] - v).sum() / len(v) ** 2 for v in (x, y))
    biased = stats.energy_distance(x, y) ** 2
    expected = biased - within_x / (n - 1) - within_y / (m - 1)
    np.testing.assert_allclose(metrics.energy_distance(x[:, None], y[:, None]).value, expected, rtol=1e-10)


def test_negative_log_likelihood_of_a_gaussian_is_its_entropy():
    density = kd.denoisers.MixtureDenoiser([1.0], [[0.0, 0.0]], [0.5])
    entropy = np.log(2 * np.pi * np.e * 0.25)
    found = metrics.negative_log_likelihood(density.sample(4000), density)
    assert abs(found.value - entropy) < 4 * found.standard_error < 0.1
    by_function = metrics.negative_log_likelihood(
        density.sample(4000), lambda x: stats.multivariate_normal([0, 0], 0.25 * np.eye(2)).logpdf(x)
    )
    np.testing.assert_allclose(by_function.value, found.value, rtol=1e-5)
    nowhere = metrics.negative_log_likelihood(np.ones((3, 1)), lambda x: np.array([0.0, -np.inf, 0.0]))
    assert nowhere.value == np.inf and nowhere.standard_error is None


def test_mode_coverage_counts_for_the_nearest_mode():
    modes = [[0.0, 0.0], [4.0, 0.0], [0.0, 4.0], [4.0, 4.0]]
    samples = [[0.1, 0.0], [0.0, 0.5], [3.9, 0.0], [2.0, 2.0], [0.0, 3.0]]
    found = metrics.mode_coverage(samples, modes, tolerance=1.0)
    assert found.counts.tolist() == [2, 1, 1, 0] and (found.covered, found.near) == (0.75, 0.8)
    assert metrics.mode_coverage(samples, modes, tolerance=[1.0, 1.0, 0.9, 1.0], least=2).covered == 0.25


def test_refusals():
    x = np.zeros((5, 2))
    with pytest.raises(ValueError, match="Vectors of one width"):
        metrics.sliced_wasserstein(x, np.zeros((5, 3)))
    with pytest.raises(ValueError, match="At least 2 samples are needed on each side. Received: real with 1"):
        metrics.energy_distance(x, np.zeros((1, 2)))
    with pytest.raises(ValueError, match="most are equal. Pass sigma="):
        metrics.mmd(x, x)
    with pytest.raises(ValueError, match="1 NaN or infinite values"):
        metrics.sliced_wasserstein([[np.nan, 0.0]], x)
    with pytest.raises(ValueError, match="log p for each of 5 samples"):
        metrics.negative_log_likelihood(x, lambda samples: samples)
    with pytest.raises(ValueError, match="number > 0, or one for each mode"):
        metrics.mode_coverage(x, x, tolerance=0.0)
