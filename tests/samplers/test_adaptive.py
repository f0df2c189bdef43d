"""Adaptive solvers: every trial against k-diffusion, the tolerance kept, the report, and what cannot
be asked of them.
"""

import warnings

import compiled_sampling
import keras
import numpy as np
import pytest
from golden_data import array, exploding_levels, load, mixture, relative_error, round_trip, tensor, tolerance

import keras_diffusion as kd
from keras_diffusion import samplers, schedulers
from keras_diffusion.core.levels import Levels, Prediction
from keras_diffusion.denoisers import Denoiser
from keras_diffusion.samplers.adaptive import AdaptiveSampler
from keras_diffusion.samplers.pid_controller import PIDController
from keras_diffusion.samplers.walk import run_closing_row, run_rows, start_walk

CASES = {name: case for name, case in load("kdiff_dpm_fast_adaptive").items() if name.startswith("dpm_adaptive")}
X = np.random.default_rng(0).standard_normal((4, 2))


def sampler_of(case):
    return samplers.get("dpm_adaptive", **case.config["kwargs"])


def grid_of(case):
    return exploding_levels([case.config["sigma_max"], case.config["sigma_min"]])


def noise_of(case):
    return case["noise"][None] if "noise" in case and len(case["noise"]) else None


@pytest.mark.parametrize("name", CASES)
def test_every_trial_agrees_with_k_diffusion(name):
    """In float32 the first errors, of 10⁻⁶ tolerances, are rounding, and the steps after them a little shorter or
    longer.
    """
    case = CASES[name]
    x, log = sampler_of(case).solve(case["x"][0], mixture(case.config["problem"]), grid_of(case), noise_of(case))
    np.testing.assert_array_equal(log["accepted"], case["accepted"])
    assert np.max(np.abs(log["x"] - case["x"][1:])) / np.abs(case["x"]).max() < tolerance(2e-3, 1e-9)
    assert relative_error(log["sigma_after"], case["sigma_after"]) < tolerance(3e-2, 1e-9)
    assert relative_error(log["h_next"], case["h_next"]) < tolerance(3e-2, 1e-9)
    assert np.max(np.abs(log["error"] - case["error"])) < tolerance(3e-2, 1e-9)
    assert np.max(np.abs(array(x) - case["x"][-1])) / np.abs(case["x"]).max() < tolerance(2e-5, 1e-9)


@pytest.mark.parametrize("name", ["dpm_adaptive_order2-gmm2", "dpm_adaptive_order3_eta1-gmm2"])
def test_sample_is_what_the_trials_lead_to(name):
    """The loop on the device."""
    case = CASES[name]
    problem = case.config["problem"]
    x = sampler_of(case).sample(case["x"][0], mixture(problem), grid_of(case), noise=noise_of(case))
    assert np.max(np.abs(array(x) - case["x"][-1])) / np.abs(case["x"]).max() < tolerance(2e-5, 1e-9)


@pytest.mark.parametrize("scale", ["preserving", "flow"])
@pytest.mark.parametrize("name", ["dpm_adaptive_order2-gmm2", "dpm_adaptive_order3_tight-gmm2"])
def test_other_scales_of_the_same_levels_take_the_same_steps(name, scale):
    """Invariance under (α, σ) → (1, σ/α): the tolerance is one on x/α."""
    case = CASES[name]
    ratio = np.geomspace(case.config["sigma_max"], case.config["sigma_min"], 7)  # the levels in between do not count
    alpha = 1 / np.sqrt(1 + ratio**2) if scale == "preserving" else 1 / (1 + ratio)
    levels = Levels(np.linspace(1, 0, 7), alpha, alpha * ratio)
    x, log = sampler_of(case).solve(alpha[0] * case["x"][0], mixture("gmm2"), levels)
    np.testing.assert_array_equal(log["accepted"], case["accepted"])
    assert np.max(np.abs(array(x) / alpha[-1] - case["x"][-1])) / np.abs(case["x"]).max() < tolerance(2e-5, 1e-9)


