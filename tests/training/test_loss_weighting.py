"""How much an error counts at each noise level."""

import numpy as np
import pytest
from golden_data import array, load, load_outside, relative_error, round_trip, tensor, tolerance

from keras_diffusion import predictors, schedulers
from keras_diffusion.core.levels import Levels
from keras_diffusion.predictors.predictor import PREDICTORS
from keras_diffusion.schedulers.noise_schedule import SCHEDULES
from keras_diffusion.training import LossWeighting, get_loss_weighting
from keras_diffusion.training.loss_weighting import LOSS_WEIGHTINGS

GOLDEN = load("loss_weights")
WEIGHTS = {
    "min_snr5": ("min_snr", {}),
    "min_snr1": ("min_snr", {"gamma": 1.0}),
    "p2_k1_g1": ("p2", {}),
    "p2_k1_g0.5": ("p2", {"gamma": 0.5}),
    "sigmoid_b-3": ("sigmoid", {"bias": -3.0}),
    "sigmoid_b-1": ("sigmoid", {"bias": -1.0}),
    "sigmoid_b0": ("sigmoid", {"bias": 0.0}),
    "sigmoid_b2": ("sigmoid", {}),
    "truncated_snr": ("truncated_snr", {}),
    "edm_sd0.5": ("edm", {}),
    "edm_sd1": ("edm", {"sigma_data": 1.0}),
    "soft_min_snr_sd0.5": ("soft_min_snr", {}),
    "soft_min_snr_sd1": ("soft_min_snr", {"sigma_data": 1.0}),
    "snr_sd0.5": ("snr", {}),
    "snr_sd1": ("snr", {}),
}
COLUMNS = {"x0": "x0", "eps": "epsilon", "v": "v", "F": "edm"}
NOT_OFFERED = "kingma_gao_edm"  # an adaptive density of the levels rather than a weight


def columns(case):
    """(weighting of WEIGHTS, predictor, numbers) for every column of a case."""
    prefix = f"{case.name}/"
    for key in case.arrays.files:
        name, _, output = key.removeprefix(prefix).rpartition("_")
        if key.startswith(prefix) and output in COLUMNS and not name.startswith(NOT_OFFERED):
            yield name, output, case[f"{name}_{output}"]


@pytest.mark.parametrize(
    "case", [case for case in GOLDEN if case != "flow_sd3"]
)  # that one is of weights in σ, which are not offered
def test_weights_on_every_output(case):
    case, seen = GOLDEN[case], set()
    alpha, sigma, log_snr = (tensor(case[key]) for key in ("alpha", "sigma", "logsnr"))
    for name, output, expected in columns(case):
        weighting = get_loss_weighting(WEIGHTS[name][0], **WEIGHTS[name][1])
        # EDM's F is predicted with the σ_data in the weighting's name.
        options = {"sigma_data": float(name.rpartition("sd")[2])} if output == "F" else {}
        scale = predictors.get(COLUMNS[output], **options).x0_error_scale(alpha, sigma)
        assert relative_error(weighting.on_output(log_snr, scale), expected) < tolerance(2e-5, 1e-10), (name, output)
        if output == "x0":
            assert relative_error(weighting(log_snr), expected) < tolerance(1e-5, 1e-10), name
        seen.add(name)
    assert seen >= set(WEIGHTS) - ({"soft_min_snr_sd0.5"} if "soft_min_snr_sd0.5_F" not in case else set())


@pytest.mark.parametrize("case", ["discrete-linear", "discrete-scaled_linear"])
def test_weights_on_edms_output_agree_with_k_diffusion(case):
    golden = load("kdiff_schedules")[case]
    sigma = golden["query_sigma"]
    scale = predictors.get("edm").x0_error_scale(tensor(0 * sigma + 1), tensor(sigma))
    log_snr = tensor(-2 * np.log(sigma))
    for name, column in (("edm", "karras"), ("soft_min_snr", "soft_min_snr"), ("snr", "snr")):
        expected = golden[f"denoiser_weight_{column}"] * np.ones_like(sigma)
        assert relative_error(get_loss_weighting(name).on_output(log_snr, scale), expected) < tolerance(1e-5, 1e-10), (
            name
        )


@pytest.mark.parametrize(("case", "sigma_data"), [("loss-edm", 0.5), ("loss-edm-sd1", 1.0)])
def test_edm_weight_agrees_with_edm(case, sigma_data):
    golden = load_outside("edm_precond_loss")[case]
    weight = get_loss_weighting("edm", sigma_data=sigma_data)(tensor(-2 * np.log(golden["sigma"])))
    assert relative_error(weight, golden["weight"]) < tolerance(1e-5, 1e-10)


@pytest.mark.parametrize("sigma_data", [0.5, 1.3])
def test_edm_weighting_weighs_edms_output_evenly(sigma_data):
    sigma = np.geomspace(0.01, 50, 20)
    scale = predictors.get("edm", sigma_data=sigma_data).x0_error_scale(tensor(0 * sigma + 1), tensor(sigma))
    weight = get_loss_weighting("edm", sigma_data=sigma_data).on_output(tensor(-2 * np.log(sigma)), scale)
    np.testing.assert_allclose(array(weight), 1, rtol=1e-5)


