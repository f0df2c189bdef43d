"""A plain function as denoiser: with samplers, within guidance, and what it says of wrong answers."""

import keras
import numpy as np
import pytest

import keras_diffusion as kd
from keras_diffusion.core.function_denoiser import as_denoiser

POINT = kd.denoisers.MixtureDenoiser([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.0]], [0.2, 0.3])
LEVELS = kd.schedulers.get("cosine").levels(np.linspace(1.0, 0.1, 5)).with_clean_end()
X = np.random.default_rng(0).standard_normal((3, 2))


def function(x, level):
    """As POINT, as a plain tuple."""
    return tuple(POINT(x, level))


@pytest.mark.parametrize("name", ["ddim", "lcm", "heun", "pndm"])
def test_a_function_samples_as_the_denoiser_does(name):
    sampler, options = kd.samplers.get(name), {"seed": 0, "trajectory": "x0"}
    for mine, other in zip(
        sampler.sample(X, function, LEVELS, **options), sampler.sample(X, POINT, LEVELS, **options), strict=True
    ):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(mine), keras.ops.convert_to_numpy(other))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda denoise: kd.guidance.StaticThreshold(denoise, 0.5),
        lambda denoise: kd.guidance.ClassifierFreeGuidance(denoise, denoise, 2.0),
        lambda denoise: kd.guidance.AdaptiveProjectedGuidance(denoise, POINT, 2.0, momentum=-0.5),
        lambda denoise: kd.guidance.DPS(denoise, np.ones((1, 2)), lambda x0: x0, noise_std=0.5),
    ],
)
def test_a_function_can_be_guided(wrap):
    level = LEVELS.map(lambda v: v[2])
    for mine, other in zip(wrap(function)(X, level), wrap(POINT)(X, level), strict=True):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(mine), keras.ops.convert_to_numpy(other), rtol=1e-6)


def test_what_is_a_denoiser_stays_as_it_is():
    assert as_denoiser(POINT) is POINT and repr(as_denoiser(function)) == repr(function)
    assert as_denoiser(as_denoiser(function)).function is function


@pytest.mark.parametrize(
    ("denoise", "message"),
    [
        (3, r"`denoise` must be a denoiser: a function of \(x, level\).* Received: denoise=3. A network becomes one"),
        (kd.networks.MLP((2,), width=4, depth=1), r"Received: denoise=.*MLP.*NetworkDenoiser\(network, predictor\)"),
        (lambda x, level: x, r"returns \(x0, ε\), two tensors of the shape of x, \(3, 2\). Received: .*return `Pred"),
        (lambda x, level: (x, 0.0), r"two tensors of the shape of x, \(3, 2\). Received: "),
    ],
)
def test_what_is_none_says_so(denoise, message):
    with pytest.raises(ValueError, match=message):
        kd.samplers.get("ddim").sample(X, denoise, LEVELS)
