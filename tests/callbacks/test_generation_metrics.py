"""Scores while training: their curve, the best epoch, and the same values after an interruption. On every backend."""

import json

import numpy as np
import pytest

import keras_diffusion as kd
from keras_diffusion.callbacks import GenerationMetrics, MetricsJSONL, Resume
from keras_diffusion.metrics import GenerationEvaluator

OPTIONS = {"metrics": ["mind"], "num_samples": 48, "num_steps": 3}


@pytest.fixture
def train(make_model, blobs, tmp_path):
    """A function that trains in a folder and returns (model, scores, lines of metrics.jsonl)."""

    def run(epochs, folder="run", **options):
        folder = tmp_path / folder
        batches = kd.data.Batches(blobs, 32, seed=0)
        model = make_model(ema=0.8)
        scores = GenerationMetrics(batches, best=folder / "best", **{**OPTIONS, **options})
        callbacks = [scores, MetricsJSONL(folder / "metrics.jsonl"), Resume(folder / "state", data=batches)]
        history = model.fit(batches, epochs=epochs, verbose=0, callbacks=callbacks)
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        return model, scores, lines, history

    return run


def test_the_curve_the_best_epoch_and_an_interruption(train, tmp_path, difference):
    model, scores, lines, history = train(5, every=2)
    assert [line["epoch"] for line in lines if "mind" in line] == [2, 4, 5]
    assert history.history["mind"] == [scores.results[epoch]["mind"].value for epoch in (2, 4, 5)]
    result = scores.results[5]["mind"]
    assert result.weights == "ema" and result.seed == 0 and result.n_generated == 48 and result.floor is not None
    again = model.evaluate_generation(kd.data.Batches(scores._data.source, 32), **OPTIONS)["mind"]
    assert again.value == result.value

    record = json.loads((tmp_path / "run" / "best.json").read_text())
    best = min(scores.results, key=lambda epoch: scores.results[epoch]["mind"].value)
    assert record["epoch"] == best and record["results"]["mind"]["value"] == scores.best_result.value
    kept = kd.DiffusionModel.from_preset(tmp_path / "run" / "best")
    assert scores.evaluator(kept, num_steps=3)["mind"].value == pytest.approx(scores.best_result.value, rel=1e-6)

    train(2, "halves", every=2)
    resumed, halves, continued, _ = train(5, "halves", every=2)
    assert difference(model, resumed) == 0
    values = [[line.get("mind") for line in found] for found in (lines, continued)]
    assert values[0] == values[1]  # bit for bit
    assert halves.best_result.value == scores.best_result.value and sorted(halves.results) == [4, 5]
    assert json.loads((tmp_path / "halves" / "best.json").read_text()) == record


class Fake:
    """What the callback asks of a model."""

    def __init__(self, values):
        self.values, self.saved = iter(values), []

    def generate(self):
        raise NotImplementedError

    def save_to_preset(self, path, overwrite):
        self.saved.append(path.name)
        path.mkdir(parents=True, exist_ok=True)


class Values(GenerationEvaluator):
    """An evaluator that says what the model was given."""

    def __init__(self, better):
        self.metrics, self.better = [kd.metrics.get("mind")], better

    def __call__(self, model, **options):
        value = next(model.values)
        if value is None:
            raise FloatingPointError("NaN")
        return {"mind": kd.metrics.MetricResult("mind", "MIND", self.better, value, 10, 10)}


def epochs_of(better, values, tmp_path, begin=0, **options):
    model = Fake(values)
    callback = GenerationMetrics(Values(better), best=tmp_path / "best", **options)
    callback.set_model(model)
    callback.set_params({"epochs": 100})
    callback.on_train_begin()
    logs = []
    for epoch in range(begin, begin + len(values)):
        logs.append({"loss": 1.0})
        callback.on_epoch_begin(epoch)
        callback.on_epoch_end(epoch, logs[-1])
    return model, callback, logs


def test_lower_or_higher_is_better_as_the_metric_says(tmp_path):
    assert len(epochs_of("lower", [3.0, 4.0, 2.0, 2.0], tmp_path)[0].saved) == 2
    assert len(epochs_of("higher", [3.0, 4.0, 2.0, 5.0], tmp_path)[0].saved) == 3


def test_a_run_that_goes_on_knows_its_best_epoch_and_a_new_one_does_not(tmp_path):
    epochs_of("lower", [3.0, 1.0], tmp_path)
    assert epochs_of("lower", [2.0, 0.5], tmp_path, begin=2)[0].saved == ["best"]
    assert epochs_of("lower", [2.0, 3.0], tmp_path)[0].saved == ["best"]
    (tmp_path / "best.json").write_text('{"monitor": "fd"}')
    with pytest.raises(ValueError, match="goes on with the metric that it began with.*'fd'"):
        epochs_of("lower", [2.0], tmp_path, begin=2)


def test_samples_that_are_not_finite_stop_nothing(tmp_path):
    with pytest.warns(UserWarning, match="nothing was measured after epoch 2"):
        _, callback, logs = epochs_of("lower", [3.0, None, 2.0], tmp_path)
    assert [log.get("mind") for log in logs] == [3.0, None, 2.0] and sorted(callback.results) == [1, 3]


def test_tensorboard_gets_the_curve(tmp_path):
    epochs_of("lower", [3.0, 2.0], tmp_path, tensorboard=tmp_path / "logs")
    (events,) = (tmp_path / "logs" / "metrics").iterdir()
    content = events.read_bytes()
    assert content.count(b"\n\x04mind\x15" + np.float32(2.0).tobytes()) == 1 and content.count(b"mind") == 2


@pytest.mark.parametrize(
    "options, message",
    [
        ({"every": 0}, "every must be an integer ≥ 1"),
        ({"num_samples": 1}, "num_samples"),
        ({"best": ""}, "path"),
        ({"monitor": "recall"}, "`monitor` is one of the metrics measured: mind. Received: 'recall'"),
    ],
)
def test_mistakes_are_explained(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        callback = GenerationMetrics(Values("lower"), **options)
        callback.set_model(Fake([]))
        callback.on_train_begin()


def test_other_models_are_refused(blobs):
    callback = GenerationMetrics(blobs, **OPTIONS)
    callback.set_model(kd.keras.Sequential([kd.keras.layers.Dense(1)]))
    with pytest.raises(ValueError, match="needs a model with generate"):
        callback.on_train_begin()