def test_snr_is_the_plain_epsilon_loss():
    angle = np.linspace(0.1, 1.4, 9)
    alpha, sigma = tensor(np.cos(angle)), tensor(np.sin(angle))
    scale = predictors.get("epsilon").x0_error_scale(alpha, sigma)
    weight = get_loss_weighting("snr").on_output(tensor(-2 * np.log(np.tan(angle))), scale)
    np.testing.assert_allclose(array(weight), 1, rtol=1e-5)


def test_truncated_snr_can_have_a_largest_weight():
    log_snr = tensor([-3.0, 0.0, 1.0, 3.0, 100.0])
    bounded = get_loss_weighting("truncated_snr", maximum=5.0)
    np.testing.assert_allclose(array(bounded(log_snr)), [1.0, 1.0, np.e, 5.0, 5.0], rtol=1e-6)
    for wrong in (0.5, "5", float("nan")):
        with pytest.raises(ValueError, match="maximum"):
            get_loss_weighting("truncated_snr", maximum=wrong)


def test_none_leaves_the_output_error_alone():
    for identifier in (None, "none"):
        weight = get_loss_weighting(identifier).on_output(tensor([1.0, 2.0]), tensor([3.0, 4.0]))
        np.testing.assert_array_equal(array(weight), [1, 1])


@pytest.mark.parametrize("name", [n for n in LOSS_WEIGHTINGS.names() if n != "none"])
def test_weights_are_positive_and_keep_the_shape(name):
    log_snr = np.linspace(-12, 12, 24).reshape(4, 6)
    weight = array(get_loss_weighting(name)(tensor(log_snr)))
    assert weight.shape == (4, 6) and np.all(weight > 0) and np.all(np.isfinite(weight))


@pytest.mark.parametrize("name", LOSS_WEIGHTINGS.names())
def test_config_round_trip(name):
    options = {
        "min_snr": {"gamma": 3.0},
        "p2": {"k": 2.0, "gamma": 0.5},
        "sigmoid": {"bias": -1.0},
        "truncated_snr": {"maximum": 5.0},
        "edm": {"sigma_data": 0.7},
    }
    weighting = get_loss_weighting(name, **options.get(name, {}))
    copy = round_trip(weighting)
    assert type(copy) is type(weighting)
    log_snr, scale = tensor(np.linspace(-5, 5, 11)), tensor(np.linspace(1, 2, 11))
    np.testing.assert_array_equal(array(copy.on_output(log_snr, scale)), array(weighting.on_output(log_snr, scale)))


def test_none_cannot_be_called():
    with pytest.raises(ValueError, match="its weight on x0 depends on the predictor. Use on_output"):
        get_loss_weighting("none")(tensor([0.0]))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("min_snr", {"gamma": 0}, "`gamma` caps a signal-to-noise ratio and must be positive. Received: gamma=0"),
        ("p2", {"k": 0}, "P2 weighting needs k > 0 and gamma >= 0. Received: k=0, gamma=1.0"),
        ("p2", {"gamma": -1}, "P2 weighting needs k > 0 and gamma >= 0. Received: k=1.0, gamma=-1"),
        ("edm", {"sigma_data": 0}, "`sigma_data` is a standard deviation and must be positive. Received: sigma_data=0"),
        (
            "soft_min_snr",
            {"sigma_data": -1},
            "`sigma_data` is a standard deviation and must be positive. Received: sigma_data=-1",
        ),
    ],
)
def test_bad_options(name, options, message):
    with pytest.raises(ValueError, match=message):
        get_loss_weighting(name, **options)


def test_base_class_names_what_is_missing():
    with pytest.raises(NotImplementedError, match=r"LossWeighting must implement __call__\(log_snr\)"):
        LossWeighting()(tensor([0.0]))


@pytest.mark.parametrize("schedule", [name for name in SCHEDULES.names() if name != "discrete"])
def test_weights_are_finite_at_both_ends_of_every_schedule(schedule):
    made = [schedulers.get(schedule)]
    if hasattr(made[0], "zero_terminal_snr"):
        made.append(schedulers.get(schedule, zero_terminal_snr=True))
    for curve in made:
        t = tensor(np.array([0.0, 1e-6, 0.5, 1.0 - 1e-6, 1.0]))
        level = Levels(t, *curve(t))
        for name in PREDICTORS.names():
            predictor = predictors.get(name)
            scale = predictor.x0_error_scale(level.alpha, level.sigma)
            for weighting in LOSS_WEIGHTINGS.names():
                weights = array(get_loss_weighting(weighting).on_output(level.log_snr, scale))
                assert np.isfinite(weights).all() and (weights > 0).all(), (name, weighting, weights)
            for condition in ("sigma", "c_noise", "log_snr"):
                told = array(predictors.get(name, condition=condition).noise_condition(level))
                assert np.isfinite(told).all(), (name, condition)


def test_weights_at_the_ends_are_the_limits():
    ends = tensor(np.array([0.0, 1.0]))
    level = Levels(ends, 1.0 - ends, ends)
    for name, expected in {"epsilon": [1.0, 1.0], "velocity": [1.0, 0.0], "v": [1.0, 0.0]}.items():
        weights = get_loss_weighting("snr").on_output(
            level.log_snr, predictors.get(name).x0_error_scale(level.alpha, level.sigma)
        )
        np.testing.assert_allclose(array(weights), expected, atol=1e-6)
