"""Single-step solvers against diffusers and k-diffusion: whole trajectories, at the references'
scales and at others.
"""

import compiled_sampling
import numpy as np
import pytest
from golden_data import array, load, mixture, tolerance

from keras_diffusion import samplers, schedulers
from keras_diffusion.core.levels import Levels
from keras_diffusion.denoisers import MixtureDenoiser

SINGLE_STEP = load("diffusers_dpmsolver_singlestep")
FAST = {name: case for name, case in load("kdiff_dpm_fast_adaptive").items() if name.startswith("dpm_fast")}
ALGORITHMS = {"dpmsolver": "dpm", "dpmsolver++": "dpmpp", "sde-dpmsolver++": "dpmpp"}


def curve(ratio, scale):
    """Levels with given σ/α on a curve of the given kind; t is only a label."""
    alpha = {"exploding": np.ones_like(ratio), "preserving": 1 / np.sqrt(1 + ratio**2), "flow": 1 / (1 + ratio)}[scale]
    return Levels(np.linspace(1, 0, len(ratio)), alpha, alpha * ratio)


def scaled_error(steps, alpha, case, rows=slice(None)):
    """Of x/α, relative to the reference's largest number."""
    alpha = np.reshape(alpha, (-1,) + (1,) * (steps.ndim - 1))
    reference = case["x"][1:]
    return np.max(np.abs((steps / alpha)[rows] - reference)) / np.abs(case["x"]).max()


@pytest.mark.parametrize("name", SINGLE_STEP)
def test_single_step_trajectories_agree_with_diffusers(name):
    """Every x, stages included, on diffusers' variance-preserving levels."""
    case, options = SINGLE_STEP[name], SINGLE_STEP[name].config["scheduler_config"]
    levels = curve(case["sigmas"], "preserving")
    stochastic = options["algorithm_type"].startswith("sde")
    sampler = samplers.get(
        "dpm_singlestep",
        order=options["solver_order"],
        algorithm=ALGORITHMS[options["algorithm_type"]],
        solver_type=options["solver_type"],
        lower_order_final=options["lower_order_final"],
        eta=1.0 if stochastic else 0.0,
    )
    np.testing.assert_array_equal(sampler.stages(levels)[0], case["order_list"])
    problem = case.config["problem"]
    noise = case["noise"][:, None] if stochastic else None
    steps = compiled_sampling.sample(sampler, case["x"][0], problem, mixture(problem), levels, noise)
    assert scaled_error(steps, 1.0, case) < tolerance(2e-5, 1e-9)


@pytest.mark.parametrize("scale", ["exploding", "flow"])
@pytest.mark.parametrize("name", ["dpmpp-o3-linear-n20-gmm2", "dpm-o2-linear-sigmamin-n10-gmm2"])
def test_single_step_trajectories_at_other_scales(name, scale):
    case, options = SINGLE_STEP[name], SINGLE_STEP[name].config["scheduler_config"]
    levels, own = curve(case["sigmas"], scale), curve(case["sigmas"], "preserving")
    sampler = samplers.get(
        "dpm_singlestep", order=options["solver_order"], algorithm=ALGORITHMS[options["algorithm_type"]]
    )
    x = case["x"][0] / own.alpha[0] * levels.alpha[0]
    steps = compiled_sampling.sample(sampler, x, "gmm2", mixture("gmm2"), levels)
    assert scaled_error(steps, (levels.alpha / own.alpha)[1:], case) < tolerance(2e-5, 1e-9)


def fast_grid(case, scale):
    """Only its ends and the number of its levels count."""
    config = case.config
    return curve(np.linspace(config["sigma_max"], config["sigma_min"], config["n"] + 1), scale)


@pytest.mark.parametrize("scale", ["exploding", "preserving", "flow"])
@pytest.mark.parametrize("name", FAST)
def test_dpm_fast_agrees_with_k_diffusion(name, scale):
    case = FAST[name]
    sampler, levels = samplers.get("dpm_fast", **case.config["kwargs"]), fast_grid(case, scale)
    table = sampler.table(levels)
    ratio = table["level"].sigma / table["level"].alpha
    np.testing.assert_allclose(ratio, case["eval_sigmas"], rtol=1e-9)
    ends = np.flatnonzero(np.append(sampler.stages(levels)[0][1:] == 1, True))
    noise = None
    if "noise" in case and len(case["noise"]):
        noise = np.zeros((len(ratio), 1, *case["x"].shape[1:]))
        noise[ends, 0] = case["noise"]
    problem = case.config["problem"]
    steps = compiled_sampling.sample(sampler, levels.alpha[0] * case["x"][0], problem, mixture(problem), levels, noise)
    alpha = np.append(table["level"].alpha[1:], levels.alpha[-1])
    assert scaled_error(steps, alpha, case, ends) < tolerance(2e-5, 1e-9)


