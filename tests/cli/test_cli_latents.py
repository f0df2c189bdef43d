"""Packing latents by the command line, looking at them, and training on them."""

import json

import pytest
from command_line import run

import keras_diffusion as kd

pytestmark = pytest.mark.slow  # the same on all backends; tests/data/test_latent_packing.py runs on each


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """An autoencoder that has seen nothing; tests must not change it."""
    folder = tmp_path_factory.mktemp("presets") / "autoencoder"
    kd.keras.utils.set_random_seed(0)
    autoencoder = kd.networks.AutoencoderKL((4, 4), 1, latent_channels=2, attention=False, scale=1.0)
    kd.AutoencoderModel(autoencoder).save_to_preset(folder)
    return folder


@pytest.fixture(scope="module")
def packed(preset, tmp_path_factory):
    """Latents of the emoji, and what the command printed."""
    folder = tmp_path_factory.mktemp("packed") / "latents"
    result = run("data", "pack", "emoji", folder, "--image-size", 8, "--autoencoder", preset, "--flip")
    assert result.exit_code == 0, result.output
    return folder, result.output


def config_of(folder, preset, path, **sections):
    config = {
        "data": {"source": str(folder), "batch_size": 8, "batches_per_epoch": 2, "validation_fraction": 0.01},
        "autoencoder": {"run": str(preset)},
        "network": {"widths": [4], "num_res_blocks": 1, "attention": False},
        "train": {"epochs": 1, "samples": {"every": 0}},
        **sections,
    }
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    return path


def test_what_was_packed(packed, preset):
    folder, output = packed
    assert "1,892 latents in 2 tar files" in " ".join(output.split())
    shown = " ".join(run("data", "inspect", folder).output.split())
    for words in (
        "moments in float32",
        "640 bytes each, with those of the mirrored pictures",
        "8×8×3 pictures by Auto",
    ):
        assert words in shown
    assert "readable 1,892 of 1,892" in shown and "classes 9" in shown and "captions 1,892" in shown
    refused = run("data", "inspect", folder, "--out", folder / "sheet.png")
    assert refused.exit_code == 2 and "--out is for pictures" in refused.stderr
    again = run("data", "pack", "emoji", folder, "--autoencoder", preset)
    assert again.exit_code == 2 and "exists" in again.stderr


def test_training_on_latents(packed, preset, tmp_path):
    path = config_of(packed[0], preset, tmp_path / "latents.json")
    result = run("train", path, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    resolved = json.loads((tmp_path / "run" / "config.json").read_text())
    assert resolved["network"]["input_shape"] == [4, 4, 2] and resolved["network"]["num_classes"] == 9
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text())
    assert line["val_loss"] > 0
    again = run("train", "--resume", "--out", tmp_path / "run", "--set", "train.epochs=2")
    assert again.exit_code == 0, again.output
    # A model in whose latents a network was trained holds the autoencoder too.
    packs = run(
        "data", "pack", "emoji", tmp_path / "own", "--image-size", 8, "--autoencoder", tmp_path / "run", "--flip"
    )
    assert packs.exit_code == 0, packs.output
    assert (tmp_path / "own" / "latents.json").read_bytes() == (packed[0] / "latents.json").read_bytes()


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"autoencoder": None}, "no [autoencoder]"),
        ({"autoencoder": {"widths": [4]}, "network": None}, "an [autoencoder] that is trained"),
        ({"train": {"metrics": {"every": 1}}}, "Scores compare samples with pictures"),
    ],
)
def test_configurations_that_need_pictures(packed, preset, tmp_path, sections, message):
    path = config_of(packed[0], preset, tmp_path / "bad.json", **sections)
    result = run("train", path, "--out", tmp_path / "run")
    assert result.exit_code == 2 and message in result.stderr and not (tmp_path / "run").exists()


def test_latents_of_another_autoencoder(packed, tmp_path):
    kd.keras.utils.set_random_seed(1)
    autoencoder = kd.networks.AutoencoderKL((4, 4), 1, latent_channels=2, attention=False)
    kd.AutoencoderModel(autoencoder).save_to_preset(tmp_path / "other")
    path = config_of(packed[0], tmp_path / "other", tmp_path / "bad.json")
    result = run("train", path, "--out", tmp_path / "run")
    assert result.exit_code != 0 and "Packed latents are those of the model's autoencoder" in result.stderr


def test_what_is_no_autoencoder(tmp_path):
    (tmp_path / "file.txt").write_text("no checkpoint")
    for path, message in ((tmp_path / "nowhere", "does not exist"), (tmp_path / "file.txt", "--autoencoder")):
        result = run("data", "pack", "digits", tmp_path / "out", "--autoencoder", path)
        assert result.exit_code != 0 and message in result.stderr and not (tmp_path / "out").exists()
    model = kd.DiffusionModel(kd.networks.UNet((8, 8, 1), widths=(4,), num_res_blocks=1))
    model.save_to_preset(tmp_path / "pixels")
    result = run("data", "pack", "digits", tmp_path / "out", "--autoencoder", tmp_path / "pixels")
    assert result.exit_code == 2 and "a model without one" in result.stderr
