"""The ideal denoiser of a finite data set."""

import numpy as np
import pytest
from golden_data import array, tolerance

from keras_diffusion.core.levels import Levels
from keras_diffusion.denoisers import DatasetDenoiser, MixtureDenoiser

DATA = np.random.default_rng(0).standard_normal((20, 3, 3, 1))


@pytest.mark.parametrize("level", [Levels(0.5, 0.6, 0.8), Levels(0.9, 0.1, 0.99), Levels(0.1, 1.0, 0.3)])
def test_equals_a_mixture_of_points(level):
    x = np.random.default_rng(1).standard_normal((5, 3, 3, 1))
    expected = MixtureDenoiser(np.ones(20), DATA, np.zeros(20))(x, level)
    found = DatasetDenoiser(DATA)(x, level)
    np.testing.assert_allclose(array(found.x0), array(expected.x0), atol=tolerance(1e-4, 1e-11))
    np.testing.assert_allclose(array(found.eps), array(expected.eps), atol=tolerance(3e-4, 1e-11))


def test_levels_per_sample():
    x = np.random.default_rng(1).standard_normal((2, 3, 3, 1))
    both = DatasetDenoiser(DATA)(x, Levels(np.array([0.5, 0.9]), np.array([0.6, 0.1]), np.array([0.8, 0.99])))
    first = DatasetDenoiser(DATA)(x[:1], Levels(0.5, 0.6, 0.8))
    np.testing.assert_allclose(array(both.x0)[:1], array(first.x0), atol=1e-5)


def test_at_low_noise_it_returns_the_nearest_sample():
    x = DATA[[3, 7]] + 0.01
    np.testing.assert_allclose(array(DatasetDenoiser(DATA)(x, Levels(0.0, 1.0, 0.02)).x0), DATA[[3, 7]], atol=1e-5)


@pytest.mark.parametrize("data", [np.zeros((0, 4)), np.float32(3.0)])
def test_needs_data(data):
    with pytest.raises(ValueError, match="needs at least one sample. Received: an array of shape"):
        DatasetDenoiser(data)