@pytest.mark.slow  # Brownian sums take long in TensorFlow's eager mode
@pytest.mark.parametrize(
    ("name", "options"), [("dpmpp_2s", {"eta": 1.0}), ("dpmpp_3s", {"eta": 0.5}), ("dpm_fast", {"eta": 1.0})]
)
def test_statistics_with_noise(name, options):
    """Exact denoiser of N(0.4, 0.6²), each sampler's own noise: mean and standard deviation within 3
    standard errors.
    """
    steps, n = 120, 4000
    levels = curve(np.append(np.geomspace(20.0, 0.02, steps), 0.0), "preserving")
    x = levels.alpha[0] * (0.4 + np.hypot(0.6, 20.0) * np.random.default_rng(0).standard_normal((n, 1)))
    x = array(samplers.get(name, **options).sample(x, MixtureDenoiser([1.0], [[0.4]], [0.6]), levels, seed=3))
    assert abs(x.mean() - 0.4) < 3 * 0.6 / n**0.5
    assert abs(x.std() - 0.6) < 3 * 0.6 / (2 * n) ** 0.5


@pytest.mark.slow
def test_brownian_noise_of_a_step_is_that_of_its_parts():
    """The draw of a row spans its whole step: stages and the step see one path."""
    levels = curve(np.geomspace(10.0, 0.1, 7), "exploding")
    spans = samplers.get("dpmpp_3s", eta=1.0, lower_order_final=False).noise_spans(levels)
    np.testing.assert_allclose(spans[:, 0, 0], np.repeat(levels.log_snr[[0, 3]], 3))
    np.testing.assert_allclose(spans[:, 0, 1], levels.log_snr[1:])
    x = samplers.get("dpmpp_3s", eta=1.0).sample(10 * np.ones((2, 2)), mixture("gmm2"), levels, seed=1)
    assert np.all(np.isfinite(array(x)))


def test_dpm_fast_closes_with_the_last_of_its_evaluations():
    """n evaluations to a clean end are n − 1 to the last noisy level, and one there."""
    schedule = schedulers.get("cosine")
    closing = schedule.levels(np.array([0.9, 0.5, 0.4, 0.3, 0.1, 0.0]))
    noisy = closing.map(lambda v: v[:-1])
    table, shorter = (samplers.get("dpm_fast").table(levels, schedule) for levels in (closing, noisy))
    for key in ("x0", "eps"):
        np.testing.assert_allclose(table[key][:-1], shorter[key])
    assert table["level"].map(lambda v: v[-1]) == noisy.map(lambda v: v[-1])
    np.testing.assert_array_equal(table["x0"][-1], [1, 0, 0])
    np.testing.assert_array_equal(table["eps"][-1], [0, 0, 0])


@pytest.mark.parametrize(
    ("evaluations", "sizes"), [(0, []), (1, [1]), (2, [2]), (3, [2, 1]), (4, [3, 1]), (5, [3, 2]), (6, [3, 2, 1])]
)
def test_sizes_of_the_steps_of_dpm_fast(evaluations, sizes):
    from keras_diffusion.samplers.dpm_fast import step_sizes

    assert step_sizes(evaluations) == sizes


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("start", [1.0, 0.9])
@pytest.mark.parametrize("end", [0.0, 0.1])
@pytest.mark.parametrize("name", ["dpm_fast", "dpmpp_3s", "dpm_2s"])
def test_short_grids_with_any_ends(name, n, start, end):
    """Pure noise at the start, a clean end, both at once: every row's weights are those of a DDIM point plus
    differences.
    """
    schedule = schedulers.get("flow")
    levels = schedule.levels(np.linspace(start, end, n + 1))
    table = samplers.get(name).table(levels, schedule)
    assert len(table["x0"]) == n
    after = np.append(table["level"].alpha[1:], levels.alpha[-1]), np.append(table["level"].sigma[1:], levels.sigma[-1])
    np.testing.assert_allclose(table["x0"].sum(1), after[0], atol=1e-12)
    np.testing.assert_allclose(table["eps"].sum(1), after[1], atol=1e-12)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("dpm_singlestep", {"order": 4}, "`order` must be 1, 2 or 3. Received: order=4"),
        ("dpm_singlestep", {"algorithm": "sde"}, "`algorithm` must be 'dpmpp' or 'dpm'. Received: algorithm='sde'"),
        (
            "dpm_singlestep",
            {"solver_type": "bh1"},
            "`solver_type` must be 'midpoint' or 'heun'. Received: solver_type='bh1'",
        ),
        (
            "dpm_singlestep",
            {"eta": -1.0},
            "`eta` is a share of fresh noise and must not be negative. Received: eta=-1.0",
        ),
        (
            "dpm_2s",
            {"eta": 0.5},
            "The SDE is solved in x0. Received: eta=0.5 with algorithm='dpm'. Take algorithm='dpmpp', or eta=0",
        ),
        (
            "dpm_fast",
            {"eta": 1.5},
            r"`eta` is the share of ancestral noise and must lie in \[0, 1\]. Received: eta=1.5",
        ),
    ],
)
def test_bad_options(name, options, message):
    with pytest.raises(ValueError, match=message):
        samplers.get(name, **options)


def test_base_class_names_what_is_missing():
    from keras_diffusion.samplers.dpm_singlestep import SingleStepSampler

    with pytest.raises(NotImplementedError, match=r"SingleStepSampler must implement stages\(levels\)"):
        SingleStepSampler().stages(None)
