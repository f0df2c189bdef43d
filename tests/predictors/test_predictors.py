"""Predictors: rows, targets and their inverse, noise conditions, the weights between errors of the output and of x0."""

import numpy as np
import pytest
from golden_data import PROBLEM, array, load, load_outside, relative_error, round_trip, tensor, tolerance

from keras_diffusion import predictors
from keras_diffusion.core.levels import Levels
from keras_diffusion.predictors.predictor import PREDICTORS

ALPHA, SIGMA = np.cos(np.linspace(0.2, 1.3, 6)), np.sin(np.linspace(0.2, 1.3, 6))


def level(t, alpha, sigma):
    return Levels(*(tensor(v) for v in (t, alpha, sigma)))


def test_rows_by_formula():
    rows = {
        "epsilon": (0 * ALPHA, 0 * ALPHA + 1),
        "x0": (0 * ALPHA + 1, 0 * ALPHA),
        "v": (-SIGMA, ALPHA),
        "velocity": (0 * ALPHA - 1, 0 * ALPHA + 1),
        "edm": (SIGMA / 0.5 / np.sqrt(ALPHA**2 / 4 + SIGMA**2), -ALPHA * 0.5 / np.sqrt(ALPHA**2 / 4 + SIGMA**2)),
    }
    assert sorted(rows) == PREDICTORS.names()
    for name, expected in rows.items():
        row = predictors.get(name).row(tensor(ALPHA), tensor(SIGMA))
        for value, reference in zip(row, expected, strict=True):
            np.testing.assert_allclose(array(value), reference, atol=tolerance(1e-6, 1e-14), err_msg=name)


@pytest.mark.parametrize("problem", ["gmm2", "gmmimg"])
@pytest.mark.parametrize(("name", "key"), [("epsilon", "eps"), ("x0", "denoised"), ("v", "v"), ("velocity", "flow")])
def test_targets_and_splits_of_the_exact_posterior(problem, name, key):
    """The reference's own ε-, x0-, v- and velocity predictions, and back.

    Levels with σ = 0 or α = 0 cannot be solved for.
    """
    golden = {k: PROBLEM[f"{problem}/check_{k}"] for k in ("x", "alpha", "sigma", "denoised", "eps", key)}
    usable = (golden["alpha"] > 0.05) & (golden["sigma"] > 0.05)
    golden = {k: v[usable] for k, v in golden.items()}
    # The table holds v = α·ε − σ·x0 whatever the norm of (α, σ); the predictor divides by that norm.
    norm = np.hypot(golden["alpha"], golden["sigma"]) if name == "v" else np.ones(usable.sum())
    output = golden[key] / norm.reshape((-1,) + (1,) * (golden["x"].ndim - 1))
    predictor = predictors.get(name)
    target = predictor.target(golden["denoised"], golden["eps"], golden["alpha"], golden["sigma"])
    np.testing.assert_allclose(array(target), output, atol=tolerance(1e-5, 1e-12))
    x0, eps = predictor.split(output, golden["x"], golden["alpha"], golden["sigma"])
    np.testing.assert_allclose(array(x0), golden["denoised"], atol=tolerance(1e-4, 1e-11))
    np.testing.assert_allclose(array(eps), golden["eps"], atol=tolerance(1e-4, 1e-11))


@pytest.mark.parametrize("name", PREDICTORS.names())
@pytest.mark.parametrize("shape", [(6, 2), (6, 4, 4, 3)])
def test_split_inverts_target(name, shape):
    x0, eps = np.random.default_rng(0).standard_normal((2, *shape))
    alpha, sigma = (v.reshape((-1,) + (1,) * (len(shape) - 1)) for v in (ALPHA, SIGMA))
    predictor = predictors.get(name)
    output = predictor.target(x0, eps, ALPHA, SIGMA)
    found = predictor(output, tensor(alpha * x0 + sigma * eps), tensor(ALPHA), tensor(SIGMA))
    np.testing.assert_allclose(array(found.x0), x0, atol=tolerance(1e-5, 1e-13))
    np.testing.assert_allclose(array(found.eps), eps, atol=tolerance(1e-5, 1e-13))


@pytest.mark.parametrize("name", [n for n in PREDICTORS.names() if n not in ("epsilon",)])
def test_split_at_pure_noise(name):
    """α = 0: everything but ε-prediction is defined there."""
    x0, eps = np.random.default_rng(0).standard_normal((2, 3, 2))
    predictor = predictors.get(name)
    output = predictor.target(x0, eps, np.zeros(3), np.ones(3))
    found = predictor.split(output, eps, np.zeros(3), np.ones(3))
    np.testing.assert_allclose(array(found.x0), x0, atol=1e-6)
    np.testing.assert_allclose(array(found.eps), eps, atol=1e-6)


