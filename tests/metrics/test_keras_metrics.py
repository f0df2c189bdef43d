"""On every backend, and equal to the functions, which are NumPy."""

import keras
import numpy as np
import pytest

from keras_diffusion import metrics
from keras_diffusion.runtime.compile import Compiled

RNG = np.random.default_rng(0)
REAL = RNG.normal(5.0, 1.0, (300, 6)).astype("float32")
GENERATED = RNG.normal(5.2, 1.0, (260, 6)).astype("float32")
METRICS = [
    (metrics.FrechetDistance(), metrics.get("fd")),
    (metrics.KernelDistance(5, 100), metrics.get("kid", subsets=5, subset_size=100)),
    (metrics.SampleMetric("precision"), metrics.get("precision")),
    (metrics.SampleMetric({"name": "mind", "projections": 20}), metrics.get("mind", projections=20)),
]
each = pytest.mark.parametrize(("metric", "function"), METRICS, ids=lambda value: repr(value)[:20])


def feed(metric, size):
    """Batches as a network gives them: float32 tensors of the backend."""
    metric.reset_state()
    for side, features in (("real", REAL), ("generated", GENERATED)):
        for start in range(0, len(features), size):
            metric.update_state(**{side: keras.ops.convert_to_tensor(features[start : start + size])})
    return metric.result()


@each
def test_equals_the_function_however_the_batches_are_split(metric, function):
    expected = function(GENERATED, REAL).value
    assert feed(metric, 64) == pytest.approx(expected, rel=1e-10)
    assert feed(metric, 300) == pytest.approx(expected, rel=1e-10)


@each
def test_survives_its_config(metric, function):
    again = type(metric).from_config(metric.get_config())
    assert again.get_config() == metric.get_config() and again.name == metric.name
    assert feed(again, 300) == feed(metric, 300)


@pytest.mark.parametrize("make", [metrics.FrechetDistance, lambda **options: metrics.KernelDistance(None, **options)])
def test_real_samples_may_stay(make):
    metric = make(keep_real=True)
    metric.update_state(REAL, GENERATED)
    first = metric.result()
    metric.reset_state()
    with pytest.raises(ValueError, match="0 generated|no generated samples yet"):
        metric.result()
    metric.update_state(generated=GENERATED)
    assert metric.result() == first
    forgetful = make()
    forgetful.update_state(REAL, GENERATED)
    forgetful.reset_state()
    forgetful.update_state(generated=GENERATED)
    with pytest.raises(ValueError, match="0 real|no real samples yet"):
        forgetful.result()


def test_parts_of_several_processes_merge():
    parts = [metrics.FrechetDistance() for _ in range(2)]
    for part, rows in zip(parts, (slice(0, 100), slice(100, None)), strict=True):
        part.update_state(REAL[rows], GENERATED[rows])
    parts[0].real.merge(parts[1].real)
    parts[0].generated.merge(parts[1].generated)
    assert parts[0].result() == pytest.approx(metrics.frechet_distance(GENERATED, REAL), rel=1e-10)


def test_too_few_samples_and_weights_are_refused():
    metric = metrics.FrechetDistance()
    metric.update_state(REAL[:6], GENERATED[:5])
    with pytest.raises(ValueError, match=r"FD of 6 features needs at least 7 samples.*5 generated, 6 real"):
        metric.result()
    with pytest.raises(ValueError, match="every sample once"):
        metric.update_state(REAL, GENERATED, sample_weight=REAL[:, 0])
    with pytest.raises(ValueError, match=r"one width. Received: 2 real features after 6"):
        held = metrics.KernelDistance()
        held.update_state(REAL)
        held.update_state(REAL[:, :2])


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="torch runs programs eagerly")
def test_a_compiled_program_is_refused():
    metric = metrics.FrechetDistance()

    def program(x):
        metric.update_state(real=x)
        return x

    with pytest.raises(ValueError, match="cannot run inside a compiled program"):
        Compiled(program)(keras.ops.convert_to_tensor(REAL))
