"""Which noise levels training draws."""

import numpy as np
import pytest
from golden_data import array, load, relative_error, round_trip, tensor, tolerance

from keras_diffusion import schedulers
from keras_diffusion.training.time_distribution import TIME_DISTRIBUTIONS, TimeDistribution

GOLDEN = load("schedules")


def sigma_at(distribution, schedule, u):
    """σ/α of the drawn times, the schedule being evaluated on the host."""
    t = array(distribution.quantile(tensor(u), schedule)).astype("float64")
    levels = schedule.levels(np.clip(t, 0, 1))
    return levels.sigma / levels.alpha


@pytest.mark.parametrize(
    ("case", "mean", "std"), [("edm_lognormal_-1.2_1.2", -1.2, 1.2), ("edm_lognormal_-0.4_1", -0.4, 1.0)]
)
def test_log_normal_sigma_has_edms_quantiles(case, mean, std):
    distribution = TIME_DISTRIBUTIONS.get("log_normal_sigma", mean=mean, std=std)
    schedule = schedulers.get("ve", sigma_min=1e-4, sigma_max=1e3)
    u, expected = GOLDEN[case]["t"], GOLDEN[case]["sigma"]
    inner = (u > 1e-3) & (u < 1 - 1e-3)  # further out the float32 quantile function loses digits
    assert relative_error(sigma_at(distribution, schedule, u)[inner], expected[inner]) < tolerance(2e-4, 1e-6)
    # the same levels on any other schedule
    assert relative_error(sigma_at(distribution, schedulers.get("cosine"), u)[inner], expected[inner]) < tolerance(
        2e-3, 1e-6
    )


def test_log_normal_sigma_agrees_with_k_diffusion():
    golden = load("kdiff_schedules")["train-density-a"]
    params = golden.config["params"]
    distribution = TIME_DISTRIBUTIONS.get("log_normal_sigma", mean=params["loc"], std=params["scale"])
    sigma = sigma_at(distribution, schedulers.get("ve", sigma_min=1e-4, sigma_max=1e3), golden["u"])
    assert relative_error(sigma, golden["log_normal"]) < tolerance(2e-3, 1e-5)


def test_uniform_on_variance_exploding_is_k_diffusions_log_uniform():
    golden = load("kdiff_schedules")["train-density-a"]
    params = golden.config["params"]
    schedule = schedulers.get("ve", sigma_min=params["lo"], sigma_max=params["hi"])
    assert relative_error(
        sigma_at(TIME_DISTRIBUTIONS.get("uniform"), schedule, golden["u"]), golden["log_uniform"]
    ) < tolerance(1e-5, 1e-10)


def test_logit_normal_has_the_quantiles_of_flow_matching():
    golden = GOLDEN["flow_logit_normal_0_1"]
    t = array(TIME_DISTRIBUTIONS.get("logit_normal").quantile(tensor(golden["t"]), schedulers.get("flow")))
    np.testing.assert_allclose(t, golden["sigma"], atol=tolerance(1e-5, 1e-8))


def test_logit_normal_mean_and_std():
    u = (np.arange(1000) + 0.5) / 1000
    t = array(TIME_DISTRIBUTIONS.get("logit_normal", mean=0.5, std=2.0).quantile(tensor(u), None)).astype("float64")
    logit = np.log(t / (1 - t))
    assert logit.mean() == pytest.approx(0.5, abs=1e-3)
    assert logit.std() == pytest.approx(2.0, abs=0.01)


def test_uniform_on_a_continuous_schedule_is_the_identity():
    u = np.array([0.01, 0.4, 0.99])
    np.testing.assert_allclose(
        array(TIME_DISTRIBUTIONS.get("uniform").quantile(tensor(u), schedulers.get("cosine"))), u, rtol=1e-6
    )


@pytest.mark.parametrize("name", ["uniform", "discrete"])
def test_discrete_times_are_hit_equally_often(name):
    distribution = TIME_DISTRIBUTIONS.get(name, **({"timesteps": 50} if name == "discrete" else {}))
    schedule = schedulers.get("linear", timesteps=50) if name == "uniform" else schedulers.get("cosine")
    u = (np.arange(500) + 0.5) / 500
    index = array(distribution.quantile(tensor(u), schedule)) * 50
    np.testing.assert_allclose(index, np.round(index), atol=1e-5)
    assert np.bincount(np.round(index).astype(int)).tolist() == [0] + [10] * 50


@pytest.mark.parametrize("name", TIME_DISTRIBUTIONS.names())
def test_quantiles_rise_and_stay_in_the_unit_interval(name):
    u = np.append(1e-6, np.append(np.linspace(0.001, 0.999, 99), 1 - 1e-6)).astype("float32")
    schedule = schedulers.get("cosine")
    t = array(TIME_DISTRIBUTIONS.get(name).quantile(tensor(u), schedule))
    assert t.shape == u.shape
    assert np.all(np.diff(t) >= 0) and np.all((t >= 0) & (t <= 1)) and len(np.unique(t)) > 90
    grid = TIME_DISTRIBUTIONS.get(name).quantile(tensor(u[:100].reshape(4, 25)), schedule)
    np.testing.assert_array_equal(array(grid).reshape(-1), t[:100])


@pytest.mark.parametrize("name", TIME_DISTRIBUTIONS.names())
def test_config_round_trip(name):
    options = {
        "log_normal_sigma": {"mean": 0.3, "std": 2.0},
        "logit_normal": {"mean": 0.3, "std": 2.0},
        "discrete": {"timesteps": 33},
    }
    distribution = TIME_DISTRIBUTIONS.get(name, **options.get(name, {}))
    copy = round_trip(distribution)
    assert type(copy) is type(distribution)
    u, schedule = tensor(np.linspace(0.01, 0.99, 33)), schedulers.get("cosine")
    np.testing.assert_array_equal(array(copy.quantile(u, schedule)), array(distribution.quantile(u, schedule)))


@pytest.mark.parametrize("name", ["log_normal_sigma", "logit_normal"])
def test_std_must_be_positive(name):
    with pytest.raises(ValueError, match="`std` is a standard deviation and must be positive. Received: std=0"):
        TIME_DISTRIBUTIONS.get(name, std=0)


def test_timesteps_must_be_positive():
    with pytest.raises(
        ValueError, match="`timesteps` counts noise levels and must be at least 1. Received: timesteps=0"
    ):
        TIME_DISTRIBUTIONS.get("discrete", timesteps=0)


def test_base_class_names_what_is_missing():
    with pytest.raises(NotImplementedError, match=r"TimeDistribution must implement quantile\(u, schedule\)"):
        TimeDistribution().quantile(0.5, None)
