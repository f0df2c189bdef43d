"""Guidance from a pair of predictions: the registry, reference numbers, intervals, and what happens at pure noise."""

import compiled_sampling
import numpy as np
import pytest
from constant import Constant
from golden_data import array, error, exploding_levels, load, mixture, tensor, tolerance

from keras_diffusion import guidance, samplers
from keras_diffusion.core.denoiser_memory import memory_scope
from keras_diffusion.core.levels import Levels
from keras_diffusion.guidance import (
    GUIDANCES,
    AdaptiveProjectedGuidance,
    Autoguidance,
    CFGZeroStarGuidance,
    RescaledGuidance,
)

GOLDEN = load("guidance")
LEVEL = Levels(0.5, 0.6, 0.8)
OPTIONS = {
    "classifier_free": {},
    "rescale": {},
    "adaptive_projected": {"eta": 0.3, "norm_threshold": 0.5},
    "zero_star": {},
}
X = np.random.default_rng(5).standard_normal((6, 2))


def pair(name, scale=3.0, problem="gmm2", **options):
    return guidance.get(name, conditional=mixture(problem, 1), unconditional=mixture(problem), scale=scale, **options)


def levels(t, alpha, sigma):
    return Levels(*(tensor(np.asarray(v, "float64")) for v in (t, alpha, sigma)))


def close(value, expected):
    np.testing.assert_allclose(array(value), expected, atol=tolerance(2e-5, 1e-12) * np.abs(expected).max())


# Reference numbers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key", [key for key in GOLDEN["elementwise-img"].arrays.files if "_s" in key and key.startswith("elementwise")]
)
def test_elementwise(key):
    name, key = key.split("/")
    case, variant = GOLDEN[name], key.split("_")
    conditional, unconditional = Constant(case["pred_cond"]), Constant(case["pred_uncond"])
    scale = float(next(part for part in variant if part.startswith("s") and part[1:2].isdigit())[1:])
    scale += "orig" in variant  # cond + s·(cond − uncond) is scale s + 1 here
    options = {"conditional": conditional, "unconditional": unconditional, "scale": scale}
    if "zero" in variant:
        guided = guidance.get("zero_star", predictor="x0", **options)
    elif "rescale" in key:
        guided = guidance.get("rescale", rescale=float(key.split("rescale")[1]), **options)
    else:
        guided = guidance.get("classifier_free", **options)
    close(guided(case["pred_cond"], LEVEL).x0, case[key])


def test_full_rescaling_gives_the_conditional_standard_deviation():
    for name in ("elementwise-img", "elementwise-vec"):
        case = GOLDEN[name]
        guided = RescaledGuidance(Constant(case["pred_cond"]), Constant(case["pred_uncond"]), 7.5, rescale=1.0)
        x0 = array(guided(case["pred_cond"], LEVEL).x0)
        close(x0.reshape(len(x0), -1).std(1, ddof=1), case["std_cond"])


@pytest.mark.parametrize("key", GOLDEN["apg-img"].config["configs"])
def test_adaptive_projected_steps(key):
    case = GOLDEN["apg-img"]
    config = {
        name.removeprefix("adaptive_projected_guidance_"): value for name, value in case.config["configs"][key].items()
    }
    original = config.get("use_original_formulation", False)
    options = {
        "scale": config["guidance_scale"] + original,
        "base": "conditional" if original else "unconditional",
        "eta": config["eta"],
        "norm_threshold": config.get("rescale") or None,
        "momentum": config.get("momentum"),
        "rescale": config.get("guidance_rescale"),
        "axis": config.get("norm_dim"),
    }
    memory = np.zeros(case["pred_cond"].shape[1:]) if options["momentum"] else None
    for conditional, unconditional, expected in zip(case["pred_cond"], case["pred_uncond"], case[key], strict=True):
        guided = AdaptiveProjectedGuidance(Constant(conditional), Constant(unconditional), **options)
        with memory_scope(guided, () if memory is None else (tensor(memory),), tensor(conditional)) as memories:
            close(guided(conditional, LEVEL).x0, expected)
            memory = None if memory is None else array(memories()[0])


@pytest.mark.parametrize(
    "name", [name for name, case in GOLDEN.items() if case.config.get("mode") in ("cfg_rescale", "apg")]
)
def test_guided_trajectories(name):
    case = GOLDEN[name]
    config, params = case.config, case.config["params"]
    options = {
        "conditional": mixture(config["problem"], config["component"]),
        "unconditional": mixture(config["problem"]),
    }
    if config["mode"] == "apg":
        extra = {"norm_threshold": params["threshold"], "eta": params["eta"], "momentum": params["momentum"]}
        guided = AdaptiveProjectedGuidance(scale=params["scale"], **extra, **options)
    else:
        guided = RescaledGuidance(scale=params["scale"], rescale=params["rescale"], **options)
    sampler = samplers.get(config["function"].removeprefix("sample_"))
    steps = compiled_sampling.sample(sampler, case["x"][0], name, guided, exploding_levels(case["sigmas"]))
    assert np.max(np.abs(steps - case["x"][1:])) / np.abs(case["x"]).max() < tolerance(1e-5, 1e-9)
    assert error(steps[-1], case["x"][-1]) < tolerance(2e-5, 1e-9)


