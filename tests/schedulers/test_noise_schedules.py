"""Every noise schedule against reference numbers, and what all of them have in common."""

import math

import numpy as np
import pytest
from golden_data import array, load, relative_error, round_trip, tensor, tolerance
from keras import ops

from keras_diffusion import schedulers
from keras_diffusion.schedulers.noise_schedule import SCHEDULES

GOLDEN = load("schedules")
# keras.ops.sin, sinh, arctan and others of JAX compute in float32 even for float64 tensors, so the device side is no
# better than this.
DEVICE = tolerance(1e-5, 1e-6)
CASES = {
    "cosine": ("cosine", {}),
    "cosine_iddpm_s0.008": ("cosine_offset", {}),
    "cosine_shifted_64_256": ("cosine", {"shift": 4.0}),
    "cosine_shifted_64_128": ("cosine", {"shift": 2.0}),
    "cosine_shifted_32_256": ("cosine", {"shift": 8.0}),
    "cosine_clipped_pm15": ("cosine", {"log_snr_min": -15.0, "log_snr_max": 15.0}),
    "sigmoid_gamma_-3_3_1": ("sigmoid", {}),
    "sigmoid_gamma_-3_3_0.7": ("sigmoid", {"tau": 0.7}),
    "sigmoid_gamma_0_3_0.3": ("sigmoid", {"start": 0.0, "tau": 0.3}),
    "laplace_mu0_b0.5": ("laplace", {}),
    "flow_shift1": ("flow", {}),
    "flow_shift3": ("flow", {"shift": 3.0}),
    "flow_dynamic_mu0.5": ("flow", {"shift": math.exp(0.5)}),
    "flow_dynamic_mu1.15": ("flow", {"shift": math.exp(1.15)}),
    "vp_sde_0.1_20": ("vp", {}),
    "ve_sde_0.01_50": ("ve", {"sigma_min": 0.01, "sigma_max": 50.0}),
    "ddpm_linear_1000": ("linear", {}),
    "ddpm_scaled_linear_1000": ("scaled_linear", {}),
    "ddpm_squaredcos_1000": ("cosine_beta", {}),
    "ddpm_sigmoid_1000": ("sigmoid_beta", {}),
    "ddpm_laplace_1000": ("laplace_beta", {}),
    "ddpm_linear_1000_zsnr": ("linear", {"zero_terminal_snr": True}),
    "ddpm_scaled_linear_1000_zsnr": ("scaled_linear", {"zero_terminal_snr": True}),
    "heun_exp_1000": ("exp", {}),
}
# Schedules of the file that are something else here: training densities (test_time_distribution) and a spacing
# (test_spacing).
ELSEWHERE = {
    "edm_lognormal_-1.2_1.2",
    "edm_lognormal_-0.4_1",
    "flow_logit_normal_0_1",
    "karras_n18_0.002_80_rho7",
    "flow_mu_of_seq_len",
}


def make(name):
    """A schedule with its default options, whatever it needs."""
    return schedulers.get(name, **({"betas": [0.01, 0.1, 0.2, 0.5]} if name == "discrete" else {}))


def case_of(name):
    schedule = schedulers.get(CASES[name][0], **CASES[name][1])
    golden = GOLDEN[name]
    t = golden["t"] if schedule.timesteps is None else (np.arange(1000) + 1) / 1000
    # A level of pure noise (α = 0 to rounding in the reference) has no relative error.
    return schedule, golden, t, slice(0, -1) if "zsnr" in name else slice(None)


def test_every_golden_schedule_is_covered():
    assert set(GOLDEN) == set(CASES) | ELSEWHERE