def test_compiled_and_reported():
    """As in generation: one program for other tolerances, schedules and numbers of levels; the state tells what
    happened.
    """
    compiled_sampling.PROGRAMS.clear()
    case = CASES["dpm_adaptive_order3_tight-gmm2"]
    tight = compiled_sampling.sample(sampler_of(case), case["x"][0], "gmm2", mixture("gmm2"), grid_of(case))
    assert np.max(np.abs(tight[-1] - case["x"][-1])) / np.abs(case["x"]).max() < tolerance(2e-5, 1e-9)
    for name, options in (
        ("cosine", {}),
        ("flow", {"rtol": 0.01, "pcoeff": 0.1, "icoeff": 0.8, "h_init": 0.2, "max_steps": 50}),
    ):
        schedule = schedulers.get(name)
        levels = schedule.levels(np.linspace(1, 0, 6))
        compiled_sampling.sample(
            samplers.get("dpm_adaptive", **options), case["x"][0], "gmm2", mixture("gmm2"), levels, None, schedule
        )
    (loop, close), *more = compiled_sampling.PROGRAMS.values()
    assert not more
    if keras.backend.backend() != "torch":
        assert loop.traces == 1 and close.traces == 1


def test_report_counts_evaluations_and_rejections():
    case = CASES["dpm_adaptive_order3-gmmimg"]
    sampler, x = sampler_of(case), tensor(case["x"][0])
    for closing in (False, True):
        levels = exploding_levels([10.0, 0.02, 0.0]) if closing else grid_of(case)
        plan = keras.tree.map_structure(tensor, sampler.table(levels))
        walk, _ = run_rows(sampler, start_walk(sampler, x, mixture("gmmimg")), {}, mixture("gmmimg"), plan, None, 0, 1)
        if closing:
            walk, _ = run_closing_row(sampler, walk, {}, mixture("gmmimg"), plan, None, 1)
        report = {key: array(value).item() for key, value in sampler.report(walk.state).items()}
        _, nfe, accepted, rejected = case["info"]
        assert report["error"] == pytest.approx(case["error"][-1], rel=0.5)
        del report["error"]
        assert report == {"nfe": nfe + closing, "accepted": accepted, "rejected": rejected, "arrived": 1}


@pytest.mark.slow  # hundreds of steps, operation by operation
@pytest.mark.parametrize("order", [2, 3])
def test_error_falls_with_the_tolerance(order):
    """Ten times the tolerance, less of the error and more of the evaluations."""
    reference = array(
        samplers.get("rk4").sample(10 * X, mixture("gmm2"), exploding_levels(np.geomspace(10, 0.02, 120)))
    )
    errors, evaluations = [], []
    for factor in (1.0, 0.1, 0.01):
        sampler = samplers.get("dpm_adaptive", order=order, rtol=0.05 * factor, atol=0.0078 * factor)
        x, log = sampler.solve(10 * X, mixture("gmm2"), exploding_levels([10.0, 0.02]))
        errors.append(np.abs(array(x) - reference).max())
        evaluations.append(order * len(log["x"]))
    assert errors[2] < 0.3 * errors[1] < 0.1 * errors[0]
    assert evaluations[0] < evaluations[1] < evaluations[2]


def test_starts_from_pure_noise_as_from_a_very_noisy_level():
    schedule = schedulers.get("cosine")
    levels = schedule.levels(np.array([1.0, 0.5, 0.01]))
    table = samplers.get("dpm_adaptive", rtol=1e-3, atol=1e-4).table(levels, schedule)
    assert table["start"][0] == pytest.approx(-np.log(1e3))
    assert table["scale"][0] == pytest.approx(1, abs=1e-6)
    x = array(samplers.get("dpm_adaptive", rtol=1e-3, atol=1e-4).sample(X, mixture("gmm2"), levels, schedule=schedule))
    # One step of a fine grid, in the coordinates of a flow, leaves pure noise as well as any.
    fine = schedule.levels(np.append([1.0], np.linspace(0.99, 0.01, 100)))
    expected = array(samplers.get("rk4").sample(X, mixture("gmm2"), fine, schedule=schedule))
    assert np.abs(x - expected).mean() < 3e-3


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_a_single_noisy_level_is_nowhere_to_walk_to(alpha):
    levels = Levels(np.array([1.0, 0.0]), np.array([alpha, 1.0]), np.array([1.0, 0.0]))
    x = samplers.get("dpm_adaptive").sample(X, mixture("gmm2"), levels)
    np.testing.assert_allclose(array(x), array(mixture("gmm2")(X, levels.map(lambda v: v[0])).x0), atol=1e-5)


