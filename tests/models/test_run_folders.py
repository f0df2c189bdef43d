import json
import shutil

import numpy as np
import pytest
from command_line import run

import keras_diffusion as kd
from keras_diffusion.checkpoints import CheckpointError

pytestmark = pytest.mark.slow  # folders and names, on any backend


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run on classes with names; tests must not change it."""
    image = pytest.importorskip("PIL.Image")
    folder = tmp_path_factory.mktemp("runs")
    for number, name in enumerate(("china", "flower")):
        (folder / "pictures" / name).mkdir(parents=True)
        for i in range(4):
            image.new("RGB", (12, 10), (90 * number, 20 * i, 0)).save(folder / "pictures" / name / f"{i}.png")
    config = {
        "data": {"source": str(folder / "pictures"), "image_size": 8, "batch_size": 4},
        "network": {"widths": [8], "num_res_blocks": 1, "num_middle_res_blocks": 0, "attention": False},
        "train": {"epochs": 1, "samples": {"every": 0}},
    }
    (folder / "c.json").write_text(json.dumps(config))
    result = run("train", folder / "c.json", "--out", folder / "run", "--verbose", 2)
    assert result.exit_code == 0, result.output
    return folder / "run", result.output


@pytest.fixture
def unfinished(finished, tmp_path):
    """The same run before its model was written."""
    shutil.copytree(finished[0], tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "model")
    return tmp_path / "run"


def test_training_tells_what_it_takes(finished):
    for words in ("unet, ", " parameters (1 MB)", "in 2 classes: 0 china, 1 flower"):
        assert words in finished[1]
    assert ("Compiling the training step, about" in finished[1]) == (
        kd.models.diffusion_model.keras.backend.backend() != "torch"
    )


def test_runs_load_from_python_as_from_the_command_line(finished, unfinished):
    models = [kd.DiffusionModel.from_preset(folder) for folder in (finished[0], finished[0] / "model", unfinished)]
    models.append(kd.checkpoints.load(unfinished, verbose=0).diffusion_model())
    models.append(kd.checkpoints.load(finished[0], verbose=0).diffusion_model())
    assert all(model.class_names == ["china", "flower"] for model in models)
    weights = [model.average.network.get_weights() for model in models]
    for other in weights[1:]:
        for a, b in zip(weights[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_inspect_tells_of_runs(finished, unfinished):
    done, stopped = (kd.checkpoints.inspect(folder) for folder in (finished[0], unfinished))
    assert stopped.format == "unfinished run" and stopped.metadata["epochs"] == 1 and stopped.weights == ("ema", "raw")
    assert done.config["widths"] == stopped.config["widths"] == [8]
    result = run("inspect", unfinished)
    assert result.exit_code == 0 and "unfinished run" in result.output


def test_info_and_sample_by_name(unfinished, tmp_path):
    assert "0 china, 1 flower" in run("info", unfinished).output
    result = run("sample", unfinished, "--labels", "flower", "--steps", 1, "--seed", 0, "--out", tmp_path / "a.npz")
    assert result.exit_code == 0 and "Sampling 1 of flower from" in result.output


def test_a_run_without_a_state(unfinished):
    shutil.rmtree(unfinished / "state")
    for load in (kd.DiffusionModel.from_preset, kd.checkpoints.load, kd.checkpoints.inspect):
        with pytest.raises(FileNotFoundError, match="once a state of it was saved"):
            load(unfinished)
    assert kd.DiffusionModel.from_preset(unfinished, load_weights=False).class_names == ["china", "flower"]


@pytest.mark.parametrize(
    "name, text",
    [
        ("config.json", "{"),
        ("config.json", '{"network": 3, "model": {}, "dtype": "float32", "seed": 0}'),
        (
            "config.json",
            '{"network": {"name": "unet", "input_shape": [8, 8, 3], "widths": [8, 8, 8, 8, 8]}, "model": {}}',
        ),
        ("state/state.json", '{"epoch": 1, "weights": "../../x.h5"}'),
        ("state/state.json", "[" * 100_000),
    ],
)
def test_damaged_runs(unfinished, name, text):
    (unfinished / name).write_text(text)
    with pytest.raises(CheckpointError):
        kd.DiffusionModel.from_preset(unfinished)
    result = run("sample", unfinished, "--steps", 1)
    assert result.exit_code in (1, 2) and result.stderr.startswith("Error: ")
