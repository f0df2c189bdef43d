"""`keras-diffusion inspect`, `convert` and `export`, on checkpoints of older systems."""

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import run

import keras_diffusion as kd

DIT = Path(__file__).parents[1] / "golden" / "diffusers" / "dit" / "model"
DDIM = Path(__file__).parents[2] / "legacy_tf" / "checkpoints" / "ddim" / "tf_checkpoint"


def test_inspect_shows_the_family_and_the_tensors():
    result = run("inspect", DDIM, "--match", "normalizer")
    assert result.exit_code == 0
    assert "keras_ddim" in result.stdout and "TensorFlow checkpoint" in result.stdout and "ema, raw" in result.stdout
    assert "normalizer/mean" in result.stdout and "ema_network/layer_with_weights-0" not in result.stdout


def test_inspect_as_json():
    value = json.loads(run("inspect", DDIM, "--json", "--config", '{"size": 8}').stdout)
    assert value["family"] == "keras_ddim" and value["config"]["input_shape"] == [8, 8, 1]
    expected = kd.checkpoints.inspect(DDIM).tensors
    assert {name: tuple(info["shape"]) for name, info in value["tensors"].items()} == {
        name: info.shape for name, info in expected.items()
    }


def test_convert_writes_a_preset_that_samples(tmp_path):
    about = tmp_path / "about.json"
    about.write_text(json.dumps({"network": "DDIM", "config": {"size": 8}}))
    result = run("convert", DDIM, tmp_path / "preset", "--weights", "raw", "--config", about)
    assert result.exit_code == 0, result.stderr
    assert "raw weights of a keras_ddim" in result.stdout and "keras-diffusion sample" in result.stdout
    model = kd.DiffusionModel.from_preset(tmp_path / "preset")
    expected = kd.checkpoints.load(DDIM, weights="raw", config={"size": 8}, verbose=0).diffusion_model()
    options = {"num_samples": 2, "num_steps": 2, "sampler": "ddim", "seed": 0}
    np.testing.assert_array_equal(model.generate(**options), expected.generate(**options))
    report = json.loads((tmp_path / "preset" / "conversion.json").read_text())
    assert report["weights"] == "raw" and report["missing"] == [] and report["config"]["input_shape"] == [8, 8, 1]
    again = run("convert", DDIM, tmp_path / "preset")
    assert again.exit_code == 1 and "Set --overwrite" in again.stderr


def test_export_writes_back_what_was_converted(tmp_path):
    assert run("convert", DIT, tmp_path / "preset").exit_code == 0
    result = run("export", tmp_path / "preset", tmp_path / "folder")
    assert result.exit_code == 0 and "a folder of diffusers" in result.stdout
    name = "diffusion_pytorch_model.safetensors"
    written = kd.checkpoints.open_container(tmp_path / "folder" / "transformer" / name)
    original = kd.checkpoints.open_container(DIT / name)
    assert set(written.tensors) == set(original.tensors)
    for tensor in original.tensors:
        np.testing.assert_array_equal(written.read(tensor), original.read(tensor))
    again = run("export", tmp_path / "preset", tmp_path / "folder")
    assert again.exit_code == 1 and "Set --overwrite" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("inspect", "no-such-file"), 1, "There is no checkpoint at 'no-such-file'"),
        (("inspect", __file__), 1, "Not a checkpoint of a known kind"),
        (("inspect", DDIM, "--config", "{"), 2, "--config is JSON"),
        (("inspect", DDIM, "--config", "no.json"), 2, "which does not exist"),
        (("export", DDIM, "unused", "--config", '{"size": 8}'), 1, "diffusers has no network like this"),
        (
            ("convert", DDIM, "unused", "--weights", "best"),
            1,
            "`--weights` must be one of 'ema', 'raw'. Received: --weights best",
        ),
        (("convert", DDIM, "unused", "--config", '{"widths": [1, 2]}'), 1, "follows from the shapes of the weights"),
    ],
)
def test_errors_are_one_line(arguments, code, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == code and message in result.stderr and result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
