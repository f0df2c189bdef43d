"""Restart: where it jumps, that jumps keep the distribution, and that they cover errors."""

import compiled_sampling
import numpy as np
import pytest
from golden_data import array, exploding_levels, mixture, tolerance

from keras_diffusion import samplers, schedulers
from keras_diffusion.core.levels import Levels
from keras_diffusion.denoisers import MixtureDenoiser

SCHEDULE = schedulers.get("vp")


def karras(steps, schedule=SCHEDULE, **options):
    return schedule.levels(schedulers.get_spacing("karras", **options)(schedule, steps))


def by_hand(x, levels, place, high, repeats, steps, noise):
    """Xu et al. 2023, algorithm 1, in Heun's method on α = 1: NumPy, independent of the package's samplers."""

    def epsilon(x, sigma):
        return array(mixture("gmm2")(x, Levels(0.0, 1.0, sigma)).eps).astype("float64")

    def heun(x, sigma, next_sigma):
        slope = epsilon(x, sigma)
        if next_sigma == 0:
            return x - sigma * slope
        return x + (next_sigma - sigma) * 0.5 * (slope + epsilon(x + (next_sigma - sigma) * slope, next_sigma))

    sigmas, noise = levels.sigma, iter(noise)
    for i in range(len(sigmas) - 1):
        x = heun(x, sigmas[i], sigmas[i + 1])
        if i + 1 == place:
            grid = np.linspace(high ** (1 / 7), sigmas[place] ** (1 / 7), steps + 1) ** 7
            for _ in range(repeats):
                x = x + np.sqrt(high**2 - sigmas[place] ** 2) * next(noise)
                for j in range(steps):
                    x = heun(x, grid[j], grid[j + 1])
    return x


def test_agrees_with_the_papers_algorithm():
    levels = exploding_levels(np.append(np.geomspace(20.0, 0.02, 16), 0.0))
    place = int(np.argmin(np.abs(np.log(levels.sigma[:-1] / 0.06))))
    sampler = samplers.get("restart", restarts=[(0.06, 0.5, 3, 4)])
    rng = np.random.default_rng(0)
    x, normals = 20.0 * rng.standard_normal((4, 2)), rng.standard_normal((3, 4, 2))
    noise = np.zeros((16 + 3 * 4, 1, 4, 2))
    noise[place + 4 * np.arange(3), 0] = normals
    steps = compiled_sampling.sample(sampler, x, "gmm2", mixture("gmm2"), levels, noise)
    assert steps.shape == (16, 4, 2)
    expected = by_hand(x, levels, place, 0.5, 3, 4, normals)
    np.testing.assert_allclose(steps[-1], expected, atol=tolerance(1e-4, 1e-9))


def test_table_and_ends_of_steps():
    sampler = samplers.get("restart", sampler="ddim", restarts=[(0.1, 1.0, 2, 3), (1.0, 5.0, 1, 2)])
    levels = karras(12, sigma_min=0.02)
    table, ratio = sampler.table(levels, SCHEDULE), levels.sigma / levels.alpha
    assert len(table["gain"]) == 12 + 2 * 3 + 2
    jumps = np.flatnonzero(table["added"])
    starts = table["level"].sigma[jumps] / table["level"].alpha[jumps]
    np.testing.assert_allclose(starts, [5.0, 1.0, 1.0], rtol=1e-6)  # from noisy to clean
    ends = sampler.step_ends(levels)
    np.testing.assert_allclose((table["level"].sigma / table["level"].alpha)[ends[:-1] + 1], ratio[1:-1], rtol=1e-9)
    assert np.all(np.diff(ends) > 0) and ends[-1] == len(table["gain"]) - 1
    # Noise on the scale of x: the variance at the upper level is the lower one's, carried up, and the jump's.
    lower = levels.map(lambda v: v[np.argmin(np.abs(np.log(ratio[1:-1] / 0.1))) + 1])
    gain, added, upper = table["gain"][jumps[-1]], table["added"][jumps[-1]], table["level"].map(lambda v: v[jumps[-1]])
    assert gain * lower.alpha == pytest.approx(upper.alpha) and np.hypot(gain * lower.sigma, added) == pytest.approx(
        upper.sigma
    )


def test_multistep_methods_start_every_piece_without_history():
    table = samplers.get("restart", sampler="dpmpp_2m", restarts=[(0.1, 1.0, 2, 3)]).table(
        karras(12, sigma_min=0.02), SCHEDULE
    )
    starts = np.flatnonzero(table["gain"] != 1)
    past = table["inner"]["bend"][:, 0]
    assert len(starts) == 2 and np.all(past[starts] == 0) and np.all(past[starts + 1] != 0)


def test_draws_of_the_wrapped_sampler_keep_their_common_part_and_jumps_are_independent():
    levels = karras(12, sigma_min=0.02)
    coupling = samplers.get("restart", sampler="dpmpp_sde", restarts=[(0.1, 1.0, 2, 3)]).table(
        levels, SCHEDULE, "independent"
    )["coupling"]
    inner = samplers.get("dpmpp_sde").table(levels, SCHEDULE, "independent")["coupling"]
    np.testing.assert_allclose(coupling[0, :2, :2], inner[0], atol=1e-9)
    assert coupling.shape[1:] == (3, 3) and np.all(coupling[:, 2] == [0, 0, 1]) and np.all(coupling[:, :2, 2] == 0)


