"""What all metrics of features share: names, checks, configs, and standard errors that are true."""

import keras
import numpy as np
import pytest

from keras_diffusion import metrics
from keras_diffusion.metrics.feature_metric import FEATURE_METRICS

WIDTH = 4
SMALL = {"kid": {"subsets": 2, "subset_size": 20}, "mind": {"projections": 20}}  # options that suit 60 samples
NAMES = sorted(FEATURE_METRICS.names())


def make(name, **options):
    return metrics.get(name, **{**SMALL.get(name, {}), **options})


@pytest.fixture
def features():
    rng = np.random.default_rng(0)
    return tuple(rng.normal(shift, 1.0, (60, WIDTH)) for shift in (0.3, 0.0, 0.0))


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_returns_an_estimate_and_says_what_it_is(name, features):
    metric = make(name)
    estimate = metric(*features)
    assert isinstance(estimate.value, float) and np.isfinite(estimate.value)
    assert estimate.standard_error is None or (type(estimate.standard_error) is float and estimate.standard_error >= 0)
    assert metric.name == name and metric.title and metric.better in ("lower", "higher")
    assert metric.why.endswith(".") and metric.minimum(WIDTH) >= 2
    assert metric(*features) == estimate, "the same numbers twice"


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_takes_tensors_and_float32(name, features):
    tensors = [keras.ops.convert_to_tensor(value.astype("float32")) for value in features]
    assert make(name)(*tensors).value == pytest.approx(make(name)(*features).value, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_survives_its_config(name):
    metric = make(name)
    again = metrics.get({"class_name": type(metric).__name__, "config": metric.get_config()})
    assert type(again) is type(metric) and again.get_config() == metric.get_config()


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_refuses_too_few_samples_with_the_reason(name, features):
    metric = make(name)
    generated, *others = features
    few = metric.minimum(WIDTH) - 1
    with pytest.raises(
        ValueError, match=rf"at least {few + 1} samples on each side.*Received: {few} generated"
    ) as error:
        metric(generated[:few], *others)
    assert metric.why in str(error.value)


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_refuses_nan_and_unequal_widths(name, features):
    generated, real, training = features
    broken = generated.copy()
    broken[3, :2] = np.nan
    with pytest.raises(ValueError, match=r"must be finite. Received: generated.*2 NaN"):
        make(name)(broken, real, training)
    with pytest.raises(ValueError, match=r"arrays \(N, width\).*generated of shape \(60,\)"):
        make(name)(generated[:, 0], real, training)
    metric = make(name)
    if metric.uses_real or "training" in metric.needs:
        with pytest.raises(ValueError, match="Received: 4 features of generated samples, 3 features of"):
            metric(generated, real[:, :3], training[:, :3])
        with pytest.raises(ValueError, match="Received: (real|training)=None"):
            metric(generated)


def test_names_with_several_meanings():
    assert isinstance(metrics.get("fid"), metrics.FD) and isinstance(metrics.get("kd"), metrics.KID)
    assert isinstance(metrics.get("KID", subsets=3), metrics.KID)


def test_an_estimate_prints_as_a_value_with_its_error():
    assert str(metrics.Estimate(12.3456, 0.444)) == "12.35 ± 0.44" and str(metrics.Estimate(0.5)) == "0.5"


@pytest.mark.parametrize(
    "metric",
    [
        metrics.get("fd"),
        metrics.get("fd_infinity"),
        metrics.get("kid", subsets=5, subset_size=150),
        metrics.get("kid", subsets=None),
        metrics.get("cmmd", sigma=2.0),
        metrics.get("mind", projections=50),
    ],
    ids=repr,
)
def test_standard_errors_are_what_repeated_draws_show(metric):
    estimates = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        estimates.append(metric(rng.normal(0.3, 1.2, (300, WIDTH)), rng.normal(0.0, 1.0, (250, WIDTH))))
    values, errors = np.array(estimates).T
    assert errors.mean() == pytest.approx(values.std(), rel=0.3)  # 100 draws know a deviation to 7 %
