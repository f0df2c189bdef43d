"""Boundary conditions of consistency models."""

import numpy as np
import pytest
from golden_data import array, mixture, tensor, tolerance

from keras_diffusion import predictors, schedulers
from keras_diffusion.core.levels import Levels
from keras_diffusion.denoisers import ConsistencyDenoiser, EDMConsistencyDenoiser, NetworkDenoiser

X = np.random.default_rng(0).standard_normal((4, 2))


def network(inputs, training=False):
    """Stands for the raw network F."""
    return 0.3 * inputs["x"] + 0.1


def test_latent_consistency_returns_its_input_at_timestep_zero():
    schedule = schedulers.get("linear")
    found = ConsistencyDenoiser(mixture("gmm2"))(X, schedule.levels(1 / 1000))
    np.testing.assert_allclose(array(found.x0), X, atol=1e-5)


def test_latent_consistency_mixes_x_with_x0():
    """At timestep 3 with σ_d = 0.5 and a scaling of 0.1: τ = 0.3, c_skip = 0.25/0.34, c_out = 0.3/√0.34."""
    level = schedulers.get("linear").levels(4 / 1000)
    found = ConsistencyDenoiser(mixture("gmm2"), timestep_scaling=0.1)(X, level)
    expected = 0.25 / 0.34 * X + 0.3 / 0.34**0.5 * array(mixture("gmm2")(X, level).x0)
    np.testing.assert_allclose(array(found.x0), expected, atol=1e-5)
    np.testing.assert_allclose(level.alpha * array(found.x0) + level.sigma * array(found.eps), X, atol=1e-5)


@pytest.mark.parametrize("alpha", [1.0, 0.6])
@pytest.mark.parametrize("ratio", [0.002, 0.1, 3.0])
def test_edm_form_is_that_of_the_paper(ratio, alpha):
    """c_skip·x̂ + c_out·F with the network's raw output at x̂ = x/α."""
    level = Levels(0.5, alpha, alpha * ratio)
    found = EDMConsistencyDenoiser(NetworkDenoiser(network, predictors.get("edm", sigma_data=0.5)))(alpha * X, level)
    raw = network({"x": X / np.sqrt(ratio**2 + 0.25)})
    c_skip = 0.25 / ((ratio - 0.002) ** 2 + 0.25)
    c_out = 0.5 * (ratio - 0.002) / np.sqrt(0.25 + ratio**2)
    np.testing.assert_allclose(array(found.x0), c_skip * X + c_out * raw, atol=tolerance(1e-5, 1e-12))


def test_levels_per_sample_and_pure_noise():
    level = Levels(np.array([1.0, 0.9, 0.5, 0.2]), np.array([0.0, 0.1, 0.6, 0.9]), np.array([1.0, 0.9, 0.8, 0.3]))
    for wrapped in (ConsistencyDenoiser(mixture("gmm2")), EDMConsistencyDenoiser(mixture("gmm2"))):
        together = wrapped(tensor(X), level)
        one = wrapped(tensor(X[2:3]), level.map(lambda v: v[2]))
        assert np.all(np.isfinite(array(together.x0)))
        np.testing.assert_allclose(array(together.x0)[2:3], array(one.x0), atol=1e-5)


def test_what_it_wraps_is_among_its_parts():
    inner = mixture("gmm2")
    assert inner in ConsistencyDenoiser(inner).parts() and inner in EDMConsistencyDenoiser(inner).parts()


def test_bad_options():
    with pytest.raises(
        ValueError, match="must be positive. Received: sigma_data=0.5, timestep_scaling=0.0, timesteps=1000"
    ):
        ConsistencyDenoiser(mixture("gmm2"), timestep_scaling=0.0)
    with pytest.raises(
        ValueError,
        match="must not be negative and `sigma_data` must be positive. Received: sigma_min=-0.1, sigma_data=0.5",
    ):
        EDMConsistencyDenoiser(mixture("gmm2"), sigma_min=-0.1)
