"""A run that is killed anywhere is continued or started anew, and ends as if nothing had happened.

Every third change of a run's folder is tried; `KERAS_DIFFUSION_KILLS=all pytest tests/cli/test_cli_kills.py` tries all.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys

import keras
import kills
import numpy as np
import pytest
from command_line import run
from keras import ops

from keras_diffusion.cli import building, training
from keras_diffusion.cli.run_folder import RunFolder
from keras_diffusion.runtime.files import write_whole
from keras_diffusion.runtime.locks import FolderLock, FolderLocked

STRIDE = 1 if os.environ.get("KERAS_DIFFUSION_KILLS") == "all" else 5


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return kills.write_config(tmp_path_factory.mktemp("config"))


@pytest.fixture
def one_model(monkeypatch):
    """Runs of this process share a model, and what was compiled for it; each begins with the weights that it would
    have.
    """
    build, kept = building.build_model, {}

    def build_once(config, **options):
        if not kept:
            model = kept["model"] = build(config)
            model.optimizer.build(model.trainable_variables)
            kept["values"] = [(v, ops.convert_to_numpy(v)) for v in (*model.variables, *model.optimizer.variables)]
        for variable, value in kept["values"]:
            variable.assign(value)
        return kept["model"]

    monkeypatch.setattr(building, "build_model", build_once)
    monkeypatch.setattr(training, "loss_curve", lambda metrics, path: write_whole(path, b"a picture, in no time"))


def dies(folder, at, *arguments):
    """Runs a command that is killed at a change of the folder. Returns whether it was."""
    with kills.Death(folder, at):
        try:
            result = run(*arguments)
        except kills.Killed:
            return True
    assert result.exit_code == 0, result.output
    return False


def succeeds(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.output


@pytest.fixture
def whole(config, tmp_path, one_model):
    """A run that nothing has stopped: (its folder, what it comes to, how often it changes its folder)."""
    folder = tmp_path / "whole"
    with kills.Death(folder) as count:
        succeeds("train", config, "--out", folder)
    assert not kills.leftovers(folder)
    return folder, kills.result_of(folder), count.changes


def assert_equal(folder, expected, where):
    assert not kills.differences(kills.result_of(folder), expected) and not kills.leftovers(folder), where


@pytest.mark.slow
def test_a_run_killed_at_any_change_of_its_folder_ends_equal(config, tmp_path, whole):
    assert whole[2] > 50
    for at in range(1, whole[2] + 1, STRIDE):
        folder = tmp_path / f"run-{at}"
        assert dies(folder, at, "train", config, "--out", folder), at
        succeeds(*kills.arguments_after(folder, config))
        assert_equal(folder, whole[1], at)


@pytest.mark.slow
def test_a_resumption_killed_at_any_change_ends_equal(config, tmp_path, whole):
    """Two steps from the end of what was saved, and twice."""
    at, more = min(2, STRIDE), True
    while more:
        folder = tmp_path / f"run-{at}"
        dies(folder, whole[2] // 2, "train", config, "--out", folder)
        more = dies(folder, at, "train", "--resume", "--out", folder)
        succeeds("train", "--resume", "--out", folder)
        assert_equal(folder, whole[1], at)
        at += STRIDE
    assert at > 15


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [["--overwrite"], ["--resume", "--set", f"train.epochs={kills.EPOCHS + 1}"]],
    ids=["overwrite", "longer"],
)
def test_a_finished_run_that_is_replaced_or_continued_and_killed(config, tmp_path, whole, arguments):
    given = [config] if arguments == ["--overwrite"] else []

    shutil.copytree(whole[0], tmp_path / "again")
    succeeds("train", *given, "--out", tmp_path / "again", *arguments)
    expected, at, more = kills.result_of(tmp_path / "again"), STRIDE, True
    while more:
        folder = tmp_path / f"run-{at}"
        shutil.copytree(whole[0], folder)
        more = dies(folder, at, "train", *given, "--out", folder, *arguments)
        succeeds("train", *given, "--out", folder, *arguments)
        assert_equal(folder, expected, at)
        at += STRIDE
    assert at > 15


def test_an_empty_start_is_no_run(config, tmp_path, one_model):
    """Between environment.json and config.json."""
    folder = tmp_path / "run"
    assert dies(folder, 8, "train", config, "--out", folder) and not RunFolder(folder).is_run
    result = run("train", "--resume", "--out", folder)
    assert result.exit_code == 2 and "in which none was started. Start it without --resume" in result.stderr
    succeeds("train", config, "--out", folder, "--set", "train.epochs=1")


@pytest.mark.slow
def test_a_folder_belongs_to_one_process(config, tmp_path):
    folder = tmp_path / "run"
    code = f"import sys; sys.path[:0] = {sys.path!r}\nfrom keras_diffusion.runtime.locks import FolderLock\n"
    code += f"FolderLock({str(folder)!r}).acquire(); print('held', flush=True); sys.stdin.read()"
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        result = run("train", config, "--out", folder)
        assert result.exit_code == 2 and f"is being trained in by process {holder.pid} on" in result.stderr
        with pytest.raises(FolderLocked, match=f"process {holder.pid}"):
            FolderLock(folder).acquire()
    finally:
        holder.kill()
        holder.communicate()
    assert (folder / ".lock").exists()
    with (
        FolderLock(folder),
        FolderLock(folder),
    ):  # what a killed process leaves locks nothing; one process may hold it twice
        pass
    assert not (folder / ".lock").exists()


def command(*arguments):
    return [sys.executable, "-m", "keras_diffusion", *map(str, arguments)]


@pytest.mark.slow
def test_processes_killed_at_random_moments(config, tmp_path):
    kills.finish(config, tmp_path / "whole")
    folder, rng = tmp_path / "run", random.Random(1)
    for _ in range(2):
        kills.kill_at_random(config, folder, rng, span=1.0)
    kills.finish(config, folder)
    assert_equal(folder, kills.result_of(tmp_path / "whole"), "random")


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "jax", reason="the end of the interpreter crashed on JAX")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_before_the_first_validation_ends_cleanly(tmp_path, number, code):
    images = np.random.default_rng(0).uniform(-1, 1, (32, 8, 8, 1)).astype("float32")
    np.savez(tmp_path / "images.npz", images=images)
    data = {"source": str(tmp_path / "images.npz"), "batch_size": 8, "validation_fraction": 0.5}
    network = {"widths": [8], "num_res_blocks": 1, "num_middle_res_blocks": 0, "attention": False}
    (tmp_path / "c.json").write_text(json.dumps({"data": data, "network": network, "train": {"samples": {"every": 0}}}))
    arguments = command("train", tmp_path / "c.json", "--out", tmp_path / "run", "--verbose", 1)
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    seen = b""
    while b"2/2" not in seen and (more := os.read(process.stdout.fileno(), 4096)):
        seen += more
    process.send_signal(number)
    rest = process.communicate()[0].decode()
    assert process.returncode == code, rest
    assert "Interrupted: " in rest and "are saved. Continue with:" in rest and "Traceback" not in rest


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="needs limits on the size of files")
def test_a_full_disk_ends_with_a_message(config, tmp_path):
    import resource

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    arguments = command(
        "train", config, "--out", tmp_path / "run", "--set", "network.width=64", "--set", "network.depth=3"
    )
    environment = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false"}
    done = subprocess.run(arguments, capture_output=True, text=True, preexec_fn=limit, env=environment)
    assert done.returncode == 1, done
    assert (
        "Could not write" in done.stderr
        and "the disk or a quota is full" in done.stderr
        and "Traceback" not in done.stderr
    )
    assert "keras-diffusion train --resume" in done.stderr and not kills.leftovers(tmp_path / "run")
