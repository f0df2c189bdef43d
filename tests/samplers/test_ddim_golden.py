"""DDIM and its inversion against diffusers: η, zero-terminal-SNR, clipping, thresholding, and where the last step
leads.
"""

import compiled_sampling
import numpy as np
import pytest
from diffusers_ddim_cases import alphas_of, denoiser_of, levels_of
from golden_data import array, load, mixture, tolerance

from keras_diffusion import samplers, schedulers
from keras_diffusion.core.levels import Levels

CASES = load("diffusers_ddim")
UPWARDS = {name: case for name, case in CASES.items() if name.startswith("ddiminv")}
SKEWED = {name: case for name, case in CASES.items() if case.config.get("known_issue")}
DOWNWARDS = {name: case for name, case in CASES.items() if name not in UPWARDS and name not in SKEWED}
PREDICTIONS = {"epsilon": "epsilon", "sample": "x0", "v_prediction": "v"}


def noise_of(case):
    return case["noise"][:, None] if "noise" in case else None


def largest_error(steps, case):
    return np.max(np.abs(steps - case["x"][1:])) / np.abs(case["x"]).max()


@pytest.mark.parametrize("name", DOWNWARDS)
def test_ddim_agrees_with_diffusers(name):
    case = DOWNWARDS[name]
    alphas, last = alphas_of(case), 1.0 if case.config["scheduler_config"]["set_alpha_to_one"] else alphas_of(case)[0]
    sampler = samplers.get("ddim", eta=case.config["step_kwargs"].get("eta", 0.0))
    denoise, problem = denoiser_of(case, keep_eps=True)
    levels = levels_of(np.append(alphas[case["timesteps"]], last))
    steps = compiled_sampling.sample(sampler, case["x"][0], problem, denoise, levels, noise_of(case))
    assert largest_error(steps, case) < tolerance(1e-5, 1e-9)


@pytest.mark.parametrize("name", UPWARDS)
def test_inversion_agrees_with_diffusers(name):
    case = UPWARDS[name]
    options, problem = case.config["scheduler_config"], case.config["problem"]
    alphas, first = alphas_of(case), 1.0 if options["set_alpha_to_one"] else alphas_of(case)[0]
    rising = levels_of(np.append(first, alphas[case["timesteps"]]))
    sampler = samplers.get("ddim_inversion", prediction=PREDICTIONS[options["prediction_type"]])
    for levels in (rising, rising.map(lambda v: v[::-1])):
        steps = compiled_sampling.sample(sampler, case["x"][0], problem, mixture(problem), levels)
        assert largest_error(steps, case) < tolerance(1e-5, 1e-9)


@pytest.mark.parametrize("name", SKEWED)
def test_single_steps_where_the_references_grid_has_gaps(name):
    """diffusers' DDIM steps from t to t − 1000//n. With timesteps from linspace the next one is t − 111: each step
    leads to another level than the next one starts from. Every step by itself agrees; over the whole grid, without
    gaps, the samples differ by 0.08 of max|x|.
    """
    case = SKEWED[name]
    alphas, steps, x = np.append(alphas_of(case), 1.0), case["timesteps"], case["x"]
    problem, gap = case.config["problem"], 1000 // case.config["num_inference_steps"]
    sampler = samplers.get("ddim")
    for i, t in enumerate(steps):
        levels = levels_of(alphas[[t, max(t - gap, -1)]])
        result = compiled_sampling.sample(sampler, x[i], problem, mixture(problem), levels)[0]
        # At t = 999, α is 5e-5: x0 from ε costs float32 its digits, in the reference as well.
        assert np.abs(result - x[i + 1]).max() / np.abs(x).max() < (
            tolerance(1e-3, 1e-8) if i == 0 else tolerance(1e-5, 1e-9)
        )
    whole = compiled_sampling.sample(
        sampler, x[0], problem, mixture(problem), levels_of(np.append(alphas[steps], 1.0))
    )[-1]
    assert 0.01 < np.abs(whole - x[-1]).max() / np.abs(x).max() < 0.2


def test_reusing_the_clipped_output_is_another_method():
    """The reference's own two results differ, and so do ours: ε kept, or derived again from the clipped x0."""
    kept, derived = (CASES[f"ddim-clip-{kind}linear-leading-n10-gmm2"]["x"][-1] for kind in ("", "reuse-"))
    assert np.abs(kept - derived).max() > 0.01