@pytest.mark.parametrize(
    "key", [key.split("/")[1] for key in GOLDEN["interval-flags-a"].arrays.files if "/start" in key]
)
def test_interval_of_steps(key):
    """Guidance from step int(start·n) to before step int(stop·n) is an interval of noise levels of the grid."""
    flags = GOLDEN["interval-flags-a"][key]
    start, stop, n = (float(part.lstrip("starop")) for part in key.replace("_n", "_").split("_"))
    ratio = np.append(np.geomspace(10.0, 0.1, int(n)), 0.0)
    interval = (ratio[int(stop * n)], ratio[int(start * n)])
    guided = guidance.get("cfg", conditional=Constant(X), unconditional=Constant(0 * X), scale=3.0, interval=interval)
    on = [array(guided(X, Levels(0.5, 1.0, r)).x0 / X)[0, 0] > 2 for r in ratio[:-1]]
    np.testing.assert_array_equal(on, flags)


@pytest.mark.parametrize("name", [name for name, case in GOLDEN.items() if case.config.get("mode") == "interval"])
def test_which_calls_are_guided(name):
    case, params = GOLDEN[name], GOLDEN[name].config["params"]
    sigmas = case["sigmas"][:-1]
    if "heun" in name:  # both ends of every step but the last
        sigmas = np.append(np.stack([sigmas[:-1], sigmas[1:]], axis=1), sigmas[-1])
    guided = pair("cfg", interval=(params["sigma_lo"], params["sigma_hi"]))
    on = guided.inside(tensor(np.zeros((len(sigmas), 2))), levels(sigmas, np.ones(len(sigmas)), sigmas))
    np.testing.assert_array_equal(array(on)[:, 0], case["guidance_on"])


# What all of them have to do ------------------------------------------------------------------------------------------


def test_registry():
    # Two scales take three predictions: tests/models/test_known_channels.py.
    assert GUIDANCES.names() == sorted([*OPTIONS, "two_scales"])
    for name, options in OPTIONS.items():
        guided = pair({"name": name, **options})
        assert all(getattr(guided, key) == value for key, value in options.items()) and guided.scale == 3.0
    assert type(pair("apg")) is AdaptiveProjectedGuidance and type(pair("cfg_zero_star")) is CFGZeroStarGuidance
    with pytest.raises(
        ValueError,
        match="Unknown guidance: 'pag'. Known names: adaptive_projected, "
        "classifier_free, rescale, two_scales, zero_star",
    ):
        pair("pag")


def test_two_scales_need_a_third_denoiser():
    with pytest.raises(ValueError, match="Received: empty=None. Pass a denoiser as `empty`"):
        pair("two_scales")(X, LEVEL)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize(("alpha", "sigma"), [(0.6, 0.8), (1.0, 3.0), (0.2, 0.8), (0.0, 1.0)])
def test_predictions_are_consistent(name, alpha, sigma):
    """x = α·x0 + σ·ε, at pure noise too."""
    for options in (OPTIONS[name], {**OPTIONS[name], "interval": (0.1, 2.0)}):
        x0, eps = pair(name, **options)(X, Levels(0.5, alpha, sigma))
        np.testing.assert_allclose(alpha * array(x0) + sigma * array(eps), X, atol=tolerance(1e-5, 1e-12))


@pytest.mark.parametrize("name", OPTIONS)
def test_guidance_does_not_depend_on_the_scale_of_x(name):
    guided = pair(name, **OPTIONS[name])
    preserving, exploding = guided(0.6 * X, LEVEL), guided(X, Levels(0.5, 1.0, 0.8 / 0.6))
    for one, other in zip(preserving, exploding, strict=True):
        np.testing.assert_allclose(array(one), array(other), atol=tolerance(1e-4, 1e-12))


@pytest.mark.parametrize("name", OPTIONS)
def test_scale_one_is_the_condition_and_so_is_everything_outside_the_interval(name):
    expected = mixture("gmm2", 1)(X, LEVEL)
    for guided in (pair(name, 1.0, **OPTIONS[name]), pair(name, **OPTIONS[name], interval=(2.0, 3.0))):
        for value, reference in zip(guided(X, LEVEL), expected, strict=True):
            np.testing.assert_allclose(array(value), array(reference), atol=tolerance(1e-5, 1e-12))


@pytest.mark.parametrize("name", OPTIONS)
def test_a_level_per_sample(name):
    alpha, sigma = np.array([0.6, 0.6, 0.9]), np.array([0.8, 0.8, 0.3])
    guided = pair(name, **OPTIONS[name], interval=(0.5, 5.0))
    together = array(guided(X[:3], levels(alpha, alpha, sigma)).x0)
    alone = [array(guided(X[i : i + 1], Levels(0.5, alpha[i], sigma[i])).x0)[0] for i in range(3)]
    np.testing.assert_allclose(together, alone, atol=tolerance(1e-5, 1e-12))


