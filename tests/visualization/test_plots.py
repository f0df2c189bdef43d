import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image

from keras_diffusion.visualization import loss_curve, scatter


def points(n=50):
    return np.random.default_rng(0).normal(size=(n, 2))


def test_scatter_draws_points_and_reference(tmp_path):
    figure = scatter(points(), tmp_path / "s.png", reference=points(30), title="moons", limits=(-3, 3))
    axes = figure.axes[0]
    assert [len(c.get_offsets()) for c in axes.collections] == [30, 50]
    assert axes.get_xlim() == (-3, 3) and axes.get_title() == "moons"
    with Image.open(tmp_path / "s.png") as image:
        assert image.size == (750, 750)


def test_scatter_has_a_colour_per_class():
    figure = scatter(keras.ops.convert_to_tensor(points(6)), labels=[0, 1, 2, 0, 1, 0])
    assert [len(c.get_offsets()) for c in figure.axes[0].collections] == [3, 2, 1]
    assert [t.get_text() for t in figure.axes[0].get_legend().get_texts()] == ["class 0", "class 1", "class 2"]


def test_loss_curve_of_a_dict(tmp_path):
    figure = loss_curve(
        {"loss": [3.0, 2.0, float("nan")], "val_loss": [3.5, 2.5, 2.4], "lr": [1, 1, 1]}, tmp_path / "l.svg", log=True
    )
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert set(lines) == {"loss", "val_loss"}
    assert list(lines["loss"].get_xdata()) == [1, 2, 3]
    assert lines["val_loss"].get_ydata().tolist() == [3.5, 2.5, 2.4] and np.isnan(lines["loss"].get_ydata()[2])
    assert figure.axes[0].get_yscale() == "log" and (tmp_path / "l.svg").read_text().lstrip().startswith("<?xml")


def test_loss_curve_of_a_metrics_file(tmp_path):
    rows = [{"epoch": 3, "loss": 2.0}, {"epoch": 4, "loss": None, "val_loss": 1.5, "non_finite": {"loss": "nan"}}]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = {line.get_label(): line for line in loss_curve(tmp_path / "m.jsonl").axes[0].lines}
    assert list(lines["loss"].get_xdata()) == [3, 4] and lines["loss"].get_ydata()[0] == 2.0
    assert np.isnan(lines["val_loss"].get_ydata()[0]) and lines["val_loss"].get_ydata()[1] == 1.5


def test_loss_curve_of_a_history_object():
    history = keras.callbacks.History()
    history.epoch, history.history = [5, 6], {"loss": [1.0, 0.5], "mae": [1.0, 0.9]}
    figure = loss_curve(history, keys=["mae"])
    assert list(figure.axes[0].lines[0].get_xdata()) == [6, 7] and figure.axes[0].get_ylabel() == "value"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: scatter(np.zeros((4, 3))), r"points must be an array \(N, 2\). Received: shape=\(4, 3\)"),
        (lambda: scatter(points(4), labels=[0, 1]), r"one class id per point. Received: shape=\(2,\) for 4 points"),
        (
            lambda: loss_curve({"loss": [1.0]}, keys=["lss"]),
            r"known metric. Received: keys=\['lss'\], known: \['loss'\]",
        ),
        (lambda: loss_curve({}), r"at least one epoch"),
        (lambda: loss_curve("nowhere.jsonl"), r"'nowhere.jsonl', which is no file"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_history_of_another_type():
    with pytest.raises(TypeError, match="Received: list"):
        loss_curve([1.0, 2.0])


def test_file_that_holds_no_metrics(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"loss": 1}\n')
    with pytest.raises(ValueError, match=r"JSON object with 'epoch'. Received: '.*m\.jsonl'"):
        loss_curve(tmp_path / "m.jsonl")


@pytest.mark.slow
def test_pyplot_is_not_touched(tmp_path):
    code = (
        "import sys, keras; before = 'matplotlib.pyplot' in sys.modules; from keras_diffusion.visualization import "
        f"loss_curve;loss_curve({{'loss': [1.0, 0.5]}}, {str(tmp_path / 'l.png')!r}); print(before or "
        "'matplotlib.pyplot' not in sys.modules)"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        .stdout.strip()
        .endswith("True")
    )
