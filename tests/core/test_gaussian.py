import numpy as np
import pytest
from golden_data import array, tensor, tolerance

from keras_diffusion.core.gaussian import mix, solve

RNG = np.random.default_rng(0)
X0, EPS = RNG.standard_normal((2, 5, 3, 3, 2))
ALPHA, SIGMA = np.cos(np.linspace(0.1, 1.4, 5)), np.sin(np.linspace(0.1, 1.4, 5))


def over_images(value):
    return value[:, None, None, None]


def test_mix_with_a_level_per_sample():
    mixed = mix(tensor(X0), tensor(EPS), tensor(ALPHA), tensor(SIGMA))
    np.testing.assert_allclose(
        array(mixed), over_images(ALPHA) * X0 + over_images(SIGMA) * EPS, atol=tolerance(1e-6, 1e-14)
    )


def test_mix_with_one_level_for_all():
    np.testing.assert_allclose(
        array(mix(tensor(X0), tensor(EPS), 0.6, 0.8)), 0.6 * X0 + 0.8 * EPS, atol=tolerance(1e-6, 1e-14)
    )


@pytest.mark.parametrize("row", ["epsilon", "x0", "v", "velocity", "odd"])
def test_solve_is_the_inverse_of_mix(row):
    a, b = {
        "epsilon": (0 * ALPHA, 1 + 0 * SIGMA),
        "x0": (1 + 0 * ALPHA, 0 * SIGMA),
        "v": (-SIGMA, ALPHA),
        "velocity": (-1 + 0 * ALPHA, 1 + 0 * SIGMA),
        "odd": (0.3 - ALPHA, 2.0 + SIGMA),
    }[row]
    x = over_images(ALPHA) * X0 + over_images(SIGMA) * EPS
    y = over_images(a) * X0 + over_images(b) * EPS
    x0, eps = solve(tensor(y), tensor(x), (tensor(a), tensor(b)), tensor(ALPHA), tensor(SIGMA))
    # Worst conditioned are x0 from ε at α = 0.17 and ε from x0 at σ = 0.1.
    np.testing.assert_allclose(array(x0), X0, atol=tolerance(1e-5, 1e-13))
    np.testing.assert_allclose(array(eps), EPS, atol=tolerance(1e-5, 1e-13))


def test_solve_with_scalars():
    x0, eps = solve(tensor(0.6 * EPS - 0.8 * X0), tensor(0.6 * X0 + 0.8 * EPS), (-0.8, 0.6), 0.6, 0.8)
    np.testing.assert_allclose(array(x0), X0, atol=tolerance(1e-6, 1e-14))
    np.testing.assert_allclose(array(eps), EPS, atol=tolerance(1e-6, 1e-14))
