"""`[text]` in a configuration, and `--prompt`: a run that learns from captions."""

import json
import shutil

import numpy as np
import pytest
from command_line import run
from PIL import Image

import keras_diffusion as kd
from keras_diffusion.callbacks import SampleGrid

CONFIG = {
    "data": {"source": "shapes", "image_size": 16, "batch_size": 4, "batches_per_epoch": 2, "validation": False},
    "text": {"width": 8, "depth": 1, "num_heads": 2},
    "network": {"name": "unet", "widths": [8], "num_res_blocks": 1, "norm_groups": 4},
    "train": {"epochs": 1, "samples": {"every": 1, "num_steps": 1, "prompts": ["a red circle", "a blue star"]}},
}
pytestmark = pytest.mark.slow  # what trains is tested on all backends in tests/models


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("words")
    (folder / "c.json").write_text(json.dumps(CONFIG))
    result = run("train", folder / "c.json", "--out", folder / "run")
    assert result.exit_code == 0, result.output
    assert "19 words" in result.output and '--prompt "…"' in result.output
    return folder / "run"


def test_the_run_holds_words_encoder_and_pictures(trained):
    config = json.loads((trained / "config.json").read_text())
    assert config["text"]["tokenizer"]["config"]["words"][:3] == ["a", "above", "below"]
    assert config["network"]["context_dim"] == 8 and config["network"]["num_classes"] is None
    assert config["data"]["captions"] is True
    with Image.open(trained / "samples" / "epoch-0001.png") as picture:
        assert picture.size[1] > 70, "captions below the pictures"
    model = kd.DiffusionModel.from_preset(trained)
    assert isinstance(model, kd.models.TextToImage) and model.train_text_encoder


def test_prompts_become_pictures(trained, tmp_path):
    (tmp_path / "prompts.txt").write_text("a red circle\n\na pink star\n")
    options = ["--steps", 1, "--seed", 0, "-g", 2, "--out"]
    asked = {
        "a": ["--prompt", "a red circle", "--prompt", "a pink star"],
        "b": ["--prompts-file", tmp_path / "prompts.txt"],
    }
    for name, given in asked.items():
        result = run("sample", trained, *given, *options, tmp_path / f"{name}.npz")
        assert result.exit_code == 0, result.output
        assert "never seen: pink" in result.output
    a, b = (np.load(tmp_path / f"{name}.npz") for name in "ab")
    assert a["captions"].tolist() == ["a red circle", "a pink star"]
    np.testing.assert_array_equal(a["images"], b["images"])
    result = run("sample", trained, "--prompt", "a star", "-n", 3, *options, tmp_path / "c.png")
    assert result.exit_code == 0, result.output
    assert Image.open(tmp_path / "c.png").size[0] > 100


def test_it_goes_on_and_an_unfinished_run_draws(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    result = run("train", "--resume", "--out", tmp_path / "run", "--set", "train.epochs=2")
    assert result.exit_code == 0, result.output
    options = {"num_steps": 2, "seed": 0}
    first, finished = (kd.DiffusionModel.from_preset(folder) for folder in (trained, tmp_path / "run"))
    images = finished.text_to_image("a red circle", **options)
    assert np.abs(images - first.text_to_image("a red circle", **options)).max() > 0
    shutil.rmtree(tmp_path / "run" / "model")
    state = kd.DiffusionModel.from_preset(tmp_path / "run")
    np.testing.assert_allclose(state.text_to_image("a red circle", **options), images, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "draws what it is told. Received: no --prompt"),
        (["--prompt", "a star", "--labels", "0"], "takes the place of --labels"),
        (["--prompt", "a star", "--prompts-file", "x.txt"], "Received both"),
        (["--prompts-file", "x.txt"], "x.txt"),
        (["--prompt", "a " * 30], "at most 9 words"),
    ],
)
def test_bad_prompts(trained, options, message):
    result = run("sample", trained, *options)
    assert result.exit_code and message in result.stderr.replace("\n", " ") and "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["text.encoder=clip"], "text.encoder='clip'"),
        (["text.width=7"], "must divide"),
        (["text.widht=7"], "Unknown key 'widht' in [text]"),
        (["data.source=digits", "data.captions=false"], "texts with words"),
        (["text.trainable=3"], "text.trainable=3"),
        (["text.max_length=1000000000"], "config_number"),
        (["text.max_length=1000000", "text.width=100000"], "weights"),
        (['text={"encoder": {"class_name": "Lambda"}}'], "makes only classes of this library"),
        (['text={"encoder": {}, "tokenizer": {}, "trainable": true}'], "with a `width`"),
        (["train.samples.prompts=a star"], "is a list of texts"),
        (["text.cache=contexts"], "trainable = false"),
        (["text.learning_rate_factor=-1"], "> 0"),
    ],
)
def test_bad_sections(tmp_path, sets, message):
    (tmp_path / "c.json").write_text(json.dumps(CONFIG))
    result = run("train", tmp_path / "c.json", "--out", tmp_path / "run", *(x for s in sets for x in ("--set", s)))
    assert result.exit_code == 2 and message in result.stderr.replace("\n", " "), result.stderr
    assert not (tmp_path / "run").exists()


def test_prompts_need_a_model_of_words():
    with pytest.raises(ValueError, match="in place of num_samples and conditions"):
        SampleGrid("x", num_samples=2, prompts=["a"])
    with pytest.raises(ValueError, match="`prompts` is a list of texts"):
        SampleGrid("x", prompts="a star")
