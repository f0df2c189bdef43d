"""Brownian noise in samplers: another number of steps sees the same path."""

import numpy as np
import pytest
from golden_data import array

from keras_diffusion import samplers, schedulers
from keras_diffusion.denoisers import MixtureDenoiser

POINT = MixtureDenoiser([1.0], [[0.3, -0.7]], [0.0])  # x0 does not depend on x: every reverse-SDE step is exact
SCHEDULE = schedulers.get("cosine")
X = np.random.default_rng(0).standard_normal((3, 2))


def walk(name, edges, noise, seed=4, **options):
    levels = SCHEDULE.levels(np.asarray(edges))
    x = levels.alpha[0] * np.array([0.3, -0.7]) + levels.sigma[0] * X
    return array(samplers.get(name, **options).sample(x, POINT, levels, noise=noise, seed=seed, schedule=SCHEDULE))


# Operation by operation, as here, sums of many normals take long in TensorFlow; two samplers stand for all of them
# there.
EXACT = ["ddpm", "dpmpp_sde"]
EXACT += [
    pytest.param(name, marks=pytest.mark.slow)
    for name in ("euler_ancestral", "dpm_2_ancestral", "dpmpp_2s_ancestral", "dpmpp_2m_sde", "dpmpp_3m_sde")
]


@pytest.mark.parametrize("name", EXACT)
def test_a_step_that_is_split_arrives_at_the_same_place(name):
    one, four = walk(name, [0.9, 0.3], "brownian"), walk(name, [0.9, 0.8, 0.6, 0.45, 0.3], "brownian")
    np.testing.assert_allclose(four, one, atol=5e-3)
    assert (
        np.abs(walk(name, [0.9, 0.3], "independent") - walk(name, [0.9, 0.8, 0.6, 0.45, 0.3], "independent")).max()
        > 0.05
    )
    assert np.abs(walk(name, [0.9, 0.3], "brownian", seed=5) - one).max() > 0.05


@pytest.mark.slow
def test_a_share_of_the_sdes_noise_has_its_own_clock():
    for eta in (0.5, 2.0):
        one, three = (walk("dpmpp_2m_sde", edges, "brownian", eta=eta) for edges in ([0.9, 0.3], [0.9, 0.7, 0.5, 0.3]))
        np.testing.assert_allclose(three, one, atol=5e-3)


@pytest.mark.parametrize("name", ["dpmpp_sde", "dpmpp_2m_sde", "dpmpp_3m_sde"])
def test_sde_solvers_are_brownian_by_themselves(name):
    edges = [0.9, 0.6, 0.3]
    np.testing.assert_array_equal(walk(name, edges, None), walk(name, edges, "brownian"))
    np.testing.assert_array_equal(walk("ddpm", edges, None), walk("ddpm", edges, "independent"))


def test_unknown_kind_of_noise():
    with pytest.raises(
        ValueError,
        match="Noise is an array, 'independent', 'brownian', or None for the sampler's own way. Received: noise='pink'",
    ):
        walk("ddpm", [0.9, 0.3], "pink")


@pytest.mark.slow  # `generate` is compiled on all backends, see test_watching.py
@pytest.mark.parametrize("name", ["dpmpp_2m_sde", "dpmpp_sde"])
def test_more_steps_refine_the_same_sample(name):
    """On a mixture: the samples of 40 and of 80 steps are near each other, for independent noise they are not."""
    denoise = MixtureDenoiser([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.5]], [0.4, 0.3])
    x = np.random.default_rng(1).standard_normal((64, 2))

    def sample(steps, noise):
        levels = SCHEDULE.levels(np.linspace(0.98, 0.05, steps + 1))
        return array(samplers.get(name).sample(x, denoise, levels, noise=noise, seed=2, schedule=SCHEDULE))

    near, far = (np.median(np.abs(sample(40, noise) - sample(80, noise))) for noise in ("brownian", "independent"))
    assert near < 0.3 * far
