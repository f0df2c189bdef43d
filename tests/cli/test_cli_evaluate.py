"""`keras-diffusion evaluate`, and scores while training, which a configuration asks for."""

import json
import re

import numpy as np
import pytest
from command_line import run

from keras_diffusion.metrics import MetricResult

pytestmark = pytest.mark.slow
METRICS = '["mind", {"name": "fd", "allow_singular": true}]'
FAST = ["--metrics", METRICS, "--num-samples", 24, "--steps", 2, "--extractor", "pixels"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run on 8×8 images of 4 classes, which was measured after its second epoch."""
    folder = tmp_path_factory.mktemp("evaluate")
    rng = np.random.default_rng(0)
    images = np.repeat(rng.uniform(-1, 1, (4, 8, 8, 1)), 16, axis=0) + 0.1 * rng.standard_normal((64, 8, 8, 1))
    np.savez(folder / "images.npz", images=np.clip(images, -1, 1).astype("float32"), labels=np.arange(64) // 16)
    scores = {"every": 2, "names": ["mind"], "num_samples": 24, "num_steps": 2, "extractor": "pixels", "best": "mind"}
    config = {
        "data": {"source": str(folder / "images.npz"), "batch_size": 16},
        "network": {"widths": [8], "num_res_blocks": 1, "num_middle_res_blocks": 0, "attention": False},
        "model": {"ema": 0.9},
        "train": {"epochs": 3, "samples": {"every": 0}, "metrics": scores},
    }
    (folder / "tiny.json").write_text(json.dumps(config))
    result = run("train", folder / "tiny.json", "--out", folder / "run")
    assert result.exit_code == 0, result.output
    return folder / "run"


def test_training_measures_and_keeps_the_best(trained):
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert ["mind" in line for line in lines] == [False, True, True]
    best = json.loads((trained / "best.json").read_text())
    assert best["results"]["mind"]["value"] == min(line["mind"] for line in lines if "mind" in line)
    result = run(
        "evaluate", trained / "best", "--data", trained.parent / "images.npz", *FAST, "--out", trained.parent / "b"
    )
    assert result.exit_code == 0, result.output


def test_a_table_a_file_and_a_page(trained, tmp_path):
    result = run("evaluate", trained, *FAST, "--guidance-scale", 1.5, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    for text in (
        "Real data: of the run, 64 samples",
        "real against real",
        "24 generated against 24 real",
        "evaluation.html",
    ):
        assert text in result.output
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())["models"]["run"]
    mind = MetricResult.from_dict(found["mind"])
    assert mind.floor.n == 24 and mind.guidance_scale == 1.5 and mind.weights == "ema"
    assert list(found) == ["mind", "fd"] and found["fd"]["options"] == {"allow_singular": True}
    page = (tmp_path / "out" / "evaluation.html").read_text()
    assert str(mind).replace("&", "&amp;") in page and page.count("data:image/png;base64,") == 5
    assert not re.search(r"<script|https?://", page) and "Farthest from all real samples" in page
    assert list((trained / "generated" / "features").iterdir()), "features are kept in the run"
    again = run("evaluate", trained, *FAST, "--out", tmp_path / "out")
    assert again.exit_code == 2 and "only replaced with --overwrite" in again.output


def test_without_names_what_the_samples_suffice_for(trained, tmp_path):
    result = run("evaluate", trained, *FAST[2:], "--out", tmp_path / "out")
    assert result.exit_code == 0 and "FD is left out: of 64 features it needs 65 samples." in result.output, (
        result.output
    )
    models = json.loads((tmp_path / "out" / "metrics.json").read_text())["models"]
    assert list(models["run"]) == ["mind", "precision", "recall"]


def test_another_model_beside_it(trained, tmp_path):
    result = run("evaluate", trained, *FAST, "--compare", trained / "best", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    models = json.loads((tmp_path / "out" / "metrics.json").read_text())["models"]
    assert list(models) == ["run", "best"]
    floors = [models[name]["mind"]["floor"] for name in models]
    assert floors[0] == floors[1]


@pytest.mark.parametrize(
    "options, message",
    [
        (["--metrics", "mint"], "Unknown metric"),
        (["--metrics", ","], "--metrics takes names with commas between"),
        (["--sampler", "dim"], "Unknown sampler"),
        (["--weights", "best"], "--weights is ema or raw"),
        (["--num-samples", 1], "--num-samples"),
        (["--metrics", "fd", "--extractor", "pixels", "-n", 20], "FD of 64 features needs at least 65 samples"),
    ],
)
def test_errors_are_one_line(trained, options, message):
    result = run("evaluate", trained, *options)
    assert result.exit_code == 2 and message in result.output and "Traceback" not in result.output


def test_a_preset_needs_data(trained):
    result = run("evaluate", trained / "model", *FAST)
    assert result.exit_code == 2 and "Received: " in result.output and "no --data" in result.output


@pytest.mark.parametrize(
    "setting, message",
    [
        ("train.metrics.best=fd", "`train.metrics.best` is one of those measured: mind"),
        ("train.metrics.sampler=dim", "[train.metrics] Unknown sampler"),
        ("train.metrics.metrics=fd", "Unknown key 'metrics' in [train.metrics]"),
        ("train.metrics.every=-1", "train.metrics.every"),
        ("train.metrics=5", "[train.metrics] is a table"),
    ],
)
def test_a_wrong_configuration_is_one_line(trained, setting, message, tmp_path):
    result = run("train", trained.parent / "tiny.json", "--out", tmp_path / "new", "--set", setting)
    assert result.exit_code == 2 and message in result.output and not (tmp_path / "new" / "config.json").exists()