def test_tabulated_curve_is_the_schedule():
    schedule = schedulers.get("linear")
    levels = schedule.levels(np.array([1.0, 0.3, 0.001]))
    table = samplers.get("dpm_adaptive").table(levels, schedule)
    half = np.linspace(table["start"][0], table["end"][0], table["curve_t"].shape[1])
    between = 0.5 * (half[1:] + half[:-1])
    t = np.interp(between, half, table["curve_t"][0])
    assert np.abs(schedule.time(2 * between) - t).max() < 0.2 / 1000  # a fifth of a timestep
    alpha = np.exp(np.interp(between, half, table["curve_log_alpha"][0]))
    assert np.abs(alpha * np.sqrt(1 + np.exp(-2 * between)) - 1).max() < 2e-5


def test_statistics_with_ancestral_noise():
    """Mean and standard deviation of a Gaussian within 3 standard errors."""
    mean, std, n = 0.4, 0.6, 4000
    levels = exploding_levels([20.0, 0.01, 0.0])
    denoise = kd.denoisers.MixtureDenoiser([1.0], [[mean]], [std])
    x = mean + np.hypot(std, 20.0) * np.random.default_rng(1).standard_normal((n, 1))
    x = array(samplers.get("dpm_adaptive", eta=1.0, rtol=1e-2, atol=1e-3).sample(x, denoise, levels, seed=3)).reshape(
        -1
    )
    assert abs(x.mean() - mean) < 3 * std / n**0.5
    assert abs(x.std() - std) < 3 * std / (2 * n) ** 0.5


def test_generation_reports_the_walk(make_model):
    model = make_model(num_classes=None)
    sampler = samplers.get("dpm_adaptive", rtol=0.1)
    x, xs = model.generate(4, num_steps=8, sampler=sampler, seed=1, trajectory=True)
    assert x.shape == (4, 2) and xs.shape == (2, 4, 2)  # the walk, and the closing step
    report = model.sampling_report
    assert report["arrived"] == 1 and report["nfe"] == 3 * (report["accepted"] + report["rejected"]) + 1
    np.testing.assert_allclose(model.generate(4, num_steps=3, sampler="dpm_adaptive", seed=1).shape, (4, 2))


# A denoiser that remembers --------------------------------------------------------------------------------------------


class Counting(Denoiser):
    """Remembers how often it was asked."""

    def __init__(self, denoiser):
        self.denoiser = denoiser

    def initial_memory(self, x):
        return keras.ops.zeros((), x.dtype)

    def __call__(self, x, level):
        self.memory = self.memory + 1.0
        x0, eps = self.denoiser(x, level)
        return Prediction(x0 + 0.0 * self.memory, eps)


def test_memories_are_those_of_the_steps_that_count():
    case = CASES["dpm_adaptive_order3-gmm2"]
    sampler, denoise = sampler_of(case), Counting(mixture("gmm2"))
    plan = keras.tree.map_structure(tensor, sampler.table(grid_of(case)))
    walk, _ = run_rows(sampler, start_walk(sampler, tensor(case["x"][0]), denoise), {}, denoise, plan, None, 0, 1)
    assert array(walk.memory[0]) == 3 * case["info"][2]
    assert denoise.memory is None


# What stops it, and what cannot be asked ------------------------------------------------------------------------------