@pytest.mark.parametrize("name", PREDICTORS.names())
def test_parity_with_numpy(name):
    """Every backend against the same float64 numbers."""
    rng = np.random.default_rng(1)
    output, x = rng.standard_normal((2, 6, 3))
    a, b = {
        "epsilon": (0 * ALPHA, 0 * ALPHA + 1),
        "x0": (0 * ALPHA + 1, 0 * ALPHA),
        "v": (-SIGMA, ALPHA),
        "velocity": (0 * ALPHA - 1, 0 * ALPHA + 1),
        "edm": (SIGMA / 0.5 / np.sqrt(ALPHA**2 / 4 + SIGMA**2), -ALPHA * 0.5 / np.sqrt(ALPHA**2 / 4 + SIGMA**2)),
    }[name]
    expected = [np.linalg.solve([[ALPHA[i], SIGMA[i]], [a[i], b[i]]], np.stack([x[i], output[i]])) for i in range(6)]
    found = predictors.get(name).split(output, x, ALPHA, SIGMA)
    np.testing.assert_allclose(array(found.x0), np.stack([e[0] for e in expected]), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(array(found.eps), np.stack([e[1] for e in expected]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", PREDICTORS.names())
def test_x0_error_scale_is_the_ratio_of_squared_errors(name):
    predictor = predictors.get(name)
    rng = np.random.default_rng(0)
    x, output, wrong = rng.standard_normal((3, 6, 4))
    right, other = (array(predictor.split(y, x, ALPHA, SIGMA).x0) for y in (output, wrong))
    ratio = ((right - other) ** 2).sum(-1) / ((output - wrong) ** 2).sum(-1)
    np.testing.assert_allclose(
        array(predictor.x0_error_scale(tensor(ALPHA), tensor(SIGMA))), ratio, rtol=tolerance(1e-4, 1e-11)
    )


# EDM preconditioning --------------------------------------------------------------------------------------------------


def edm_scalings(sigma, sigma_data):
    return {
        "c_skip": sigma_data**2 / (sigma**2 + sigma_data**2),
        "c_out": sigma * sigma_data / np.sqrt(sigma**2 + sigma_data**2),
        "c_in": 1 / np.sqrt(sigma**2 + sigma_data**2),
        "c_noise": np.log(sigma) / 4,
    }


def check_edm(sigma, expected, sigma_data):
    predictor = predictors.get("edm", sigma_data=sigma_data)
    one, zero = np.ones((len(sigma), 1)), np.zeros((len(sigma), 1))
    # D = c_skip·x + c_out·F: read off with (x, F) = (1, 0) and (0, 1).
    assert relative_error(
        array(predictor.split(zero, one, 0 * sigma + 1, sigma).x0)[:, 0], expected["c_skip"]
    ) < tolerance(2e-5, 1e-10)
    assert relative_error(
        array(predictor.split(one, zero, 0 * sigma + 1, sigma).x0)[:, 0], expected["c_out"]
    ) < tolerance(2e-5, 1e-10)
    assert relative_error(predictor.input_scale(tensor(0 * sigma + 1), tensor(sigma)), expected["c_in"]) < tolerance(
        1e-5, 1e-10
    )
    if "c_noise" in expected:
        condition = array(predictor.noise_condition(level(0 * sigma, 0 * sigma + 1, sigma)))
        np.testing.assert_allclose(condition, np.clip(expected["c_noise"], -2.5, 2.5), atol=tolerance(1e-6, 1e-12))


@pytest.mark.parametrize("sigma_data", [0.5, 1.0])
def test_edm_scalings_by_formula(sigma_data):
    sigma = np.geomspace(0.002, 80, 30)
    check_edm(sigma, edm_scalings(sigma, sigma_data), sigma_data)


def test_edm_with_v_prediction_turns_the_sign_of_the_output():
    plain, turned = predictors.get("edm"), predictors.get("edm", prediction="v")
    output, x = (np.random.default_rng(i).standard_normal((4, 3)).astype("float32") for i in range(2))
    alpha, sigma = np.array([1.0, 0.9, 0.5, 0.1], "float32"), np.array([0.2, 0.5, 1.0, 3.0], "float32")
    for ours, theirs in zip(turned.split(-output, x, alpha, sigma), plain.split(output, x, alpha, sigma), strict=True):
        np.testing.assert_allclose(array(ours), array(theirs), rtol=1e-5, atol=1e-6)
    assert round_trip(turned).prediction == "v"
    with pytest.raises(
        ValueError, match=r"`prediction` gives the sign of the output: 'epsilon' or 'v'\. Received: prediction='x0'"
    ):
        predictors.get("edm", prediction="x0")


@pytest.mark.parametrize("case", ["discrete-linear", "discrete-scaled_linear"])
def test_edm_scalings_agree_with_k_diffusion(case):
    golden = load("kdiff_schedules")[case]
    expected = {key: golden[f"denoiser_{key}"] for key in ("c_skip", "c_out", "c_in")}
    check_edm(golden["query_sigma"], expected, 0.5)


@pytest.mark.parametrize(("case", "sigma_data"), [("precond-edm", 0.5), ("precond-edm-sd1", 1.0)])
def test_edm_scalings_agree_with_edm(case, sigma_data):
    golden = load_outside("edm_precond_loss")[case]
    check_edm(golden["sigma"], {key: golden[key] for key in ("c_skip", "c_out", "c_in", "c_noise")}, sigma_data)


@pytest.mark.parametrize("case", ["discrete-linear", "discrete-scaled_linear"])
def test_epsilon_and_v_scalings_agree_with_k_diffusion(case):
    """k-diffusion's wrappers write them at α = 1: D = c_skip·x + c_out·F(c_in·x), where c_in brings x to
    the VP scale.
    """
    golden = load("kdiff_schedules")[case]
    sigma = golden["query_sigma"]
    alpha = 1 / np.sqrt(1 + sigma**2)
    one, zero = np.ones((len(sigma), 1)), np.zeros((len(sigma), 1))
    for name, c_skip, c_out in (
        ("epsilon", 1.0 + 0 * sigma, golden["eps_c_out"]),
        ("v", golden["v_c_skip"], golden["v_c_out"]),
    ):
        predictor = predictors.get(name)
        of_x = array(predictor.split(zero, one, alpha, sigma * alpha).x0)[:, 0] * alpha
        of_output = array(predictor.split(one, zero, alpha, sigma * alpha).x0)[:, 0]
        assert relative_error(of_x, c_skip) < tolerance(1e-5, 1e-10)
        assert relative_error(of_output, c_out) < tolerance(1e-5, 1e-10)
    np.testing.assert_allclose(alpha, golden["eps_c_in"], rtol=1e-12)


def test_edm_is_v_prediction_with_the_sign_turned_where_the_data_have_unit_variance():
    v, edm = (
        predictors.get(n, **o).row(tensor(ALPHA), tensor(SIGMA)) for n, o in (("v", {}), ("edm", {"sigma_data": 1.0}))
    )
    for one, other in zip(v, edm, strict=True):
        np.testing.assert_allclose(array(one), -array(other), atol=1e-6)


# Conditions, configs, errors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("c_noise", np.log(SIGMA / ALPHA) / 4),
        ("c_noise_timestep", 500 * np.log(SIGMA / ALPHA) / 4),
        ("log_snr", 2 * np.log(ALPHA / SIGMA)),
        ("time", np.linspace(0.1, 0.9, 6)),
        ("timestep", np.linspace(0.1, 0.9, 6) * 500 - 1),
        ("continuous_timestep", np.linspace(0.1, 0.9, 6) * 499),
        ("sigma", SIGMA / ALPHA),
        ("log_half_sigma", np.log(SIGMA / ALPHA / 2)),
        ("noise_variance", SIGMA**2),
    ],
)
def test_noise_conditions(condition, expected):
    predictor = predictors.get("v", condition=condition, timesteps=500)
    found = predictor.noise_condition(level(np.linspace(0.1, 0.9, 6), ALPHA, SIGMA))
    np.testing.assert_allclose(array(found), expected, atol=tolerance(1e-4 if "timestep" in condition else 1e-5, 1e-12))


def test_noise_conditions_are_finite_at_the_ends():
    ends = level([1.0, 0.0], [0.0, 1.0], [1.0, 0.0])
    np.testing.assert_allclose(array(predictors.get("v").noise_condition(ends)), [2.5, -2.5])
    np.testing.assert_allclose(array(predictors.get("v", condition="log_snr").noise_condition(ends)), [-20, 20])


@pytest.mark.parametrize("name", PREDICTORS.names())
def test_config_round_trip(name):
    options = {"sigma_data": 0.7} if name == "edm" else {}
    predictor = predictors.get(name, condition="timestep", timesteps=77, **options)
    copy = round_trip(predictor)
    assert type(copy) is type(predictor) and copy.get_config() == predictor.get_config()
    x, output = np.random.default_rng(0).standard_normal((2, 6, 3))
    np.testing.assert_array_equal(
        array(copy.split(output, x, ALPHA, SIGMA)), array(predictor.split(output, x, ALPHA, SIGMA))
    )
    levels = level(np.linspace(0, 1, 6), ALPHA, SIGMA)
    np.testing.assert_array_equal(array(copy.noise_condition(levels)), array(predictor.noise_condition(levels)))


def test_unknown_condition():
    with pytest.raises(
        ValueError, match=r"`condition` names what .*: c_noise, .*, log_snr, time, .*Received: condition='beta'"
    ):
        predictors.get("v", condition="beta")


def test_sigma_data_must_be_positive():
    with pytest.raises(
        ValueError, match="`sigma_data` is a standard deviation and must be positive. Received: sigma_data=0"
    ):
        predictors.get("edm", sigma_data=0)


def test_base_class_names_what_is_missing():
    with pytest.raises(NotImplementedError, match=r"Predictor must implement row\(alpha, sigma\)"):
        predictors.Predictor().target(np.ones((1, 1)), np.ones((1, 1)), 1.0, 1.0)
