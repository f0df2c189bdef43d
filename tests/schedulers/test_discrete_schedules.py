"""Schedules made of a table of betas: interpolation between timesteps, k-diffusion's σ ↔ timestep,
zero terminal SNR.
"""

import numpy as np
import pytest
from golden_data import array, load, relative_error, tensor, tolerance

from keras_diffusion import schedulers

KDIFF = load("kdiff_schedules")
TABLES = {"discrete-linear": "linear", "discrete-scaled_linear": "scaled_linear"}


@pytest.mark.parametrize("case", TABLES)
def test_sigma_to_timestep_agrees_with_k_diffusion(case):
    schedule, golden = schedulers.get(TABLES[case]), KDIFF[case]
    sigma, expected = golden["query_sigma"], golden["sigma_to_t"]
    # k-diffusion clamps to the first timestep; here levels below it go on to t = 0.
    inside = sigma >= golden["sigmas"][0]
    index = schedule.timestep(schedule.time(-2 * np.log(sigma)))
    np.testing.assert_allclose(index[inside], expected[inside], rtol=0, atol=1e-9)
    assert np.all((index[~inside] < 0) & (index[~inside] > -1)) and np.all(expected[~inside] == 0)
    on_device = schedule.timestep(schedule.time(tensor(-2 * np.log(sigma[inside]))))
    np.testing.assert_allclose(array(on_device), expected[inside], atol=tolerance(2e-3, 1e-8))


@pytest.mark.parametrize("case", TABLES)
def test_timestep_to_sigma_agrees_with_k_diffusion(case):
    schedule, golden = schedulers.get(TABLES[case]), KDIFF[case]
    t = (golden["query_t"] + 1) / 1000
    levels = schedule.levels(t)
    assert relative_error(levels.sigma / levels.alpha, golden["t_to_sigma"]) < 1e-10
    alpha, sigma = schedule(tensor(t))
    assert relative_error(array(sigma) / array(alpha), golden["t_to_sigma"]) < tolerance(1e-4, 1e-10)


@pytest.mark.parametrize("case", TABLES)
def test_all_sigmas_agree_with_k_diffusion(case):
    levels = schedulers.get(TABLES[case]).levels((np.arange(1000) + 1) / 1000)
    assert relative_error(levels.sigma / levels.alpha, KDIFF[case]["sigmas"]) < 1e-10


@pytest.mark.parametrize("steps", [10, 25])
@pytest.mark.parametrize("case", TABLES)
def test_k_diffusions_default_grid_is_even_in_fractional_timesteps(case, steps):
    index = np.linspace(999, 0, steps)
    levels = schedulers.get(TABLES[case]).levels((index + 1) / 1000)
    assert relative_error(levels.sigma / levels.alpha, KDIFF[case][f"get_sigmas_{steps}"][:-1]) < 1e-10


def test_table_by_definition():
    betas = np.array([0.01, 0.1, 0.2, 0.5])
    schedule = schedulers.DiscreteNoiseSchedule(betas)
    levels = schedule.levels(np.arange(5) / 4)
    np.testing.assert_allclose(levels.alpha, np.sqrt(np.append(1, np.cumprod(1 - betas))), rtol=1e-14)
    np.testing.assert_allclose(levels.alpha**2 + levels.sigma**2, 1)
    assert levels.sigma[0] == 0
    assert schedule.timesteps == 4
    np.testing.assert_allclose(schedule.timestep(np.arange(1, 5) / 4), np.arange(4))


def test_between_levels_the_logarithm_of_the_ratio_is_linear():
    schedule = schedulers.get("linear", timesteps=100)
    low, middle, high = schedule.log_snr(np.array([50, 50.25, 51]) / 100)
    assert middle == pytest.approx(0.75 * low + 0.25 * high, abs=1e-12)


def test_below_the_first_level_the_ratio_is_linear():
    schedule = schedulers.get("linear", timesteps=100)
    levels = schedule.levels(np.array([0.0, 0.0025, 0.005, 0.01]))
    ratio = levels.sigma / levels.alpha
    np.testing.assert_allclose(ratio, ratio[-1] * np.array([0, 0.25, 0.5, 1]), rtol=1e-12)
    np.testing.assert_allclose(schedule.time(-2 * np.log(ratio[1:])), levels.t[1:], atol=1e-14)