def test_a_walk_that_does_not_arrive_warns():
    sampler = samplers.get("dpm_adaptive", max_steps=5)
    with pytest.warns(
        UserWarning, match=r"stopped before its end, after 5 trials.*Take larger tolerances \(rtol, atol\) or max_steps"
    ):
        sampler.sample(10 * X, mixture("gmm2"), exploding_levels([10.0, 0.02]))
    _, log = samplers.get("dpm_adaptive").solve(10 * X, mixture("gmm2"), exploding_levels([10.0, 0.02]), max_trials=3)
    assert len(log["x"]) == 3


def test_a_walk_that_runs_out_of_noise_stops():
    sampler, levels = samplers.get("dpm_adaptive", eta=1.0), exploding_levels([10.0, 0.02])
    with pytest.warns(UserWarning, match="stopped before its end, after [34] trials.*too few draws in `noise`"):
        x = sampler.sample(10 * X, mixture("gmm2"), levels, noise=np.zeros((1, 2, *X.shape)))
    assert not np.all(np.isfinite(array(x)))
    with pytest.raises(ValueError, match="its shape must be"):
        sampler.sample(10 * X, mixture("gmm2"), levels, noise=np.zeros((1, 2, 3)))


def test_nothing_warns_where_it_arrives():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        samplers.get("dpm_adaptive").sample(10 * X, mixture("gmm2"), exploding_levels([10.0, 0.02]))


@pytest.mark.parametrize("trajectory", ["x0", "both"])
def test_no_x0_of_every_step(trajectory, make_model):
    with pytest.raises(ValueError, match=r"there is no x0 of every step to record.*Take trajectory='x', or `solve`"):
        samplers.get("dpm_adaptive").sample(X, mixture("gmm2"), exploding_levels([10.0, 0.02]), trajectory=trajectory)
    with pytest.raises(ValueError, match="there is no x0 of every step to record"):
        make_model(num_classes=None).generate(2, num_steps=2, sampler="dpm_adaptive", trajectory=trajectory)


def test_no_hook_after_every_step(make_model):
    with pytest.raises(ValueError, match="to record or to hand to a hook"):
        make_model(num_classes=None).generate(2, num_steps=2, sampler="dpm_adaptive", on_step=lambda info: None)


def test_no_brownian_noise():
    with pytest.raises(ValueError, match=r"adaptive sampler chooses its steps on the way. Received: noise='brownian'"):
        samplers.get("dpm_adaptive", eta=1.0).sample(
            X, mixture("gmm2"), exploding_levels([10.0, 0.02]), noise="brownian"
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": 4}, "`order` must be one of 2, 3. Received: order=4"),
        (
            {"rtol": 0.0, "atol": 0.0},
            "Tolerances must not be negative, and one must be positive. Received: rtol=0.0, atol=0.0",
        ),
        ({"rtol": -0.1}, "Tolerances must not be negative"),
        (
            {"h_init": 0.0},
            "The first step and the number of steps must be positive. Received: h_init=0.0, max_steps=1000",
        ),
        ({"max_steps": 0}, "The first step and the number of steps must be positive"),
        ({"eta": 2.0}, r"`eta` is the share of ancestral noise and must lie in \[0, 1\]. Received: eta=2.0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        samplers.get("dpm_adaptive", **options)


def test_base_class_names_what_is_missing():
    with pytest.raises(
        NotImplementedError, match=r"AdaptiveSampler must implement attempt\(denoise, x, start, end, down, level\)"
    ):
        AdaptiveSampler.attempt(AdaptiveSampler.__new__(AdaptiveSampler), *[None] * 6)


def test_controller_options_survive_a_round_trip():
    sampler = samplers.get("dpm_adaptive", pcoeff=0.2, icoeff=0.6, dcoeff=0.05, accept_safety=0.7, eta=0.5)
    assert round_trip(sampler).noises_per_step == 1
    assert round_trip(sampler).get_config() == sampler.get_config()
    np.testing.assert_allclose(PIDController(0.2, 0.6, 0.05).exponents(3), np.array([0.85, -0.3, 0.05]) / 3)
