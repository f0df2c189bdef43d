"""Classifier-free guidance against reference numbers: elementwise, and in whole trajectories."""

import compiled_sampling
import numpy as np
import pytest
from constant import Constant
from golden_data import array, error, exploding_levels, load, mixture, tensor, tolerance

from keras_diffusion import samplers
from keras_diffusion.core.levels import Levels
from keras_diffusion.guidance import ClassifierFreeGuidance

GOLDEN = load("guidance")
LEVEL = Levels(0.5, 0.6, 0.8)


@pytest.mark.parametrize("scale", [3.0, 7.5])
@pytest.mark.parametrize("case", ["elementwise-img", "elementwise-vec"])
def test_combination_agrees_with_diffusers(case, scale):
    case, key = GOLDEN[case], f"cfg_s{scale:g}"
    if key not in case:
        pytest.skip("the reference has this scale for images only")
    conditional, unconditional = Constant(case["pred_cond"]), Constant(case["pred_uncond"], -case["pred_uncond"])
    guided = ClassifierFreeGuidance(conditional, unconditional, scale)(case["pred_cond"], LEVEL)
    np.testing.assert_allclose(array(guided.x0), case[key], atol=tolerance(1e-5, 1e-12))
    swapped = ClassifierFreeGuidance(conditional, Constant(0 * case["pred_cond"], case["pred_uncond"]), scale)(
        case["pred_cond"], LEVEL
    )
    np.testing.assert_allclose(array(swapped.eps), case[key], atol=tolerance(1e-5, 1e-12))


def test_scale_one_is_the_condition_and_scale_zero_is_none():
    one, other = np.random.default_rng(0).standard_normal((2, 3, 2))
    for scale, expected in ((1.0, one), (0.0, other), (tensor(1.0), one)):
        guided = ClassifierFreeGuidance(Constant(one), Constant(other), scale)(one, LEVEL)
        np.testing.assert_allclose(array(guided.x0), expected, atol=1e-6)


def test_guidance_keeps_predictions_consistent():
    """x = α·x0 + σ·ε holds for both predictions, so for every linear combination whose weights add up to 1."""
    x = np.random.default_rng(0).standard_normal((5, 2))
    x0, eps = ClassifierFreeGuidance(mixture("gmm2", 1), mixture("gmm2"), 4.0)(x, LEVEL)
    np.testing.assert_allclose(0.6 * array(x0) + 0.8 * array(eps), x, atol=1e-5)


@pytest.mark.parametrize("ratio_is", ["below", "low", "inside", "high", "above"])
def test_interval_is_open_below_and_closed_above(ratio_is):
    ratio = {"below": 0.25, "low": 0.5, "inside": 1.0, "high": 2.0, "above": 4.0}[ratio_is]
    one, other = np.ones((2, 3)), np.zeros((2, 3))
    guidance = ClassifierFreeGuidance(Constant(one), Constant(other), 3.0, interval=(0.5, 2.0))
    expected = 3.0 if ratio_is in ("inside", "high") else 1.0
    np.testing.assert_allclose(array(guidance(one, Levels(*(tensor(v) for v in (0.5, 1.0, ratio)))).x0), expected)
    each = Levels(*(tensor(np.array(v)) for v in ([0.5, 0.5], [1.0, 1.0], [ratio, 1.0])))
    np.testing.assert_allclose(array(guidance(one, each).x0), [[expected] * 3, [3.0] * 3])


def test_interval_at_pure_noise():
    one, other = np.ones((2, 3)), np.zeros((2, 3))
    guidance = ClassifierFreeGuidance(Constant(one), Constant(other), 3.0, interval=(0.5, 2.0))
    np.testing.assert_allclose(array(guidance(one, Levels(*(tensor(v) for v in (1.0, 0.0, 1.0)))).x0), 1.0)


@pytest.mark.parametrize(
    "name", [name for name, case in GOLDEN.items() if case.config.get("mode") in ("cfg", "interval")]
)
def test_guided_trajectories(name):
    case = GOLDEN[name]
    config, params = case.config, case.config["params"]
    interval = (params["sigma_lo"], params["sigma_hi"]) if config["mode"] == "interval" else None
    guided = ClassifierFreeGuidance(
        mixture(config["problem"], config["component"]), mixture(config["problem"]), params["scale"], interval=interval
    )
    sampler = samplers.get(config["function"].removeprefix("sample_"))
    steps = compiled_sampling.sample(sampler, case["x"][0], name, guided, exploding_levels(case["sigmas"]))
    # Relative to σ_max, the size of x at the start; float32 has 7 digits of that.
    assert np.max(np.abs(steps - case["x"][1:])) / np.abs(case["x"]).max() < tolerance(1e-5, 1e-9)
    assert error(steps[-1], case["x"][-1]) < tolerance(2e-4, 1e-9)


@pytest.mark.parametrize("interval", [(2.0, 1.0), (1.0, 1.0), (-1.0, 1.0)])
def test_empty_interval(interval):
    with pytest.raises(
        ValueError, match=r"A guidance interval is a range of σ/α with 0 <= low < high. Received: interval="
    ):
        ClassifierFreeGuidance(Constant(np.ones(1)), Constant(np.ones(1)), 2.0, interval=interval)
