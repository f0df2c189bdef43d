"""Training an autoencoder, and a diffusion model in its latents, by the command line."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from command_line import run
from keras import ops

import keras_diffusion as kd

EXAMPLES = Path(__file__).parents[2] / "examples"
TINY = {
    "autoencoder.toml": ["autoencoder.widths=[8,8]", "train.samples.num_samples=3"],
    "latent.toml": ["network.widths=[8,8]", "network.attention=false", "train.samples.num_steps=2"],
}


def train(example, folder, *words):
    """The command for an example of the package, made tiny."""
    sets = [*TINY[example], "data.batches_per_epoch=2", "data.batch_size=4", "train.epochs=1", *words]
    sets.append('data.validation={"split":"validation","batches_per_epoch":2}')
    return run("train", EXAMPLES / example, "--out", folder, *(word for pair in sets for word in ("--set", pair)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run of an autoencoder; tests must not change it."""
    folder = tmp_path_factory.mktemp("runs") / "autoencoder"
    result = train("autoencoder.toml", folder)
    assert result.exit_code == 0, result.output
    return folder, result.output


def test_the_run_of_an_autoencoder(trained):
    folder, output = trained
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "metrics.jsonl", "samples", "state", "model", "loss.png"} <= names
    assert (folder / "samples" / "epoch-0001.png").is_file()
    resolved = json.loads((folder / "config.json").read_text())
    assert resolved["autoencoder"]["latent_channels"] == 3 and "network" not in resolved
    for words in ("H/2 × W/2 × 3: 4 times fewer", "1·l1_loss", "standard deviation"):
        assert words in output
    model = kd.AutoencoderModel.from_preset(folder)
    train_data = kd.data.load("shapes", image_size=32, batch_size=4, seed=0, batches_per_epoch=2)
    latents = [ops.convert_to_numpy(model.averaged_autoencoder().encode(train_data[i]["images"])) for i in range(2)]
    assert np.std(latents) == pytest.approx(1.0, rel=0.5)  # of other pictures than it was measured on
    shown = run("info", folder).output
    assert "an autoencoder" in shown and "AutoencoderKL" in shown and "scale" in shown


def test_a_finished_run_of_an_autoencoder_is_continued(trained, tmp_path):
    import shutil

    folder = tmp_path / "autoencoder"
    shutil.copytree(trained[0], folder)
    result = run("train", "--resume", "--out", folder, "--set", "train.epochs=2")
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2] and {"psnr", "val_psnr", "kl", "val_ssim"} <= set(lines[1])


@pytest.mark.slow
def test_latent_diffusion_end_to_end(trained, tmp_path):
    folder = tmp_path / "latent"
    result = train("latent.toml", folder, f"autoencoder.run={trained[0]}")
    assert result.exit_code == 0, result.output
    resolved = json.loads((folder / "config.json").read_text())
    assert resolved["network"]["input_shape"] == [16, 16, 3] and resolved["autoencoder"]["run"] == str(trained[0])
    assert (folder / "samples" / "epoch-0001.png").is_file()
    model, own = kd.DiffusionModel.from_preset(folder), kd.AutoencoderModel.from_preset(trained[0])
    for a, b in zip(model.autoencoder.weights, own.averaged_autoencoder().weights, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(a), ops.convert_to_numpy(b))  # it is not trained
    assert model.autoencoder.scale == own.autoencoder.scale != 1.0
    again = run("train", "--resume", "--out", folder, "--set", "train.epochs=2")
    assert again.exit_code == 0, again.output
    sampled = run("sample", folder, "--num-samples", 2, "--steps", 2, "--out", tmp_path / "grid.png")
    assert sampled.exit_code == 0 and (tmp_path / "grid.png").is_file(), sampled.output


