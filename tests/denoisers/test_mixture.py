"""The exact denoiser of a Gaussian mixture, on which all tests of samplers rest."""

import numpy as np
import pytest
from golden_data import PROBLEM, array, mixture, round_trip, tensor, tolerance

from keras_diffusion.core.levels import Levels
from keras_diffusion.denoisers import MixtureDenoiser


@pytest.mark.parametrize("problem", ["gmm2", "gmmimg"])
def test_posterior_means_agree_with_the_reference(problem):
    check = {key: PROBLEM[f"{problem}/check_{key}"] for key in ("x", "alpha", "sigma", "denoised", "eps")}
    x0, eps = mixture(problem)(check["x"], Levels(np.zeros(12), check["alpha"], check["sigma"]))
    np.testing.assert_allclose(array(x0), check["denoised"], atol=tolerance(2e-5, 1e-12))
    np.testing.assert_allclose(array(eps), check["eps"], atol=tolerance(2e-5, 1e-12))


@pytest.mark.parametrize("problem", ["gmm2", "gmmimg"])
def test_log_density_agrees_with_the_reference(problem):
    check = {key: PROBLEM[f"{problem}/check_{key}"] for key in ("x", "alpha", "sigma", "logp")}
    denoise = mixture(problem)
    log_prob = denoise.log_prob(check["x"], Levels(np.zeros(12), check["alpha"], check["sigma"]))
    np.testing.assert_allclose(array(log_prob), check["logp"], rtol=tolerance(2e-5, 1e-11))
    clean = denoise.log_prob(check["x"], Levels(0.0, 1.0, 0.0))
    np.testing.assert_array_equal(array(denoise.log_prob(check["x"])), array(clean))


def test_a_point_has_no_density():
    with pytest.raises(ValueError, match="A point has no density; take a level with noise. Received: level=None"):
        MixtureDenoiser([1.0], [[0.0]], [0.0]).log_prob([[0.0]])


def test_one_level_for_all_equals_the_same_level_for_each():
    x = np.random.default_rng(0).standard_normal((5, 2))
    denoise = mixture("gmm2")
    one = denoise(x, Levels(0.5, 0.6, 0.8))
    each = denoise(x, Levels(*(np.full(5, v) for v in (0.5, 0.6, 0.8))))
    tensors = denoise(tensor(x), Levels(*(tensor(v) for v in (0.5, 0.6, 0.8))))
    for other in (each, tensors):
        np.testing.assert_allclose(array(one), array(other), atol=1e-6)


def test_prediction_is_consistent_with_x():
    x = np.random.default_rng(0).standard_normal((5, 4, 4, 3))
    x0, eps = mixture("gmmimg")(x, Levels(0.5, 0.6, 0.8))
    np.testing.assert_allclose(0.6 * array(x0) + 0.8 * array(eps), x, atol=1e-5)


def test_a_single_gaussian_is_linear_regression():
    denoise = MixtureDenoiser([3.0], [[1.0, -2.0]], [0.5])
    x = np.array([[0.3, 0.7]])
    expected = np.array([1, -2]) + 0.6 * 0.25 / (0.36 * 0.25 + 0.64) * (x - 0.6 * np.array([1, -2]))
    np.testing.assert_allclose(array(denoise(x, Levels(0.5, 0.6, 0.8)).x0), expected, atol=1e-6)


def test_points_are_found_again_at_low_noise():
    denoise = MixtureDenoiser([0.5, 0.5], [[1.0], [-1.0]], [0.0, 0.0])
    np.testing.assert_allclose(array(denoise([[0.9], [-1.2]], Levels(0.1, 1.0, 0.1)).x0), [[1], [-1]], atol=1e-6)


def test_at_pure_noise_x0_is_the_mean():
    x = np.random.default_rng(0).standard_normal((4, 2))
    x0, eps = mixture("gmm2")(x, Levels(1.0, 0.0, 1.0))
    mean = PROBLEM["gmm2/weights"] @ PROBLEM["gmm2/means"]
    np.testing.assert_allclose(array(x0), np.tile(mean, (4, 1)), atol=1e-6)
    np.testing.assert_allclose(array(eps), x, atol=1e-6)


def test_samples_have_the_moments_of_the_mixture():
    weights, means, stds = (PROBLEM[f"gmm2/{key}"] for key in ("weights", "means", "stds"))
    x = mixture("gmm2").sample(20000, seed=1)
    mean = weights @ means
    var = weights @ (stds[:, None] ** 2 + means**2) - mean**2
    assert np.all(np.abs(x.mean(0) - mean) < 4 * np.sqrt(var / 20000))
    np.testing.assert_allclose(x.var(0), var, rtol=0.05)
    noisy = mixture("gmm2").sample(20000, Levels(0.5, 0.6, 0.8), seed=1)
    np.testing.assert_allclose(noisy.var(0), 0.36 * var + 0.64, rtol=0.05)


def test_sampling_is_reproducible_and_has_the_samples_shape():
    x = mixture("gmmimg").sample(3, seed=5)
    assert type(x) is np.ndarray and x.dtype == np.float64 and x.shape == (3, 4, 4, 3)
    np.testing.assert_array_equal(x, mixture("gmmimg").sample(3, seed=5))
    assert not np.array_equal(x, mixture("gmmimg").sample(3, seed=6))


def test_config_round_trip():
    denoise = mixture("gmm2")
    copy = round_trip(denoise)
    x = np.random.default_rng(0).standard_normal((5, 2))
    np.testing.assert_array_equal(array(copy(x, Levels(0.5, 0.6, 0.8))), array(denoise(x, Levels(0.5, 0.6, 0.8))))


@pytest.mark.parametrize(
    ("weights", "means", "stds"),
    [([1.0], [[0.0], [1.0]], [1.0, 1.0]), ([], np.zeros((0, 1)), []), ([[1.0]], [[0.0]], [1.0])],
)
def test_one_of_everything_per_component(weights, means, stds):
    with pytest.raises(
        ValueError, match="one weight, one mean and one standard deviation per component. Received shapes: weights"
    ):
        MixtureDenoiser(weights, means, stds)


@pytest.mark.parametrize(("weight", "std"), [(0.0, 1.0), (-1.0, 1.0), (1.0, -0.1)])
def test_weights_and_stds_in_range(weight, std):
    with pytest.raises(
        ValueError, match="Weights must be positive and standard deviations not negative. Received: weights="
    ):
        MixtureDenoiser([1.0, weight], [[0.0], [1.0]], [1.0, std])


@pytest.mark.parametrize("weights", [[1.0, float("nan")], ["a", "b"], [[1.0], [1.0, 2.0]], None, object()])
def test_parts_are_arrays_of_finite_numbers(weights):
    with pytest.raises(ValueError, match="`weights` must be (finite|an array of numbers). Received: weights"):
        MixtureDenoiser(weights, [[0.0], [1.0]], [1.0, 1.0])
