"""Whole trajectories against k-diffusion and EDM, at the reference's own α = 1 and at other scales of
the same levels.
"""

import compiled_sampling
import keras
import numpy as np
import pytest
from golden_data import exploding_levels, load, load_outside, mixture, relative_error, tolerance

from keras_diffusion import samplers
from keras_diffusion.core.levels import Levels
from keras_diffusion.samplers.sampler import SAMPLERS

CASES = {**load("kdiff_deterministic"), **load("kdiff_stochastic")}


def sampler_name(case):
    return case.config["function"].removeprefix("sample_")


COVERED = {name: case for name, case in CASES.items() if sampler_name(case) in SAMPLERS.names()}


def sampler_of(case):
    options = {key.lower(): value for key, value in case.config.get("kwargs", {}).items()}
    if "3m" in sampler_name(case):
        options["reference_compatible"] = True
    return samplers.get(sampler_name(case), **options)


def noise_of(case, sampler):
    if not sampler.noises_per_step or "noise" not in case or not case["noise"].size:
        return None
    return case["noise"].reshape(-1, sampler.noises_per_step, *case["noise"].shape[1:])


def largest_error(steps, case, scale=1.0):
    """Relative to the start: float32 carries seven digits of σ_max."""
    x = case["x"]
    scale = np.reshape(scale, (-1,) + (1,) * (x.ndim - 1))
    return np.max(np.abs(steps / scale - x[1:])) / np.abs(x).max()


@pytest.mark.parametrize("name", COVERED)
def test_trajectory_agrees_with_k_diffusion(name):
    case = COVERED[name]
    sampler, problem = sampler_of(case), case.config["problem"]
    steps = compiled_sampling.sample(
        sampler, case["x"][0], problem, mixture(problem), exploding_levels(case["sigmas"]), noise_of(case, sampler)
    )
    assert largest_error(steps, case) < tolerance(1e-5, 1e-10)


@pytest.mark.parametrize("name", [name for name in COVERED if name.endswith("-karras10-gmm2")])
@pytest.mark.parametrize("scale", ["variance_preserving", "flow"])
def test_other_scales_of_the_same_levels_give_the_same_samples(name, scale):
    """Invariance under (α, σ) → (1, σ/α): x/α follows k-diffusion's trajectory whatever α is."""
    case = COVERED[name]
    sampler, sigmas = sampler_of(case), case["sigmas"]
    alpha = 1 / np.sqrt(1 + sigmas**2) if scale == "variance_preserving" else 1 / (1 + sigmas)
    levels = Levels(np.linspace(1, 0, len(sigmas)), alpha, alpha * sigmas)
    x = alpha[0] * case["x"][0]
    steps = compiled_sampling.sample(sampler, x, "gmm2", mixture("gmm2"), levels, noise_of(case, sampler))
    assert largest_error(steps, case, alpha[1:]) < tolerance(1e-5, 1e-10)


@pytest.mark.parametrize("name", [name for name in COVERED if name.endswith("-karras10-gmm2")])
def test_eager_sample_equals_the_compiled_loop(name):
    case = COVERED[name]
    sampler, levels = sampler_of(case), exploding_levels(case["sigmas"])
    noise = noise_of(case, sampler)
    if sampler.noises_per_step:
        shape = (len(levels.t) - 1, sampler.noises_per_step, *case["x"][0].shape)
        full = np.zeros(shape)
        if noise is not None:
            full[: len(noise)] = noise
        noise = full
    x, steps = sampler.sample(case["x"][0], mixture("gmm2"), levels, noise=noise, trajectory=True)
    assert tuple(steps.shape) == case["x"][1:].shape
    assert largest_error(keras.ops.convert_to_numpy(steps), case) < tolerance(1e-5, 1e-10)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(x), keras.ops.convert_to_numpy(steps[-1]))


@pytest.mark.parametrize("name", COVERED)
def test_plans_evaluate_the_network_at_the_references_levels(name):
    """The table alone, float64 on the host: every σ that the reference called its model with, in order."""
    case = COVERED[name]
    sampler = sampler_of(case)
    table = sampler.table(exploding_levels(case["sigmas"]))
    stages = np.stack([level.sigma for level in table.get("stages", (table["level"],))], axis=1)
    sigmas = np.append(stages[:-1].reshape(-1), stages[-1, 0])  # the closing step has one evaluation
    assert relative_error(sigmas, case["eval_sigmas"]) < 1e-10


