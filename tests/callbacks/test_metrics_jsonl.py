import json

import keras
import numpy as np
import pytest

from keras_diffusion.callbacks import MetricsJSONL


def fit(callbacks, x=1.0, **kwargs):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    data = (np.full((8, 2), x), np.ones((8, 1)))
    model.fit(*data, batch_size=4, verbose=0, validation_data=data, callbacks=callbacks, **kwargs)


def read(path):
    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    return [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]


def test_one_line_per_epoch(tmp_path):
    path = tmp_path / "run" / "metrics.jsonl"
    fit([MetricsJSONL(path)], epochs=3)
    rows = read(path)
    assert [(row["epoch"], row["step"]) for row in rows] == [(1, 2), (2, 4), (3, 6)]
    assert all(row["loss"] > 0 and row["val_loss"] > 0 and row["seconds"] >= 0 and row["time"] > 1.7e9 for row in rows)


def test_lines_are_there_as_soon_as_the_epoch_ends(tmp_path):
    seen = []

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(len(read(tmp_path / "m.jsonl")))

    fit([MetricsJSONL(tmp_path / "m.jsonl"), Look()], epochs=2)
    assert seen == [1, 2]


def test_resuming_leaves_each_epoch_once(tmp_path):
    path = tmp_path / "m.jsonl"
    fit([MetricsJSONL(path)], epochs=3)
    before = read(path)
    with path.open("a") as file:
        file.write('{"epoch": 4, "lo')  # killed while writing
    fit([MetricsJSONL(path)], epochs=4, initial_epoch=2)
    rows = read(path)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert rows[:2] == before[:2] and rows[2]["time"] > before[2]["time"]


def test_resuming_by_a_callback_that_stands_later(tmp_path):
    class Restore(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.model._initial_epoch = 2

    path = tmp_path / "m.jsonl"
    fit([MetricsJSONL(path)], epochs=2)
    fit([MetricsJSONL(path), Restore()], epochs=3)
    assert [row["epoch"] for row in read(path)] == [1, 2, 3]


def test_append_false_starts_anew(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text("something else\n")
    fit([MetricsJSONL(path, append=False)], epochs=3, initial_epoch=2)
    assert [row["epoch"] for row in read(path)] == [3]


@pytest.mark.filterwarnings("ignore")
def test_non_finite_values_stay_valid_json(tmp_path):
    fit([MetricsJSONL(tmp_path / "m.jsonl")], x=np.nan, epochs=1)
    row = read(tmp_path / "m.jsonl")[0]
    assert row["loss"] is None and row["val_loss"] is None
    assert row["non_finite"] == {"loss": "nan", "val_loss": "nan"}


@pytest.mark.parametrize("content", ["a,b\n1,2\n", '{"loss": 1}\n{"loss": 2}\n', "[1]\n{}\n"])
def test_a_file_of_another_kind_is_not_touched(tmp_path, content):
    path = tmp_path / "m.jsonl"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"line 1: .*Choose another path, or append=False"):
        fit([MetricsJSONL(path)], epochs=1)
    assert path.read_text() == content
