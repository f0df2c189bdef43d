"""Tries attacks in this process, and prints what became of each as a line of JSON: python attack_run.py FOLDER KIND

What a try took is measured by the process's own peak, which Linux can reset.
"""

import json
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

import attacks

import keras_diffusion as kd
from keras_diffusion.checkpoints import CheckpointError


def memory(word):
    """Megabytes that this process has ("VmRSS"), or had at most ("VmHWM")."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith(word))


def attempt(name, function, refused="refused"):
    """Runs `function`, which is to raise an error of this library, and prints what became of it."""
    Path("/proc/self/clear_refs").write_text("5")
    before, start, outcome = memory("VmRSS"), time.process_time(), ""
    try:
        function()
    except (CheckpointError, ValueError) as error:
        text = str(error)
        outcome = "refused" if len(text) < 3000 else f"a message of {len(text)} characters"
    except BaseException as error:
        text = str(error)
        outcome = type(error).__name__
    else:
        text, outcome = "", refused if refused == "no error" else "accepted"
    taken = memory("VmHWM") - before
    print(json.dumps([name, outcome, round(time.process_time() - start, 2), taken, text[:300]]), flush=True)


def refuses(*arguments):
    """Runs a command, whose error is that of this library where it is short and no traceback."""
    from command_line import run

    result = run(*arguments)
    if result.exit_code == 0:
        return
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    if result.exit_code not in (1, 2) or "Traceback" in result.output or len(result.output) > 3000:
        raise RuntimeError(result.output[-1000:])
    raise ValueError(result.output)


def commands(folder):
    """Every command on a selection of files, and on runs whose configurations ask for too much."""
    network = kd.networks.UNet((8, 8, 1), widths=(8,), num_res_blocks=1, num_classes=2)
    kd.DiffusionModel(network).save_to_preset(folder / "good")
    wanted = {"bzip2", "keras lists", "pt sets", "pkl device", "safetensors shape", "msgpack names", "index"}
    paths = [path for name, path in attacks.checkpoint_attacks(folder) if name in wanted]
    paths += [
        path
        for name, path in attacks.preset_attacks(folder, folder / "good")
        if name in ("preset widths", "keras blocks")
    ]
    paths += attacks.texts(folder)
    for path in paths:
        for command in ("sample", "info", "inspect", "compare"):
            # `inspect` lists what a file holds, whatever its configuration asks for.
            shows = (
                "no error" if command == "inspect" and ("blocks" in path.name or "widths" in path.name) else "refused"
            )
            attempt(f"{command} {path.name}", lambda command=command, path=path: refuses(command, path), shows)
        attempt(f"convert {path.name}", lambda path=path: refuses("convert", path, folder / "out"))
        attempt(f"train {path.name}", lambda path=path: refuses("train", path, "--out", folder / "run"))
    for run in attacks.runs(folder, folder / "good"):
        attempt(f"resume {run.name}", lambda run=run: refuses("train", "--resume", "--out", run))
        for command in ("sample", "info", "compare"):
            attempt(f"{command} {run.name}", lambda command=command, run=run: refuses(command, run))
    for option, value in (("--num-steps", 10**9), ("--num-samples", 10**9), ("--size", 10**6), ("--per-label", 10**9)):
        attempt(
            f"sample {option}", lambda option=option, value=value: refuses("sample", folder / "good", option, value)
        )


def main(folder, kind):
    folder = Path(folder)
    if kind == "checkpoints":
        kinds = (attacks.checkpoint_attacks, attacks.hdf5_attacks, attacks.diffusers_attacks)
        for name, path in [found for kind in kinds for found in kind(folder)]:
            attempt(f"load {name}", lambda path=path: kd.checkpoints.load(path, verbose=0).diffusion_model())
            attempt(f"inspect {name}", lambda path=path: str(kd.checkpoints.inspect(path)), refused="no error")
        words = attacks.vocabulary(folder / "merges.txt.gz")
        attempt("vocabulary", lambda: kd.text.CLIPTokenizer(words))
    elif kind == "presets":
        network = kd.networks.UNet((8, 8, 1), widths=(8,), num_res_blocks=1, num_classes=2)
        kd.DiffusionModel(network).save_to_preset(folder / "good")
        for name, path in attacks.preset_attacks(folder, folder / "good"):
            if path.is_dir():
                attempt(f"from_preset {name}", lambda path=path: kd.DiffusionModel.from_preset(path))
            attempt(f"load {name}", lambda path=path: kd.checkpoints.load(path, verbose=0))
    elif kind == "commands":
        commands(folder)
    elif kind == "data":
        for name, path in attacks.data_attacks(folder):
            attempt(f"data {name}", lambda path=path: next(iter(kd.data.load(path, batch_size=1, image_size=8))))


if __name__ == "__main__":
    main(*sys.argv[1:])