@pytest.mark.parametrize(("iterations", "largest"), [(1, 0.25), (2, 0.05), (4, 0.005), (8, 1e-4)])
@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v", "velocity"])
@pytest.mark.parametrize("schedule", ["vp", "flow"])
def test_more_iterations_bring_the_sample_back_more_exactly(iterations, largest, prediction, schedule):
    """Largest error of DDIM(inversion(x)) over 50 steps."""
    x = mixture("gmm2").sample(8, seed=3)
    levels = schedulers.get(schedule).levels(np.linspace(1.0, 0.0, 51))
    sampler = samplers.get("ddim_inversion", iterations=iterations, prediction=prediction)
    noise = compiled_sampling.sample(sampler, x, "gmm2", mixture("gmm2"), levels)[-1]
    back = compiled_sampling.sample(samplers.get("ddim"), noise, "gmm2", mixture("gmm2"), levels)[-1]
    assert np.abs(back - x).max() < largest


def test_inversion_converges_to_rounding():
    x = mixture("gmm2").sample(8, seed=3)
    levels = schedulers.get("vp").levels(np.linspace(0.8, 0.02, 41))
    noise = compiled_sampling.sample(samplers.get("ddim_inversion", iterations=40), x, "gmm2", mixture("gmm2"), levels)[
        -1
    ]
    back = compiled_sampling.sample(samplers.get("ddim"), noise, "gmm2", mixture("gmm2"), levels)[-1]
    assert np.abs(back - x).max() < tolerance(1e-5, 1e-10)


@pytest.mark.parametrize("scale", ["variance_exploding", "flow"])
def test_the_fixed_point_is_invariant_under_scale(scale):
    """Not so the first iterations: their guess, x_t told level s, depends on the scale that x has there."""
    x, ratio = mixture("gmm2").sample(4, seed=3), np.geomspace(0.05, 5.0, 31)
    sampler, results = samplers.get("ddim_inversion", iterations=40), []
    for alpha in (1 / np.hypot(1, ratio), np.ones(31) if scale == "variance_exploding" else 1 / (1 + ratio)):
        levels = Levels(np.linspace(0, 1, 31), alpha, alpha * ratio)
        steps = compiled_sampling.sample(sampler, alpha[0] * x, "gmm2", mixture("gmm2"), levels)
        results.append(steps[-1] / alpha[-1])
    np.testing.assert_allclose(results[1], results[0], atol=tolerance(5e-5, 1e-9))


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v", "velocity"])
def test_inversion_up_to_pure_noise(prediction):
    """α = 0 at the top: nothing is divided by it, and DDIM finds the sample again from what is left there."""
    x = mixture("gmm2").sample(8, seed=3)
    levels = schedulers.get("flow").levels(np.linspace(1.0, 0.0, 101))
    sampler = samplers.get("ddim_inversion", iterations=4, prediction=prediction)
    assert all(np.all(np.isfinite(sampler.table(levels)[key])) for key in ("x", "x0", "eps"))
    noise = compiled_sampling.sample(sampler, x, "gmm2", mixture("gmm2"), levels)[-1]
    back = compiled_sampling.sample(samplers.get("ddim"), noise, "gmm2", mixture("gmm2"), levels)[-1]
    assert np.abs(back - x).max() < 0.02


def test_one_step_from_clean_to_pure_noise_is_finite():
    levels = Levels([0.0, 1.0], [1.0, 0.0], [0.0, 1.0])
    for prediction in PREDICTIONS.values():
        sampler = samplers.get("ddim_inversion", prediction=prediction, iterations=2)
        assert np.all(np.isfinite(array(sampler.sample(np.ones((2, 2)), mixture("gmm2"), levels))))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"iterations": 0},
            "`iterations` counts evaluations per step and must be an integer of at least 1. Received: iterations=0",
        ),
        ({"iterations": 1.5}, "must be an integer of at least 1. Received: iterations=1.5"),
        ({"prediction": "edm"}, "`prediction` must be one of epsilon, x0, v, velocity. Received: prediction='edm'"),
    ],
)
def test_bad_options_of_the_inversion(options, message):
    with pytest.raises(ValueError, match=message):
        samplers.get("ddim_inversion", **options)


def test_levels_that_neither_fall_nor_rise():
    with pytest.raises(ValueError, match="must fall strictly from each level to the next"):
        samplers.get("ddim_inversion").sample(
            np.ones((2, 2)), mixture("gmm2"), Levels([0, 1, 0.5], [1, 1, 1], [0.0, 3.0, 1.0])
        )
