"""Sampling of consistency models against diffusers: LCM through its boundary condition, TCD."""

import compiled_sampling
import numpy as np
import pytest
from golden_data import array, load, mixture, tolerance

from keras_diffusion import samplers, schedulers
from keras_diffusion.core.levels import Levels
from keras_diffusion.denoisers import ConsistencyDenoiser
from keras_diffusion.guidance import StaticThreshold

CASES = load("diffusers_lcm_tcd")
LCM = [name for name in CASES if name.startswith("lcm")]
TCD = [name for name in CASES if name.startswith("tcd")]


def schedule_of(case):
    key = case.config["alphas_cumprod_key"]
    return schedulers.get("discrete", betas=case.arrays[f"betas/{key}"])


def levels_of(case, schedule, end):
    return schedule.levels(np.append((case["timesteps"] + 1) / schedule.timesteps, end))


def largest_error(steps, case):
    return np.max(np.abs(steps - case["x"][1:])) / np.abs(case["x"]).max()


def noise_of(case):
    return case["noise"][:, None] if "noise" in case else None


@pytest.mark.parametrize("name", LCM)
def test_lcm_agrees_with_diffusers(name):
    case, options = CASES[name], CASES[name].config["scheduler_config"]
    problem, schedule = case.config["problem"], schedule_of(case)
    denoise = StaticThreshold(mixture(problem)) if options["clip_sample"] else mixture(problem)
    denoise = ConsistencyDenoiser(denoise, timestep_scaling=options["timestep_scaling"], timesteps=schedule.timesteps)
    program = f"lcm {problem} {options['clip_sample']} {options['timestep_scaling']}"
    steps = compiled_sampling.sample(
        samplers.get("lcm"), case["x"][0], program, denoise, levels_of(case, schedule, 0.0), noise_of(case), schedule
    )
    assert largest_error(steps, case) < tolerance(2e-5, 1e-9)


@pytest.mark.parametrize("name", TCD)
def test_tcd_agrees_with_diffusers(name):
    """The reference ends at timestep 0, the least noisy one.

    Its noise, or none at γ = 0, is that of all steps but the last.
    """
    case = CASES[name]
    problem, schedule = case.config["problem"], schedule_of(case)
    sampler = samplers.get("tcd", **case.config["step_kwargs"])
    levels = levels_of(case, schedule, 1 / schedule.timesteps)
    steps = compiled_sampling.sample(sampler, case["x"][0], problem, mixture(problem), levels, noise_of(case), schedule)
    assert largest_error(steps, case) < tolerance(2e-5, 1e-9)


@pytest.mark.parametrize("scale", ["exploding", "flow"])
def test_tcd_at_other_scales_of_the_same_levels(scale):
    """Invariance under (α, σ) → (1, σ/α), without a schedule: the level jumped to is read off the grid."""
    preserving = schedulers.get("cosine").levels(np.linspace(0.9, 0.0, 8))
    ratio = preserving.sigma / preserving.alpha
    alpha = np.ones_like(ratio) if scale == "exploding" else 1 / (1 + ratio)
    other = Levels(preserving.t, alpha, alpha * ratio)
    rng = np.random.default_rng(0)
    x, noise = rng.standard_normal((4, 2)), rng.standard_normal((7, 1, 4, 2))
    sampler = samplers.get("tcd")
    one, two = (
        compiled_sampling.sample(sampler, levels.alpha[0] * x, "gmm2", mixture("gmm2"), levels, noise)
        for levels in (preserving, other)
    )
    np.testing.assert_allclose(
        two / other.alpha[1:, None, None], one / preserving.alpha[1:, None, None], rtol=1e-4, atol=1e-5
    )


def test_tcd_jumps_along_the_schedule():
    """A step of γ = 0.5 to t = 0.6 is the jump to t = 0.3, and fresh noise from there up to 0.6."""
    schedule = schedulers.get("flow")
    levels = schedule.levels(np.array([1.0, 0.6]))
    table = samplers.get("tcd", eta=0.5).table(levels, schedule)
    np.testing.assert_allclose(table["eps"], 0.4 * 0.3 / 0.7)
    np.testing.assert_allclose(table["eps"] ** 2 + table["noise"] ** 2, 0.6**2)
    read_off = samplers.get("tcd", eta=0.5).table(
        schedule.levels(np.array([1.0, 0.6, 0.3]))
    )  # the jump leads to a level of the grid
    np.testing.assert_allclose(read_off["eps"][0], table["eps"][0])


def test_tcd_that_jumps_all_the_way_is_lcm():
    schedule = schedulers.get("cosine")
    levels = schedule.levels(np.linspace(1.0, 0.0, 5))
    for given in (schedule, None):
        one, other = samplers.get("tcd", eta=1.0).table(levels, given), samplers.get("lcm").table(levels, given)
        np.testing.assert_allclose(one["noise"], other["noise"])
        np.testing.assert_allclose(one["eps"], 0.0, atol=1e-12)


def test_tcd_rounds_down_to_whole_timesteps_where_the_grid_has_them():
    schedule = schedulers.get("linear", timesteps=100)
    whole = samplers.get("tcd", eta=0.3).table(
        schedule.levels(np.array([1.0, 0.36])), schedule
    )  # timestep 35: s = 24.5
    ratio = np.divide(*schedule.levels(0.25)[:0:-1])  # σ/α at timestep 24
    np.testing.assert_allclose(whole["eps"] / whole["x0"], ratio)
    between = samplers.get("tcd", eta=0.3).table(schedule.levels(np.array([1.0, 0.365])), schedule)
    np.testing.assert_allclose(between["eps"] / between["x0"], np.divide(*schedule.levels(0.7 * 0.365)[:0:-1]))


def test_consistency_sampling_adds_noise_beyond_its_cleanest_level():
    """x_τ = x0 + √(τ² − ε²)·z, Song et al. 2023, algorithm 1; below ε there is nothing to add."""
    sigmas = np.array([80.0, 5.0, 0.5, 0.001, 0.0])
    levels = Levels(np.linspace(1, 0, 5), np.ones(5), sigmas)
    table = samplers.get("consistency", sigma_min=0.3).table(levels)
    np.testing.assert_allclose(table["noise"], [(25 - 0.09) ** 0.5, (0.25 - 0.09) ** 0.5, 0, 0])
    rng = np.random.default_rng(1)
    x, z = 80 * rng.standard_normal((4, 2)), rng.standard_normal((1, 1, 4, 2))
    once = levels.map(lambda v: v[:2])
    found = samplers.get("consistency", sigma_min=0.3).sample(x, mixture("gmm2"), once, noise=z)
    expected = array(mixture("gmm2")(x, levels.map(lambda v: v[0])).x0) + (25 - 0.09) ** 0.5 * z[0, 0]
    np.testing.assert_allclose(array(found), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "tcd",
            {"eta": 1.1},
            r"`eta` is the share of a time that is jumped over and must lie in \[0, 1\]. Received: eta=1.1",
        ),
        (
            "tcd",
            {"eta": -0.1},
            r"`eta` is the share of a time that is jumped over and must lie in \[0, 1\]. Received: eta=-0.1",
        ),
        (
            "consistency",
            {"sigma_min": -1.0},
            "`sigma_min` is the σ/α of clean samples and must not be negative. Received: sigma_min=-1.0",
        ),
    ],
)
def test_bad_options(name, options, message):
    with pytest.raises(ValueError, match=message):
        samplers.get(name, **options)
