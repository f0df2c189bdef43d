import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from command_line import run

from keras_diffusion.cli.run_folder import RunFolder, default_folder

SMALL = {"widths": [8], "num_res_blocks": 1, "num_middle_res_blocks": 0, "attention": False}
SLIM = {"network": SMALL, "train": {"epochs": 2, "samples": {"every": 0}}}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Path of a configuration on 32 tiny images."""
    folder = tmp_path_factory.mktemp("config")
    rng = np.random.default_rng(0)
    np.savez(
        folder / "images.npz", images=rng.uniform(-1, 1, (32, 8, 8, 1)).astype("float32"), labels=np.arange(32) % 4
    )
    data = {"source": str(folder / "images.npz"), "batch_size": 16, "validation_fraction": 0.25}
    (folder / "tiny.json").write_text(json.dumps({"data": data, **SLIM}))
    return folder / "tiny.json"


@pytest.fixture(scope="module")
def trained(config):
    """A finished run of two epochs; tests must not change it."""
    folder = config.parent / "trained"
    pictures = [
        "--set",
        "train.samples.every=1",
        "--set",
        "train.samples.num_steps=2",
        "--set",
        "train.samples.per_label=2",
    ]
    result = run("train", config, "--out", folder, *pictures)
    assert result.exit_code == 0, result.output
    return folder, result.output


def lines(folder):
    return [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]


def weights(folder):
    """All arrays of the model in a run folder."""
    found = {}

    def collect(name, item):
        if isinstance(item, h5py.Dataset):
            found[name] = np.array(item)

    with h5py.File(Path(folder) / "model" / "model.weights.h5") as file:
        file.visititems(collect)
    return found


def test_run_folder_holds_everything(trained):
    folder, output = trained
    names = {path.name for path in folder.iterdir()}
    assert names == {"config.json", "environment.json", "metrics.jsonl", "samples", "state", "model", "loss.png"}
    assert sorted(p.name for p in (folder / "samples").iterdir()) == ["epoch-0001.png", "epoch-0002.png"]
    resolved = json.loads((folder / "config.json").read_text())
    assert (
        resolved["network"]["input_shape"] == [8, 8, 1]
        and resolved["network"]["num_classes"] == 4
        and resolved["seed"] == 0
    )
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["backend"] == keras.backend.backend() and environment["versions"]["keras"] == keras.__version__
    assert environment["devices"] and environment["command"].startswith("keras-diffusion")
    assert [line["epoch"] for line in lines(folder)] == [1, 2] and all("val_loss" in line for line in lines(folder))
    assert RunFolder(folder).finished and RunFolder(folder).epochs_done == 2
    for word in (
        "parameters",
        "24 samples of 8×8×1 in 4 classes, 8 held out",
        "2 epochs of 1 batches of 16",
        keras.backend.backend(),
    ):
        assert word in output
    assert f"keras-diffusion sample {folder}" in output


def test_info_tells_of_a_run(trained):
    result = run("info", trained[0])
    assert result.exit_code == 0
    for word in (
        "finished, 2 epochs",
        "UNet",
        "(8, 8, 1)",
        "4 classes",
        "CosineNoiseSchedule",
        "images.npz",
        "val_loss",
    ):
        assert word in result.output


def test_an_existing_folder_is_refused(trained, config, tmp_path):
    before = (trained[0] / "metrics.jsonl").read_bytes()
    result = run("train", config, "--out", trained[0])
    assert (
        result.exit_code == 2
        and "which is not empty; --resume continues it, --overwrite deletes it first" in result.stderr
    )
    assert (trained[0] / "metrics.jsonl").read_bytes() == before


def test_overwrite_deletes_runs_only(trained, config, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    result = run("train", config, "--out", tmp_path, "--overwrite")
    assert result.exit_code == 2 and "--overwrite only deletes folders made by `keras-diffusion train`" in result.stderr
    for name in ("config.json", "environment.json"):
        (tmp_path / name).write_bytes((trained[0] / name).read_bytes())
    result = run("train", config, "--out", tmp_path, "--overwrite")
    assert (
        result.exit_code == 2
        and "--overwrite does not delete what a run has not written" in result.stderr
        and "thesis.tex" in result.stderr
    )
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_mistake_deletes_nothing(trained, config, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("config.json", "environment.json", "metrics.jsonl"):
        (folder / name).write_bytes((trained[0] / name).read_bytes())
    result = run("train", config, "--out", folder, "--overwrite", "--set", "model.predictor=w")
    assert result.exit_code == 2 and "[model] Unknown predictor: 'w'" in result.stderr
    assert (folder / "metrics.jsonl").exists()


@pytest.mark.slow
def test_overwrite_and_repeat_from_config_json(trained, tmp_path):
    repeat = run("train", trained[0] / "config.json", "--out", tmp_path / "again", "--set", "train.samples.every=0")
    assert repeat.exit_code == 0, repeat.output
    first = weights(trained[0])
    assert all(np.array_equal(value, first[name]) for name, value in weights(tmp_path / "again").items()), (
        "the same numbers, again"
    )
    (tmp_path / "again" / "generated").mkdir()
    over = run(
        "train", trained[0] / "config.json", "--out", tmp_path / "again", "--overwrite", "--set", "train.epochs=1"
    )
    assert over.exit_code == 0, over.output
    assert len(lines(tmp_path / "again")) == 1 and not (tmp_path / "again" / "generated").exists()


@pytest.mark.slow
def test_resume_of_a_finished_run(trained, config, tmp_path):
    folder = tmp_path / "run"
    assert run("train", config, "--out", folder, "--set", "train.epochs=1").exit_code == 0
    nothing = run("train", "--resume", "--out", folder)
    assert (
        nothing.exit_code == 0
        and "Finished after 1 epochs" in nothing.output
        and "--set train.epochs=2" in nothing.output
    )
    more = run("train", folder, "--resume", "--set", "train.epochs=2")
    assert more.exit_code == 0, more.output
    assert [line["epoch"] for line in lines(folder)] == [1, 2] and RunFolder(folder).config["train"]["epochs"] == 2
    assert len(RunFolder(folder).environment["resumed"]) == 1
    whole = weights(trained[0])
    for name, value in weights(folder).items():
        np.testing.assert_array_equal(value, whole[name], err_msg=f"{name}: one epoch and one more are not two")
    fewer = run("train", "--resume", "--out", folder, "--set", "train.epochs=1")
    assert fewer.exit_code == 2 and "has finished 2 epochs. Received: train.epochs=1" in fewer.stderr


def test_resume_refuses_another_configuration(trained, config):
    given = run("train", config, "--resume", "--out", trained[0], "--set", "optimizer.learning_rate=0.1")
    own = run("train", "--resume", "--out", trained[0], "--set", "optimizer.learning_rate=0.1")
    for result in (given, own):
        assert (
            result.exit_code == 2
            and "only train.epochs may change. Received: optimizer.learning_rate: 0.0005 in the run" in result.stderr
        )
    assert "train.samples.every: 1 in the run, 0 now" in given.stderr and "train.samples" not in own.stderr


def test_resume_with_options_that_the_old_version_did_not_have(trained, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(trained[0], folder)
    config = json.loads((folder / "config.json").read_text())
    del config["network"]["dropout"]
    (folder / "config.json").write_text(json.dumps(config))
    result = run("train", "--resume", "--out", folder)
    assert result.exit_code == 0 and "Finished after 2 epochs" in result.output, result.output


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "`train` needs a configuration"),
        (["--resume"], "--resume needs the folder of the run"),
        (["--resume", "--overwrite", "--out", "x"], "Either --resume continues a run or --overwrite deletes it"),
        (
            ["--resume", "--out", "no-such-run"],
            "A run is a folder made by `keras-diffusion train`. Received: 'no-such-run', which does not exist",
        ),
        (["no-such.toml"], "which does not exist"),
    ],
)
def test_wrong_calls(arguments, message):
    result = run("train", *arguments)
    assert result.exit_code == 2 and message in result.stderr


@pytest.mark.parametrize(
    "assignment, message",
    [
        ("train.samples.labels=7", "classes of the model: 0 to 3. Received: class 7"),
        ("train.samples.sampler=eulr", "Unknown sampler: 'eulr'"),
    ],
)
def test_bad_pictures_are_an_error_before_training(config, tmp_path, assignment, message):
    result = run("train", config, "--out", tmp_path / "run", "--set", "train.samples.every=1", "--set", assignment)
    assert result.exit_code in (1, 2) and message in result.stderr and not (tmp_path / "run").exists()


def test_missing_pillow_is_an_error_before_training(config, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    result = run("train", config, "--out", tmp_path / "run", "--set", "train.samples.every=1")
    assert result.exit_code == 1 and "keras-diffusion[viz]" in result.stderr and not (tmp_path / "run").exists()


def test_a_loss_that_is_no_number_saves_nothing(config, tmp_path):
    folder = tmp_path / "run"
    sets = ["--set", "optimizer.name=sgd", "--set", "optimizer.learning_rate=1e30", "--set", "train.epochs=9"]
    result = run("train", config, "--out", folder, *sets)
    assert (
        result.exit_code == 1
        and "Training stopped in" in result.stderr
        and "Nothing was saved since it broke." in result.stderr
    )
    state = folder / "state" / "state.json"
    done = json.loads(state.read_text())["epoch"] if state.exists() else 0
    assert f"The state after epoch {done}" in result.stderr if done else "No epoch was finished" in result.stderr
    assert not (folder / "model").exists()


def test_default_folder_is_new_and_named_after_the_configuration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = default_folder("configs/flowers.toml")
    assert first.parent == Path("runs") and first.name.endswith("-flowers")
    first.mkdir(parents=True)
    assert default_folder("configs/flowers.toml").name == f"{first.name}-2"
    assert default_folder("runs/mine/config.json").name.endswith("-mine")


@pytest.mark.slow
def test_example_of_digits(tmp_path):
    pytest.importorskip("sklearn")
    example = Path(__file__).parents[2] / "examples" / "digits.toml"
    sets = ["data.batches_per_epoch=2", "network.widths=[8,16]", "network.attention=false"]
    sets += ["train.epochs=1", "train.samples.num_steps=2", "train.samples.per_label=1"]
    result = run(
        "train", example, "--out", tmp_path / "run", *(word for assignment in sets for word in ("--set", assignment))
    )
    assert result.exit_code == 0, result.output
    assert (tmp_path / "run" / "samples" / "epoch-0001.png").exists() and lines(tmp_path / "run")[0]["step"] == 2


def stopped_run(config, folder, signal_number, sets):
    """Starts a run in a process of its own and stops it after two epochs. Returns what it printed."""
    command = [sys.executable, "-m", "keras_diffusion", "train", config, *sets, "--out", folder]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.time() + 300
    while process.poll() is None and RunFolder(folder).epochs_done < 2 and time.time() < deadline:
        time.sleep(0.01)
    process.send_signal(signal_number)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + signal_number, output
    done = RunFolder(folder).epochs_done
    step = RunFolder(folder).step_done
    saved = f"{done} of 16 epochs" + (f" and {step} steps" if step else "") + " are saved"
    assert f"Interrupted: {saved}" in output and f"keras-diffusion train --resume --out {folder}" in output
    assert 2 <= done < 16 and not (folder / "model").exists()
    return output


@pytest.mark.slow
def test_interrupted_and_resumed_equals_uninterrupted(config, tmp_path, optimized):
    sets = ["--set", "train.epochs=16", "--set", "data.batches_per_epoch=10"]
    folder = tmp_path / "stopped"
    stopped_run(config, folder, signal.SIGINT, sets)
    assert "unfinished" in run("info", folder).output
    command = [sys.executable, "-m", "keras_diffusion", "train", "--resume", "--out", folder]
    resumed = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert resumed.returncode == 0, resumed.stderr
    whole = run("train", config, *sets, "--out", tmp_path / "whole")
    assert whole.exit_code == 0, whole.output
    expected = weights(tmp_path / "whole")
    assert len(expected) > 20
    for name, value in weights(folder).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
    assert [line["loss"] for line in lines(folder)] == [line["loss"] for line in lines(tmp_path / "whole")]
    assert [line["val_loss"] for line in lines(folder)] == [line["val_loss"] for line in lines(tmp_path / "whole")]


@pytest.mark.slow
def test_sigterm_leaves_a_run_to_resume(config, tmp_path):
    stopped_run(
        config, tmp_path / "stopped", signal.SIGTERM, ["--set", "train.epochs=16", "--set", "data.batches_per_epoch=10"]
    )


def test_resume_stays_on_the_backend_of_the_run(trained):
    code = "import os, sys; sys.argv = ['keras-diffusion']; from keras_diffusion.cli.invocation import choose_backend\n"
    code += f"choose_backend(None, {str(trained[0])!r}); print(os.environ['KERAS_BACKEND'])"
    other = {"KERAS_BACKEND": "torch" if keras.backend.backend() != "torch" else "jax", "PATH": "/usr/bin:/bin"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=other)
    assert result.stdout.strip() == keras.backend.backend(), result.stderr


@pytest.mark.slow
def test_known_channels_are_trained_on_and_drawn_with(tmp_path):
    images = np.random.default_rng(0).uniform(-1, 1, (32, 8, 8, 1)).astype("float32")
    np.savez(tmp_path / "pairs.npz", images=images, concat=images)
    data = {"source": str(tmp_path / "pairs.npz"), "batch_size": 16}
    samples = {"every": 1, "num_steps": 2, "num_samples": 2}
    (tmp_path / "pairs.json").write_text(
        json.dumps({"data": data, "network": SMALL, "train": {"epochs": 1, "samples": samples}})
    )
    result = run("train", tmp_path / "pairs.json", "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert list((tmp_path / "run" / "samples").iterdir())
    result = run("sample", tmp_path / "run", "-n", "2", "--steps", "2", "--out", tmp_path / "two.png")
    assert result.exit_code == 0 and "left out here: zeros" in " ".join(result.output.split()), result.output
