"""Classifier guidance with the true classifier of a mixture is the denoiser of one component."""

import math

import compiled_sampling
import numpy as np
import pytest
from golden_data import PROBLEM, array, exploding_levels, mixture, tensor, tolerance
from keras import ops

from keras_diffusion import samplers, schedulers
from keras_diffusion.core.levels import Levels
from keras_diffusion.guidance import ClassifierGuidance

X = np.random.default_rng(1).standard_normal((5, 2))


def log_posterior(component, problem="gmm2"):
    """log p(component | x_t), in closed form: log w_k − d/2·log v_k − |x − α·μ_k|²/(2·v_k), normalized."""
    weights, means, stds = (PROBLEM[f"{problem}/{key}"] for key in ("weights", "means", "stds"))
    dims = math.prod(means.shape[1:])

    def log_prob(x, level):
        alpha, sigma = (
            ops.reshape(ops.convert_to_tensor(v, dtype=x.dtype), (-1, 1)) for v in (level.alpha, level.sigma)
        )
        variance = alpha**2 * tensor(stds**2) + sigma**2
        offset = ops.reshape(x, (-1, 1, dims)) - alpha[..., None] * tensor(means.reshape(1, -1, dims))
        logits = tensor(np.log(weights)) - 0.5 * dims * ops.log(variance) - 0.5 * ops.sum(offset**2, axis=-1) / variance
        return ops.log_softmax(logits, axis=-1)[:, component]

    return log_prob


@pytest.mark.parametrize("component", [0, 1, 2])
@pytest.mark.parametrize(("alpha", "sigma"), [(0.6, 0.8), (1.0, 5.0), (0.95, 0.05), (0.3, 0.7), (1e-3, 1.0)])
def test_bayes_rule(component, alpha, sigma):
    guided = ClassifierGuidance(mixture("gmm2"), log_posterior(component))(X, Levels(0.5, alpha, sigma))
    for value, expected in zip(guided, mixture("gmm2", component)(X, Levels(0.5, alpha, sigma)), strict=True):
        np.testing.assert_allclose(array(value), array(expected), atol=tolerance(2e-4, 1e-9))


def test_a_level_and_a_shape_per_sample():
    alpha, sigma = np.array([0.6, 0.2]), np.array([0.8, 0.9])
    x = np.random.default_rng(0).standard_normal((2, 4, 4, 3))
    guided = ClassifierGuidance(mixture("gmmimg"), log_posterior(3, "gmmimg"))(x, Levels(alpha, alpha, sigma))
    expected = mixture("gmmimg", 3)(x, Levels(alpha, alpha, sigma))
    np.testing.assert_allclose(array(guided.x0), array(expected.x0), atol=tolerance(2e-4, 1e-9))


def test_scale_multiplies_the_gradient_and_predictions_stay_consistent():
    level, plain = Levels(0.5, 0.6, 0.8), mixture("gmm2")(X, Levels(0.5, 0.6, 0.8))
    once, thrice = (ClassifierGuidance(mixture("gmm2"), log_posterior(1), scale)(X, level) for scale in (1.0, 3.0))
    np.testing.assert_allclose(
        array(thrice.eps - plain.eps), 3 * array(once.eps - plain.eps), atol=tolerance(1e-5, 1e-12)
    )
    np.testing.assert_allclose(0.6 * array(thrice.x0) + 0.8 * array(thrice.eps), X, atol=tolerance(1e-5, 1e-12))


def test_pure_noise_tells_no_class():
    level = Levels(1.0, 0.0, 1.0)
    guided = ClassifierGuidance(mixture("gmm2"), log_posterior(1))(X, level)
    for value, expected in zip(guided, mixture("gmm2")(X, level), strict=True):
        np.testing.assert_allclose(array(value), array(expected), atol=tolerance(1e-6, 1e-12))


@pytest.mark.parametrize("sampler", ["heun", "ddim"])
def test_samples_are_those_of_the_component(sampler):
    """Inside the compiled loop."""
    levels = exploding_levels(
        schedulers.get("ve").levels(schedulers.get_spacing("karras")(schedulers.get("ve"), 12)).sigma
    )
    x, sampler = levels.sigma[0] * X, samplers.get(sampler)
    guided = compiled_sampling.sample(
        sampler,
        x,
        "classifier",
        ClassifierGuidance(mixture("gmm2"), log_posterior(1)),
        levels,
        schedule=schedulers.get("ve"),
    )
    alone = compiled_sampling.sample(sampler, x, "component", mixture("gmm2", 1), levels, schedule=schedulers.get("ve"))
    np.testing.assert_allclose(guided[-1], alone[-1], atol=tolerance(1e-3, 1e-9))