@pytest.mark.parametrize(
    "name", [n for n in COVERED if sampler_name(COVERED[n])[:8] in ("dpmpp_2m", "dpmpp_3m") and n.endswith("gmm2")]
)
def test_multistep_tables_replayed_in_float64(name):
    """With the reference's x, x0 and z of every step."""
    case = COVERED[name]
    sampler = sampler_of(case)
    table = sampler.table(exploding_levels(case["sigmas"]))
    x, x0, noise = case["x"], case["denoised"], noise_of(case, sampler)
    for i in range(len(x) - 1):
        step = table["x0"][i] * x0[i] + table["eps"][i] * (x[i] - x0[i]) / case["sigmas"][i]
        step = step + sum(table["bend"][i, k] * (x0[i - 1 - k] - x0[i]) for k in range(min(i, sampler.remembered)))
        if noise is not None and i < len(noise):
            step = step + table["noise"][i] * noise[i, 0]
        assert np.max(np.abs(step - x[i + 1])) / np.abs(x[i]).max() < 1e-10


@pytest.mark.parametrize(
    "name", [n for n in COVERED if sampler_name(COVERED[n]) == "euler_ancestral" and n.endswith("gmm2")]
)
def test_ancestral_tables_replayed_in_float64(name):
    case = COVERED[name]
    table = sampler_of(case).table(exploding_levels(case["sigmas"]))
    x, x0, sigmas = case["x"], case["denoised"], case["sigmas"]
    for i in range(len(x) - 2):
        step = (
            table["x0"][i] * x0[i] + table["eps"][i] * (x[i] - x0[i]) / sigmas[i] + table["noise"][i] * case["noise"][i]
        )
        assert np.max(np.abs(step - x[i + 1])) / np.abs(x[i]).max() < 1e-10


@pytest.mark.parametrize(
    "name",
    [
        "edm-det-n18-gmm2",
        "edm-churn-n18-gmm2",
        "edm-det-n18-gmmimg",
        "edm-churn-n18-gmmimg",
        "edm-det-n10-narrow-gmm2",
        "edm-churn80-n32-gmm2",
    ],
)
def test_trajectory_agrees_with_edm(name):
    case = load_outside("edm_sampler")[name]
    given = case.config["kwargs"]
    sampler = samplers.get(
        "edm",
        s_churn=given.get("S_churn", 0),
        s_tmin=given.get("S_min", 0),
        s_tmax=given.get("S_max", float("inf")),
        s_noise=given.get("S_noise", 1),
    )
    problem = case.config["problem"]
    steps = compiled_sampling.sample(
        sampler, case["x"][0], problem, mixture(problem), exploding_levels(case["sigmas"]), noise_of(case, sampler)
    )
    assert largest_error(steps, case) < tolerance(1e-5, 1e-10)


class MidpointSampler(samplers.RungeKuttaSampler):
    """EDM's α = ½: the midpoint rule in σ, three lines of tableau."""

    a, b, c = ((), (0.5,)), (0.0, 1.0), (0.0, 0.5)


# EDM's ablation where time is σ itself. Its other cases integrate over another time, or x with a scale, by the same
# tableaus: the paper's point is that this is worse, and here is no such option.
GRIDS = ("vp", "ve", "iddpm", "edm")
ABLATION = [
    f"abl-{solver}-disc_{grid}-sched_linear-scale_none-n18-gmm2" for solver in ("euler", "heun") for grid in GRIDS
]
ABLATION += [f"abl-heun-disc_{grid}-sched_linear-scale_none-n12-gmmimg" for grid in ("edm", "iddpm")]
ABLATION += [f"abl-heun-disc_edm-sched_linear-scale_none-{kind}-n18-gmm2" for kind in ("alpha0.5", "churn")]


@pytest.mark.parametrize("name", ABLATION)
def test_trajectory_agrees_with_edms_ablation(name):
    case = load_outside("edm_ablation")[name]
    given, problem = case.config["kwargs"], case.config["problem"]
    options = {key.lower(): value for key, value in given.items() if key.startswith("S_")}
    options = {{"s_min": "s_tmin", "s_max": "s_tmax"}.get(key, key): value for key, value in options.items()}
    sampler = MidpointSampler() if "alpha" in given else samplers.get(given["solver"], **options)
    steps = compiled_sampling.sample(
        sampler, case["x"][0], problem, mixture(problem), exploding_levels(case["sigmas"]), noise_of(case, sampler)
    )
    assert largest_error(steps, case) < tolerance(1e-5, 1e-10)


def test_posterior_variance_of_ddpm_agrees_with_diffusers():
    from keras_diffusion import schedulers

    golden = load("schedules")["ddpm_linear_1000"]
    schedule = schedulers.get("linear")
    levels = schedule.levels(schedulers.get_spacing("linspace")(schedule, 1000))
    noise = samplers.get("ddpm").table(levels)["noise"]
    assert relative_error(noise[:-1][::-1] ** 2, golden["posterior_variance_1to999"]) < 1e-8
    assert noise[-1] == 0
    large = samplers.get("ddpm", variance="fixed_large").table(levels)["noise"]
    assert relative_error(large[:-1][::-1] ** 2, golden["betas"][1:]) < 1e-8
