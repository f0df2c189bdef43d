"""`[text]` in a configuration, and `--prompt`: a run that learns from captions."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import run
from PIL import Image

import keras_diffusion as kd
from keras_diffusion.callbacks import SampleGrid

GOLDEN = Path(__file__).parents[1] / "golden"
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


@pytest.fixture
def t5(tmp_path):
    """A folder of transformers: T5 with tiny random weights, and a tokenizer.json of twelve words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    shutil.copytree(GOLDEN / "t5", tmp_path / "t5", ignore=shutil.ignore_patterns("io.npz", "*.py"))
    words = ["<pad>", "</s>", "<unk>", "a", "small", "large", "red", "blue", "circle", "square", "left", "of"]
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    (tmp_path / "t5" / "tokenizer.json").write_text(made.to_str())
    return tmp_path / "t5"


def text_section(tmp_path, **text):
    """The path of a configuration with that [text]."""
    (tmp_path / "c.json").write_text(json.dumps({**CONFIG, "text": text}))
    return tmp_path / "c.json"


def test_an_encoder_of_a_folder_knows_its_words_already(t5, tmp_path):
    config = text_section(tmp_path, encoder=str(t5), max_length=12, cache=str(tmp_path / "contexts"))
    result = run("train", config, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    resolved = json.loads((tmp_path / "run" / "config.json").read_text())
    assert resolved["network"]["context_dim"] == 8 and resolved["text"]["trainable"] is False
    model = kd.DiffusionModel.from_preset(tmp_path / "run")
    expected = kd.checkpoints.load(t5, verbose=0).network
    for found, own in zip(model.text_encoder.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(found, own)
    assert model.tokenizer("a red circle").tolist() == [[3, 6, 8, 1, *[0] * 8]]

    shutil.rmtree(t5)  # a run that goes on has all that it needs
    again = run("train", "--resume", "--out", tmp_path / "run", "--set", "train.epochs=2")
    assert again.exit_code == 0, again.output
    drawn = run("sample", tmp_path / "run", "--prompt", "a red circle", "--steps", 1, "--out", tmp_path / "x.png")
    assert drawn.exit_code == 0 and (tmp_path / "x.png").is_file(), drawn.output


def test_clips_encoder_of_a_folder(t5, tmp_path):
    clip = kd.text.CLIPTextEncoder(vocabulary_size=12, width=8, depth=1, num_heads=2, max_length=16)
    clip(np.zeros((1, 16), "int32"))
    kd.checkpoints.export(clip, tmp_path / "clip")
    config = text_section(tmp_path, encoder=str(tmp_path / "clip"), tokenizer=str(t5))
    result = run("train", config, "--out", tmp_path / "run")
    assert result.exit_code == 0 and "12 tokens" in result.output, result.output
    model = kd.DiffusionModel.from_preset(tmp_path / "run")
    assert isinstance(model.text_encoder, kd.text.CLIPTextEncoder) and model.tokenizer.max_length == 16
    for found, own in zip(model.text_encoder.get_weights(), clip.get_weights(), strict=True):
        np.testing.assert_array_equal(found, own)


def test_an_encoder_of_a_folder_may_be_trained(t5, tmp_path):
    config = text_section(tmp_path, encoder=str(t5), tokenizer=str(t5 / "tokenizer.json"), trainable=True)
    result = run("train", config, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    model, before = kd.DiffusionModel.from_preset(tmp_path / "run"), kd.checkpoints.load(t5, verbose=0).network
    moved = [np.abs(a - b).max() for a, b in zip(model.text_encoder.get_weights(), before.get_weights(), strict=True)]
    assert 0 < max(moved) < 0.1 and model.tokenizer.max_length == 77


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ({"width": 8}, "with width. Leave that out"),
        ({"tokenizer": "nowhere"}, "text.tokenizer='nowhere', which does not exist"),
        ({"max_length": 0}, "max_length"),
        ({"encoder": "keras2"}, "which does not exist"),
        ({"encoder": "small", "tokenizer": "t5"}, "goes with an encoder of a folder"),
        ({"encoder": 3}, "text.encoder=3"),
    ],
)
def test_bad_encoders_of_folders(t5, tmp_path, text, message):
    config = text_section(tmp_path, **{"encoder": str(t5), **text})
    result = run("train", config, "--out", tmp_path / "run")
    assert result.exit_code == 2 and message in result.stderr.replace("\n", " "), result.stderr
    assert not (tmp_path / "run").exists()


def test_a_tokenizer_of_another_encoder_is_refused(t5, tmp_path):
    config = text_section(tmp_path, encoder=str(t5))
    (t5 / "tokenizer.json").unlink()
    result = run("train", config, "--out", tmp_path / "run")
    assert result.exit_code == 2 and "needs its tokenizer.json" in result.stderr.replace("\n", " ")
    from tokenizers import Tokenizer, models

    Tokenizer(models.WordLevel({**{str(i): i for i in range(40)}, "<pad>": 40})).save(str(t5 / "tokenizer.json"))
    result = run("train", config, "--out", tmp_path / "run")
    assert result.exit_code == 2 and "they do not belong together" in result.stderr.replace("\n", " ")


def test_prompts_need_a_model_of_words():
    with pytest.raises(ValueError, match="in place of num_samples and conditions"):
        SampleGrid("x", num_samples=2, prompts=["a"])
    with pytest.raises(ValueError, match="`prompts` is a list of texts"):
        SampleGrid("x", prompts="a star")
