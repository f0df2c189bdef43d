"""Runs that are killed, and what becomes of them: continued or started anew, they have to end as if nothing had
happened.

    python tests/kills.py --kills 30        processes killed at random moments (SIGKILL), some of them several times

tests/cli/test_cli_kills.py does a little of that, and stops at every change of the folder, within its own process.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

from keras_diffusion.cli.run_folder import RunFolder

EPOCHS, STEPS = 2, 5
CONFIG = {
    "data": {"batch_size": 4, "validation_fraction": 0.25, "batches_per_epoch": STEPS},
    "network": {"name": "mlp", "width": 8, "depth": 1},
    "train": {"epochs": EPOCHS, "save_every": "3 steps", "samples": {"every": 0}},
}


class Killed(BaseException):
    """The end of a process."""


class Death:
    """Within its `with` block, the k-th change of a folder is not made, and no later one either: as if the process had
    been killed.

    Files that libraries in C open are seen when they are renamed.

    Args:
        folder: path.
        at: k, from 1; None only counts.

    Attributes:
        changes: number of changes so far.
    """

    _living = None
    _hooked = False

    def __init__(self, folder, at=None):
        self.folder, self.at, self.changes = str(folder), at, 0

    def __enter__(self):
        if not Death._hooked:
            sys.addaudithook(_look)  # there is no way to remove one
            Death._hooked = True
        Death._living = self
        return self

    def __exit__(self, *error):
        Death._living = None

    def seen(self, event, args):
        if event == "open":
            path, _, flags = args
            changes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        else:
            path, changes = (
                args[0] if args else "",
                event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"),
            )
        if changes and str(path).startswith(self.folder):
            self.changes += 1
            if self.at is not None and self.changes >= self.at:
                raise Killed(f"{event} {path}")


def _look(event, args):
    if Death._living is not None:
        Death._living.seen(event, args)


def write_config(folder):
    """A configuration of a run of a second, in `folder`; returns its path."""
    rng = np.random.default_rng(0)
    np.savez(folder / "points.npz", images=rng.uniform(-1, 1, (32, 3)).astype("float32"), labels=np.arange(32) % 2)
    config = {**CONFIG, "data": {"source": str(folder / "points.npz"), **CONFIG["data"]}}
    (folder / "points.json").write_text(json.dumps(config))
    return folder / "points.json"


def result_of(folder):
    """What has to be equal, of a finished run: all arrays of its model and state, and its metrics but for the times."""
    run, found = RunFolder(folder), {}

    def collect(name, item):
        if isinstance(item, h5py.Dataset):
            found[name] = np.array(item)

    for path in (run.model / "model.weights.h5", *run.state.glob("*.h5")):
        with h5py.File(path) as file:
            file.visititems(lambda name, item, path=path: collect(f"{path.name}/{name}", item))
    rows = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    found["metrics"] = [{key: value for key, value in row.items() if key not in ("time", "seconds")} for row in rows]
    return found


def differences(found, expected):
    """Names of what differs."""
    names = {*found, *expected}
    return sorted(
        name for name in names if name not in found or name not in expected or not _equal(found[name], expected[name])
    )


def _equal(a, b):
    return a == b if isinstance(a, list) else np.array_equal(a, b)


def leftovers(folder):
    """Hidden files in a run folder, its state and its pictures."""
    places = (Path(folder), Path(folder) / "state", Path(folder) / "samples")
    return sorted(path.name for place in places if place.is_dir() for path in place.glob(".*"))


def arguments_after(folder, config):
    """How to go on: --resume where there is a run, else the first command again."""
    return ["train", "--resume", "--out", folder] if RunFolder(folder).is_run else ["train", config, "--out", folder]


# Processes that are killed --------------------------------------------------------------------------------------------


def start(arguments, environment=None):
    """A process of the command line; its output goes nowhere."""
    command = [sys.executable, "-m", "keras_diffusion", *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def kill_at_random(config, folder, rng, span):
    """Starts a run or continues it, and kills it after up to `span` seconds from its first change of the folder, or of
    the state in it.

    Returns what was there.
    """
    watched = Path(folder) / rng.choice((".", "state", "state"))
    process, before = start(arguments_after(folder, config)), _newest(watched)
    while process.poll() is None and _newest(watched) == before:
        time.sleep(0.001)
    time.sleep(rng.random() * span)
    process.kill()
    process.communicate()
    run = RunFolder(folder)
    return f"killed with {run.epochs_done} epochs, {run.step_done} steps{', finished' if run.finished else ''}"


def _newest(folder):
    with contextlib.suppress(OSError):
        return sorted(str(path) for path in Path(folder).rglob("*"))
    return []


def finish(config, folder):
    """Runs to the end; raises where the command line fails."""
    process = start(arguments_after(folder, config))
    output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(output)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--span", type=float, default=1.0, help="seconds after a change of the folder in which a kill falls"
    )
    options = parser.parse_args()
    rng = random.Random(options.seed)
    base = Path(tempfile.mkdtemp(prefix="kills-"))
    try:
        config = write_config(base)
        finish(config, base / "whole")
        expected, bad, kills, number = result_of(base / "whole"), 0, 0, 0
        while kills < options.kills:
            folder, number = base / f"run-{number}", number + 1
            for _ in range(min(rng.choice((1, 2, 3)), options.kills - kills)):
                kills += 1
                sys.stdout.write(f"{kills:3d}  run {number}: {kill_at_random(config, folder, rng, options.span)}\n")
                sys.stdout.flush()
                if RunFolder(folder).finished:
                    break
            finish(config, folder)
            wrong = differences(result_of(folder), expected) + leftovers(folder)
            bad += bool(wrong)
            sys.stdout.write(f"     run {number}: {'equal to the whole run' if not wrong else f'differs: {wrong}'}\n")
        sys.stdout.write(f"{kills} kills of {number} runs: {number - bad} end equal, {bad} do not\n")
    finally:
        shutil.rmtree(base)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