def test_betas_scale_with_the_number_of_timesteps():
    last = [schedulers.get("linear", timesteps=steps).levels(1.0).alpha for steps in (250, 1000, 4000)]
    np.testing.assert_allclose(last, last[1], rtol=0.15)


@pytest.mark.parametrize("name", ["linear", "scaled_linear", "cosine_beta", "exp", "sigmoid_beta", "laplace_beta"])
def test_zero_terminal_snr_of_any_table(name):
    """Lin et al.

    2023, algorithm 1: the first level stays, the last is pure noise, and √ᾱ is shifted and stretched between.
    """
    plain, zero = schedulers.get(name, timesteps=50), schedulers.get(name, timesteps=50, zero_terminal_snr=True)
    assert zero.alphas[-1] == 0 and zero.levels(1.0).alpha == 0 and zero.levels(1.0).sigma == 1
    assert zero.alphas[0] == pytest.approx(plain.alphas[0], rel=1e-14)
    stretch = np.diff(zero.alphas) / np.diff(plain.alphas)
    np.testing.assert_allclose(stretch, stretch[0], rtol=1e-6)
    assert zero.betas[-1] == 1
    # Beyond the last but one level α goes linearly to 0, where the log-SNR is infinite.
    t = np.linspace(0.9, 1.0, 41)
    levels = zero.levels(t)
    assert np.all(np.diff(levels.alpha) < 0)
    np.testing.assert_allclose(zero.time(levels.log_snr), t, atol=1e-12)
    alpha, _ = zero(tensor(t))
    np.testing.assert_allclose(array(alpha), levels.alpha, atol=tolerance(2e-6, 1e-12))


def test_config_of_a_rescaled_table_keeps_the_rescaled_betas():
    schedule = schedulers.DiscreteNoiseSchedule([0.01, 0.1, 0.2, 0.5], zero_terminal_snr=True)
    copy = schedulers.DiscreteNoiseSchedule.from_config(schedule.get_config())
    np.testing.assert_allclose(copy.alphas, schedule.alphas, atol=1e-15)
    assert copy.levels(1.0).alpha == 0


@pytest.mark.parametrize("betas", [[0.1], [], [0.1, 0.0], [0.1, 1.1], [1.0, 0.1], [[0.1, 0.2]], [0.1, float("nan")]])
def test_betas_outside_the_unit_interval(betas):
    with pytest.raises(
        ValueError, match=r"at least two betas in \(0, 1\), only the last of which may be 1. Received: \d+ betas from"
    ):
        schedulers.DiscreteNoiseSchedule(betas)


def test_pure_noise_needs_three_levels():
    with pytest.raises(ValueError, match="ends in pure noise needs at least three levels. Received: 2 betas"):
        schedulers.DiscreteNoiseSchedule([0.1, 0.2], zero_terminal_snr=True)


@pytest.mark.parametrize("timesteps", [1, 0, 2.5, True])
def test_timesteps_must_be_whole(timesteps):
    with pytest.raises(
        ValueError, match="`timesteps` counts noise levels and must be an integer of at least 2. Received: timesteps="
    ):
        schedulers.get("linear", timesteps=timesteps)


def test_betas_too_large_for_few_timesteps():
    with pytest.raises(
        ValueError, match=r"scaled by 1000/10. Received: beta_start=0.0001 and beta_end=0.02, which become 0.01 and 2"
    ):
        schedulers.get("linear", timesteps=10)


def test_cap_on_betas():
    with pytest.raises(ValueError, match=r"`max_beta` caps the betas and must lie in \(0, 1\]. Received: max_beta=1.5"):
        schedulers.get("cosine_beta", max_beta=1.5)


def test_rate_of_the_exponential_table():
    with pytest.raises(ValueError, match="`rate` is the decay of the signal and must be positive. Received: rate=0"):
        schedulers.get("exp", rate=0)