@pytest.mark.parametrize("name", CASES)
def test_levels_on_the_host(name):
    schedule, golden, t, finite = case_of(name)
    levels = schedule.levels(t)
    assert levels.alpha.dtype == levels.sigma.dtype == np.float64
    assert relative_error(levels.alpha[finite], golden["alpha"][finite]) < 1e-10
    assert relative_error(levels.sigma, golden["sigma"]) < 1e-10
    log_snr = golden["logsnr"]
    np.testing.assert_allclose(schedule.log_snr(t)[: len(log_snr)], log_snr, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_call_on_the_device(name):
    schedule, golden, t, finite = case_of(name)
    alpha, sigma = schedule(tensor(t))
    assert relative_error(alpha[finite], golden["alpha"][finite]) < DEVICE
    assert relative_error(sigma, golden["sigma"]) < DEVICE


@pytest.mark.parametrize("name", CASES)
def test_time_is_the_inverse_of_log_snr(name):
    schedule, golden, t, _ = case_of(name)
    log_snr = golden["logsnr"]
    np.testing.assert_allclose(schedule.time(log_snr), t[: len(log_snr)], rtol=0, atol=1e-10)
    np.testing.assert_allclose(array(schedule.time(tensor(log_snr))), t[: len(log_snr)], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", [n for n in CASES if n.startswith(("ddpm", "heun"))])
def test_beta_tables(name):
    schedule, golden, _, _ = case_of(name)
    np.testing.assert_allclose(schedule.betas, golden["betas"], rtol=0, atol=1e-10)
    np.testing.assert_allclose(schedule.alphas_cumprod, golden["alphas_cumprod"], rtol=0, atol=1e-12)


# Properties of all schedules, those to come included ------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEDULES.names())
def test_noise_grows_with_time(name):
    schedule = make(name)
    levels = schedule.levels(np.linspace(0, 1, 201))
    assert np.all(np.diff(levels.log_snr[np.isfinite(levels.log_snr)]) < 0)
    assert np.all(np.isfinite(levels.alpha)) and np.all(np.isfinite(levels.sigma))
    assert levels.log_snr[0] > 7 and levels.log_snr[-1] < (-0.5 if name == "discrete" else -3)
    assert np.all(levels.alpha >= 0) and np.all(levels.sigma >= 0)


@pytest.mark.parametrize("name", SCHEDULES.names())
def test_device_equals_host_at_any_shape_ends_included(name):
    schedule = make(name)
    t = np.array([[0.0, 1e-3, 0.3], [0.777, 0.9995, 1.0]])
    levels = schedule.levels(t)
    alpha, sigma = schedule(tensor(t))
    np.testing.assert_allclose(array(alpha), levels.alpha, atol=DEVICE)
    np.testing.assert_allclose(array(sigma), levels.sigma, atol=DEVICE * max(1.0, levels.sigma.max()))
    alpha, sigma = schedule(tensor(0.3))
    assert tuple(alpha.shape) == tuple(sigma.shape) == ()
    np.testing.assert_allclose(array(sigma), levels.sigma[0, 2], rtol=1e-5)


@pytest.mark.parametrize("name", SCHEDULES.names())
def test_tensor_log_snr_equals_host(name):
    schedule = make(name)
    t = np.array([0.1, 0.5, 0.9])
    np.testing.assert_allclose(array(schedule.log_snr(tensor(t))), schedule.log_snr(t), atol=2e-5)


@pytest.mark.parametrize("name", SCHEDULES.names())
def test_time_at_infinite_log_snr_is_an_end_or_beyond(name):
    schedule = make(name)
    clean = schedule.time(np.inf)
    assert clean <= 0 or abs(clean) < 1e-12


@pytest.mark.parametrize("name", SCHEDULES.names())
def test_config_round_trip(name):
    schedule = make(name)
    copy = round_trip(schedule)
    assert type(copy) is type(schedule)
    assert copy.get_config() == schedule.get_config()
    t = np.linspace(0, 1, 17)
    np.testing.assert_array_equal(copy.levels(t), schedule.levels(t))


@pytest.mark.parametrize("name", CASES)
def test_config_round_trip_with_options(name):
    schedule, _, t, _ = case_of(name)
    np.testing.assert_array_equal(round_trip(schedule).levels(t), schedule.levels(t))


@pytest.mark.parametrize("name", SCHEDULES.names())
def test_level_maths_ignores_half_precision_policies(name, monkeypatch):
    import keras

    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        schedule = make(name)
    finally:
        keras.config.set_dtype_policy(policy)
    t = ops.cast(tensor([0.001, 0.4]), "float32")
    sigma = schedule(t)[1]
    assert "bfloat16" not in str(sigma.dtype)
    np.testing.assert_allclose(array(sigma), schedule.levels([0.001, 0.4]).sigma, rtol=1e-4)


def test_exact_ends():
    for name in ("cosine", "cosine_offset", "sqrt", "sigmoid", "laplace", "flow"):
        levels = make(name).levels([0.0, 1.0])
        np.testing.assert_allclose(levels.alpha, [1, 0], atol=1e-16, err_msg=name)
        assert levels.alpha[1] == 0 and levels.sigma[0] == 0
        alpha, sigma = make(name)(tensor([0.0, 1.0]))
        assert array(alpha)[1] == 0 and array(sigma)[0] == 0


def test_cosine_limits_hold_at_the_ends():
    schedule = schedulers.get("cosine", log_snr_min=-10, log_snr_max=12, shift=2.0)
    np.testing.assert_allclose(schedule.log_snr([0.0, 1.0]), np.array([12, -10]) - 2 * np.log(2))


def test_sqrt_schedule_by_formula():
    levels = schedulers.get("sqrt").levels(np.linspace(0, 1, 11))
    np.testing.assert_allclose(levels.sigma**2, levels.t)
    np.testing.assert_allclose(levels.alpha**2 + levels.sigma**2, 1)


def test_cosine_general_runs_between_flaxdiffs_limits():
    levels = schedulers.get("cosine_general").levels([0.0, 1.0])
    np.testing.assert_allclose(levels.sigma / levels.alpha, [0.02, 80])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cosine", {"shift": 0.0}, r"`shift` multiplies σ/α and must be positive. Received: shift=0.0"),
        (
            "cosine",
            {"log_snr_min": 3, "log_snr_max": -3},
            "`log_snr_min` .* must lie below `log_snr_max`.*Received: log_snr_min=3",
        ),
        ("cosine_offset", {"offset": -0.1}, "`offset` must not be negative. Received: offset=-0.1"),
        ("flow", {"shift": -1.0}, r"`shift` multiplies σ/α and must be positive. Received: shift=-1.0"),
        ("laplace", {"b": 0.0}, "`b` is the width of a distribution and must be positive. Received: b=0.0"),
        ("sigmoid", {"start": 3.0, "end": -3.0}, "The sigmoid needs start < end and tau > 0. Received: start=3.0"),
        ("sigmoid", {"tau": 0.0}, "The sigmoid needs start < end and tau > 0. .*tau=0.0"),
        (
            "ve",
            {"sigma_min": 2.0, "sigma_max": 1.0},
            "0 < sigma_min < sigma_max. Received: sigma_min=2.0, sigma_max=1.0",
        ),
        ("vp", {"beta_min": 20.0}, "0 <= beta_min < beta_max. Received: beta_min=20.0"),
    ],
)
def test_bad_options(name, options, message):
    with pytest.raises(ValueError, match=message):
        schedulers.get(name, **options)


@pytest.mark.parametrize("t", [-0.1, 1.1, float("nan"), [0.5, 2.0]])
def test_times_outside_the_unit_interval(t):
    with pytest.raises(
        ValueError, match=r"Times of a noise schedule lie in \[0, 1\], 1 being pure noise. Received: t="
    ):
        schedulers.get("cosine").levels(t)


def test_base_class_names_what_is_missing():
    with pytest.raises(NotImplementedError, match=r"NoiseSchedule must implement alpha_sigma\(t, xp\)"):
        schedulers.NoiseSchedule().levels(0.5)