@pytest.mark.slow
def test_training_against_a_discriminator_is_resumed(tmp_path):
    folder, words = tmp_path / "run", {"name": "patch", "widths": [4]}
    sets = [f"model.discriminator={json.dumps(words)}", "model.discriminator_start=1"]
    sets.append('model.discriminator_optimizer={"name": "adam", "learning_rate": 1e-3}')
    result = train("autoencoder.toml", folder, *sets)
    assert result.exit_code == 0 and "PatchDiscriminator" in result.output, result.output
    again = run("train", "--resume", "--out", folder, "--set", "train.epochs=2")
    assert again.exit_code == 0, again.output
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    assert {"discriminator_loss", "adaptive_weight", "val_generator_loss"} <= set(lines[1])
    assert kd.AutoencoderModel.from_preset(folder).adversary is None


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"autoencoder": {"widths": [8]}, "network": {"widths": [8]}}, "in place of [network]"),
        ({"autoencoder": {"width": [8]}}, "Did you mean 'widths'?"),
        ({"autoencoder": {"channels": 1}}, "The pictures have 3 channels"),
        ({"autoencoder": {"run": "nowhere"}}, "nowhere"),
        ({"autoencoder": {}, "train": {"metrics": {"num_steps": 9}}}, "[train.metrics] with num_steps"),
        ({"autoencoder": {}, "train": {"metrics": 5}}, "[train.metrics] is a table"),
        ({"autoencoder": {}, "train": {"metrics": {"every": 1, "best": "fd"}}}, "one of those measured: mind"),
        ({"autoencoder": {}, "model": {"predictor": "v"}}, "Unknown key 'predictor' in [model]"),
        ({"autoencoder": {}, "model": {"reconstruction": "l3"}}, "`reconstruction` is one of l1, l2, ssim"),
        ({"autoencoder": {}, "model": {"discriminator": "patches"}}, "Unknown discriminator"),
    ],
)
def test_bad_configurations(table, message, tmp_path):
    (tmp_path / "bad.json").write_text(json.dumps({"data": {"source": "shapes", "image_size": 16}, **table}))
    result = run("train", tmp_path / "bad.json", "--out", tmp_path / "run")
    assert result.exit_code in (1, 2) and message in result.stderr and not (tmp_path / "run").exists()


def test_models_of_the_other_kind_are_refused(trained):
    with pytest.raises(ValueError, match="holds a AutoencoderModel, not a DiffusionModel"):
        kd.DiffusionModel.from_preset(trained[0])
    result = run("sample", trained[0])
    assert result.exit_code != 0 and "AutoencoderModel" in result.stderr


def test_pictures_must_fit_the_autoencoder(trained, tmp_path):
    result = train("latent.toml", tmp_path / "run", f"autoencoder.run={trained[0]}", "data.image_size=17")
    assert result.exit_code in (1, 2) and "multiples of 2" in result.stderr
    assert keras.backend.backend() in ("jax", "tensorflow", "torch")


@pytest.mark.slow
def test_reconstructions_are_measured_while_training_and_afterwards(tmp_path):
    folder, scores = tmp_path / "run", {"every": 1, "names": ["mind"], "num_samples": 8, "best": "mind"}
    result = train("autoencoder.toml", folder, f"train.metrics={json.dumps(scores)}")
    assert result.exit_code == 0, result.output
    (line,) = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    best = json.loads((folder / "best.json").read_text())
    assert line["mind"] == best["results"]["mind"]["value"] > 0 and best["results"]["mind"]["made"] == "reconstructed"

    words = ["-n", 8, "--metrics", "mind", "--out", tmp_path / "scores"]
    result = run("evaluate", folder, "--compare", folder / "best", *words)
    assert result.exit_code == 0, result.output
    for text in ("held out of the run, 1,000 samples", "8 reconstructed against 8 real", "PSNR, dB", "SSIM"):
        assert text in result.output
    found = json.loads((tmp_path / "scores" / "metrics.json").read_text())
    assert found["models"]["best"]["mind"]["value"] == pytest.approx(line["mind"], rel=1e-4)
    psnr = found["pairs"]["run"]["psnr"]
    assert psnr["n"] == 8 and psnr["value"] == pytest.approx(line["val_psnr"], abs=2.0), "of other pictures"
    page = (tmp_path / "scores" / "evaluation.html").read_text()
    assert page.count("data:image/png;base64,") == 6 and "originals above reconstructions" in page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--steps", 9], "without --steps"),
        (["--guidance-scale", 2, "--sampler", "ddim"], "without --sampler, --guidance-scale"),
        (["--metrics", "fd", "-n", 8], "at least"),
        (["--compare", "nowhere"], "holds no AutoencoderModel"),
    ],
)
def test_bad_options_of_scores_of_an_autoencoder(trained, words, message):
    result = run("evaluate", trained[0], *words)
    assert result.exit_code == 2 and message in result.output and "Traceback" not in result.output
