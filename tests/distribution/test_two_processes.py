"""`keras-diffusion train --distributed`: two processes on one machine, one of them killed, both started again."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from typer.testing import CliRunner

from keras_diffusion.cli.app import app
from keras_diffusion.cli.run_folder import RunFolder

pytestmark = pytest.mark.slow

EPOCHS = 6
CONFIG = {
    "data": {"batch_size": 8, "validation_fraction": 0.25},
    "network": {"name": "dit", "patch_size": 2, "emb_features": 16, "num_layers": 1, "num_heads": 2},
    "optimizer": {"name": "adam", "learning_rate": 1e-3},
    "train": {"epochs": EPOCHS, "samples": {"every": 1, "num_steps": 3, "per_label": 1}},
}


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def start(folder, *arguments):
    """Two processes with a device each, which find each other on a free port."""
    common = [
        "--distributed",
        "--coordinator",
        f"127.0.0.1:{free_port()}",
        "--num-processes",
        "2",
        "--out",
        folder / "run",
    ]
    environment = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "XLA_FLAGS": "",
        "COLUMNS": "400",
        "JAX_HEARTBEAT_TIMEOUT_SECONDS": "60",
    }
    environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    processes = []
    for number in range(2):
        command = [sys.executable, "-m", "keras_diffusion", "train", *arguments, *common, "--process-id", number]
        with open(folder / f"out-{number}.txt", "w") as file:
            processes.append(
                subprocess.Popen(list(map(str, command)), env=environment, stdout=file, stderr=subprocess.STDOUT)
            )
    return processes


def finish(processes, timeout):
    try:
        return [process.wait(timeout) for process in processes]
    finally:
        for process in processes:
            process.kill()


def metrics(run):
    return [json.loads(line) for line in run.metrics.read_text().splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two runs of one configuration: "alone", in one process; and "run", in two, of which one was killed, and then in
    two again.
    """
    folder = tmp_path_factory.mktemp("processes")
    rng = np.random.default_rng(0)
    np.savez(
        folder / "images.npz", images=rng.uniform(-1, 1, (32, 4, 4, 1)).astype("float32"), labels=np.arange(32) % 2
    )
    config = {**CONFIG, "data": {"source": str(folder / "images.npz"), **CONFIG["data"]}}
    (folder / "config.json").write_text(json.dumps(config))

    processes, run = start(folder, folder / "config.json"), RunFolder(folder / "run")
    deadline = time.time() + 200
    while run.epochs_done < 2 and processes[1].poll() is None and time.time() < deadline:
        time.sleep(0.01)
    processes[1].send_signal(signal.SIGKILL)
    before = len(run.metrics.read_text().splitlines()) if run.metrics.exists() else 0
    killed = time.time()
    codes = finish(processes, timeout=120)
    record = {"codes": codes, "seconds": time.time() - killed, "saved": run.epochs_done, "seen": before}
    record["text"] = (folder / "out-0.txt").read_text()
    record["second codes"] = finish(start(folder, "--resume", "--devices", "data=1,model=2"), timeout=200)
    record["second text"] = [(folder / f"out-{number}.txt").read_text() for number in range(2)]
    (folder / "record.json").write_text(json.dumps(record))

    alone = CliRunner(env={"COLUMNS": "400"}).invoke(
        app, ["train", str(folder / "config.json"), "--out", str(folder / "alone")]
    )
    assert alone.exit_code == 0, alone.output
    return folder


@pytest.fixture
def record(folder):
    return json.loads((folder / "record.json").read_text())


def test_the_survivor_ends_with_an_error(record):
    assert record["codes"][1] == -signal.SIGKILL and record["codes"][0] not in (0, None), record["text"]
    assert record["seconds"] < 60, "it waited for the lost process"
    assert "Traceback" not in record["text"]


def test_resuming_loses_no_saved_epoch(folder, record):
    assert 2 <= record["saved"] < EPOCHS and record["saved"] >= record["seen"] - 1
    assert record["second codes"] == [0, 0], record["second text"]
    run = RunFolder(folder / "run")
    assert run.finished and [row["epoch"] for row in metrics(run)] == list(range(1, EPOCHS + 1))
    assert f"{EPOCHS} epochs of 3 batches of 8, {record['saved']} of them done" in record["second text"][0]


def test_losses_are_those_of_one_process(folder):
    """Two devices that share the batch up to the kill, then two that share the weights."""
    for ours, alone in zip(metrics(RunFolder(folder / "run")), metrics(RunFolder(folder / "alone")), strict=True):
        assert ours["step"] == alone["step"]
        for key in ("loss", "val_loss"):
            assert abs(ours[key] - alone[key]) < 1e-5, (ours["epoch"], key)


def test_one_process_writes_and_speaks(folder, record):
    assert "Epoch" in record["second text"][0] and not any(
        word in record["second text"][1] for word in ("Epoch", "loss", "Finished")
    )
    assert "SplitWeights: batch 1, model 2, 2 processes" in record["second text"][0]
    run = RunFolder(folder / "run")
    assert len(list(run.samples.glob("*.png"))) == EPOCHS and (run.model / "model.weights.h5").is_file()
    assert run.environment["distribution"] == "DataParallel: batch 2, 2 processes"


def test_pictures_are_those_of_one_process(folder):
    """The last ones: of nearly the same weights, the pixels differ by a rounding at most."""
    from PIL import Image

    ours, alone = (
        np.asarray(Image.open(RunFolder(folder / name).samples / "epoch-0006.png"), int) for name in ("run", "alone")
    )
    assert np.abs(ours - alone).max() <= 1