# One by one -----------------------------------------------------------------------------------------------------------


def test_adaptive_projected_with_eta_one_is_classifier_free():
    for one, other in zip(pair("apg", eta=1.0)(X, LEVEL), pair("cfg")(X, LEVEL), strict=True):
        np.testing.assert_allclose(array(one), array(other), atol=tolerance(1e-5, 1e-12))


def test_adaptive_projected_guidance_is_orthogonal_and_bounded():
    conditional = array(mixture("gmm2", 1)(X, LEVEL).x0)
    step = array(pair("apg", norm_threshold=0.1)(X, LEVEL).x0) - conditional
    np.testing.assert_allclose((step * conditional).sum(1), 0.0, atol=tolerance(1e-5, 1e-12))
    assert np.abs(step).max() > 0.01 and np.linalg.norm(step, axis=1).max() <= 2 * 0.1 + 1e-6


def test_momentum_rests_outside_the_interval():
    one, other = np.ones((1, 2)), np.array([[1.0, 0.0]])
    guided = AdaptiveProjectedGuidance(Constant(one), Constant(other), 3.0, momentum=0.5, interval=(0.5, 2.0))
    memories = []
    with memory_scope(guided, (tensor(np.zeros((1, 2))),), tensor(one)) as memory:
        for sigma in (4.0, 1.0, 1.0, 0.2):
            guided(one, Levels(0.5, 1.0, sigma))
            memories.append(array(memory()[0])[0, 1])
    np.testing.assert_allclose(memories, [0.0, 1.0, 1.5, 1.5])
    assert guided.memory is None


def test_zero_star_forgives_a_factor():
    """Where the unconditional velocity is a multiple of the conditional one, there is nothing to guide."""
    conditional = mixture("gmm2", 1)(X, LEVEL)
    velocity = array(conditional.eps) - array(conditional.x0)
    weak = Constant(X - 0.3 * velocity, X + 0.7 * velocity)  # ε − x0 is the velocity once more, from another x
    half = Constant(0.5 * array(conditional.x0), 0.5 * array(conditional.eps))
    for unconditional in (weak, half):
        guided = CFGZeroStarGuidance(mixture("gmm2", 1), unconditional, 5.0)(X, LEVEL)
        np.testing.assert_allclose(array(guided.x0), array(conditional.x0), atol=tolerance(1e-5, 1e-7))


def test_zero_init_keeps_x_on_the_flow():
    guided = pair("zero_star", zero_init=0.1)
    x0, eps = guided(X, Levels(0.95, 0.05, 0.95))
    np.testing.assert_allclose(array(x0), X, atol=1e-5)
    np.testing.assert_allclose(array(eps), X, atol=1e-5)
    after = guided(X, Levels(0.85, 0.15, 0.85)).x0
    np.testing.assert_allclose(array(after), array(pair("zero_star")(X, Levels(0.85, 0.15, 0.85)).x0), atol=1e-6)


def test_autoguidance_extrapolates_from_the_weak_one():
    strong, weak = mixture("gmm2", 1), mixture("gmm2", 0)
    guided = Autoguidance(strong, weak, 2.0)
    for value, s, w in zip(guided(X, LEVEL), strong(X, LEVEL), weak(X, LEVEL), strict=True):
        np.testing.assert_allclose(array(value), 2 * array(s) - array(w), atol=tolerance(1e-5, 1e-12))
    outside = Autoguidance(strong, weak, 2.0, interval=(2.0, 3.0))(X, LEVEL).x0
    np.testing.assert_allclose(array(outside), array(strong(X, LEVEL).x0), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "rescale",
            {"rescale": 1.5},
            r"`rescale` is a share and must lie in \[0, 1\], or be None for none. Received: rescale=1.5",
        ),
        (
            "apg",
            {"norm_threshold": 0.0},
            "the largest norm .* must be positive, or None for any. Received: norm_threshold=0.0",
        ),
        (
            "apg",
            {"momentum": -1.0},
            r"`momentum` must lie in \(−1, 1\), or the sum grows without bound. Received: momentum=-1.0",
        ),
        ("apg", {"base": "both"}, "`base` is what is guided: 'conditional' or 'unconditional'. Received: base='both'"),
        (
            "zero_star",
            {"zero_init": -0.1},
            r"`zero_init` is a share of the way and must lie in \[0, 1\]. Received: zero_init=-0.1",
        ),
        ("zero_star", {"interval": (2.0, 1.0)}, "A guidance interval is a range of σ/α"),
    ],
)
def test_options_out_of_range(name, options, message):
    with pytest.raises(ValueError, match=message):
        pair(name, **options)


def test_a_guidance_of_your_own_says_what_it_lacks():
    class Half(guidance.PairGuidance):
        pass

    with pytest.raises(NotImplementedError, match="Half must implement combine"):
        Half(Constant(X), Constant(X), 2.0)(X, LEVEL)