@pytest.mark.parametrize(
    "restarts", [(), [(0.0001, 0.001, 2, 2)], [(30.0, 40.0, 2, 2)]], ids=["none", "below the grid", "above it"]
)
def test_without_room_for_restarts_it_is_the_wrapped_sampler(restarts):
    levels, x = karras(8, sigma_min=0.05, sigma_max=20.0), np.random.default_rng(0).standard_normal((4, 2))
    steps = [
        compiled_sampling.sample(sampler, x, "gmm2", mixture("gmm2"), levels, None, SCHEDULE)
        for sampler in (samplers.get("restart", restarts=restarts), samplers.get("heun"))
    ]
    np.testing.assert_allclose(steps[0], steps[1], atol=1e-6)


@pytest.mark.parametrize("inner", ["heun", "dpmpp_2m", "ddpm"])
def test_restarts_keep_a_gaussian(inner):
    """200 steps and 3 restarts of 100 over σ/α from 0.1 to 2: mean and standard deviation of 4000 numbers within 3
    standard errors.
    """
    mean, std, n = 0.4, 0.6, 2000
    levels = schedulers.get("vp").levels(schedulers.get_spacing("exponential", sigma_min=0.01)(SCHEDULE, 200))
    sampler = samplers.get("restart", sampler=inner, restarts=[(0.1, 2.0, 3, 100)])
    rng = np.random.default_rng(2)
    x = levels.alpha[0] * mean + np.hypot(levels.alpha[0] * std, levels.sigma[0]) * rng.standard_normal((n, 2))
    noise = rng.standard_normal((500, sampler.noises_per_step, n, 2))
    denoise = MixtureDenoiser([1.0], [[mean, mean]], [std])
    x = compiled_sampling.sample(sampler, x, "gaussian", denoise, levels, noise, SCHEDULE)[-1].reshape(-1)
    assert abs(x.mean() - mean) < 3 * std / x.size**0.5
    assert abs(x.std() - std) < 3 * std / (2 * x.size) ** 0.5


def test_restarts_cover_an_error_made_above_them():
    """x is shifted by 2 at σ/α = 1.

    Below, the ODE carries the shift into the samples; restarts from 3 make most of it forgotten.
    """
    mean, std, n = 0.4, 0.6, 500
    levels = exploding_levels(np.append(np.geomspace(1.0, 0.02, 30), 0.0))
    denoise, rng = MixtureDenoiser([1.0], [[mean, mean]], [std]), np.random.default_rng(2)
    x = mean + 2.0 + np.hypot(std, 1.0) * rng.standard_normal((n, 2))
    bias = {}
    for repeats in (0, 4):
        sampler = samplers.get("restart", restarts=[(0.3, 1.0, repeats, 8)] if repeats else ())
        noise = rng.standard_normal((80, 1, n, 2))
        bias[repeats] = compiled_sampling.sample(sampler, x, "gaussian", denoise, levels, noise)[-1].mean() - mean
    assert bias[4] < 0.5 * bias[0] and bias[0] > 0.8


def test_draws_of_the_wrapped_sampler_and_of_restarts_are_apart():
    sampler = samplers.get("restart", sampler="dpmpp_sde")
    assert samplers.get("dpmpp_sde").noises_per_step == 2 and sampler.noises_per_step == 3
    drawn = []
    row = {"gain": 1.0, "added": 1.0}
    sampler.prepare(None, np.zeros(2), row, lambda draw: drawn.append(draw) or np.zeros(2))
    assert drawn == [2]


def test_restarts_of_the_same_size_share_a_program():
    structures = {
        samplers.get("restart", restarts=r, s_noise=s).structure()
        for r in ((), [(0.1, 0.5, 9, 9)])
        for s in (1.0, 1.01)
    }
    assert len(structures) == 1
    assert samplers.get("restart", sampler="ddim").structure() not in structures


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"restarts": [(0.3, 0.1, 1, 1)]},
            r"A restart is \(low, high, repeats, steps\) with 0 < low < high, in σ/α.*Received: restart=\(0.3",
        ),
        ({"restarts": [(0.1, 0.3, 0, 1)]}, "two integers of at least 1"),
        ({"restarts": [(0.1, 0.3, 1, 1.5)]}, "two integers of at least 1"),
        ({"restarts": [(0.1, 0.3, 1)]}, r"A restart is \(low, high, repeats, steps\)"),
        (
            {"sampler": "ddim_inversion"},
            "`sampler` must be one that walks down by a table.*Received: sampler=DDIMInversionSampler",
        ),
        ({"sampler": "repaint"}, "not with jumps or steps of its own. Received: sampler=RePaintSampler"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        samplers.get("restart", **options)


def test_brownian_noise_would_repeat_itself():
    with pytest.raises(
        ValueError, match="needs new noise at every visit of a level. Received: noise='brownian'. Take 'independent'"
    ):
        samplers.get("restart", sampler="dpmpp_2m_sde").sample(
            np.zeros((2, 2)), mixture("gmm2"), karras(4), noise="brownian"
        )
