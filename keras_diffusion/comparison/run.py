"""`compare`: writes the inputs of all backends, starts a process for each, and reports."""

import datetime
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from keras_diffusion.comparison.inputs import KIND, PROGRESS, Settings, make_inputs, read_arrays, write_inputs
from keras_diffusion.comparison.pictures import shows_images
from keras_diffusion.comparison.report import summarize, write_report
from keras_diffusion.runtime.files import unused_path
from keras_diffusion.runtime.optional import import_optional

BACKENDS = ("jax", "tensorflow", "torch")


def compare(
    model,
    data=None,
    backends=BACKENDS,
    reference="jax",
    optimizer=None,
    out=None,
    overwrite=False,
    size=None,
    title=None,
    **settings,
):
    """Trains and samples one model on several backends, and reports how fast each is and how far they differ.

    Args:
        model: `DiffusionModel`: all backends start with its weights.
        data: samples `(N, ...)`, a dict of arrays ("images", "labels", "context"), or batches of these; None (default):
            random numbers.
        backends: names out of "jax", "tensorflow" and "torch". Default: all.
        reference: the one of them that the others are compared with. Default "jax".
        optimizer: `keras.Optimizer`; None (default): Adam with a learning rate of 1e-3.
        out: folder to create. Default: `runs/compare-<date>`.
        overwrite: whether a comparison in that folder may be replaced. Default False.
        size: of random samples, for networks that take any size.
        title: what is compared, for the report. Default: the network's name.
        settings: see `comparison.Settings`: steps=20, batch_size=16, num_samples=16, num_steps=20, sampler="dpmpp_2m",
            seed=0; and progress: function of (backend, phase, done, total), called while processes run.

    Returns:
        the content of `compare.json`, a dict. The folder also holds `compare.html`, the inputs, and for each backend
        its arrays and log.

    Raises:
        ValueError: unknown backends, a reference that is not among them, unsuitable models, settings out of range.
        FileExistsError: `out` holds something else.
    """
    progress = settings.pop("progress", lambda *_: None)
    backends, settings = check_backends(backends, reference), Settings(**settings)
    if model.autoencoder is not None or shows_images(model.sample_shape):
        import_optional("PIL.Image", extra="viz", purpose="the pictures of samples")
    spec, arrays = make_inputs(model, data, settings, optimizer, size)
    folder = prepare_folder(default_folder() if out is None else Path(out), overwrite)
    write_inputs(folder / "inputs", model, spec, arrays)
    results = {backend: run_backend(backend, folder / "inputs", folder / backend, progress) for backend in backends}
    facts = {
        "title": title or model.network.name,
        "network": type(model.network).__name__,
        "parameters": model.network.count_params(),
    }
    summary = summarize(spec, results, reference, facts)
    write_report(folder, summary, results)
    return summary


def check_backends(backends, reference):
    """`backends` as a tuple, each once; ValueError for unknown ones and for a reference that is not among them."""
    backends = tuple(dict.fromkeys([backends] if isinstance(backends, str) else backends))
    unknown = [name for name in backends if name not in BACKENDS]
    if unknown or not backends:
        raise ValueError(
            f"Backends are {', '.join(BACKENDS)}. Received: backends={', '.join(map(str, unknown)) or 'none'}"
        )
    if reference not in backends:
        raise ValueError(
            f"The reference is one of the backends compared: {', '.join(backends)}. Received: reference={reference}"
        )
    return backends


def run_backend(backend, inputs, out, progress=lambda *_: None):
    """Measures one backend in its own process.

    Args:
        backend: its name.
        inputs: folder of `write_inputs`.
        out: folder for the results, and for `log.txt`: what the process wrote to stderr.
        progress: function of (backend, phase, done, total).

    Returns:
        dict: "status": "ok", "missing" or "failed"; "reason" unless ok; else the worker's measurements, with "samples",
        an array, and "layers", path → array.
    """
    if importlib.util.find_spec(backend) is None:
        progress(backend, "missing", 0, 0)
        return {"status": "missing", "reason": f"The package {backend!r} is not installed"}
    out.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH"))))
    environment = {"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": path}
    command = [sys.executable, "-m", "keras_diffusion.comparison.worker", str(inputs), str(out)]
    progress(backend, "starting", 0, 0)
    with (
        open(out / "log.txt", "w", encoding="utf-8") as log,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            for line in process.stdout or ():
                if line.startswith(PROGRESS):
                    progress(backend, *json.loads(line.removeprefix(PROGRESS)).values())
        except BaseException:  # Ctrl-C: the process must not outlive its parent
            process.kill()
            raise
    result = _failure(process.returncode, out) or _results(out)
    progress(backend, {"ok": "done"}.get(result["status"], result["status"]), 0, 0)
    return result


def prepare_folder(folder, overwrite=False):
    """An empty folder; FileExistsError if it has content, unless that is a comparison and `overwrite` is true."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        ours = _is_comparison(folder)
        if not overwrite or not ours:
            instead = ", or overwrite it" if ours else "; only folders of comparisons are overwritten"
            remedy = f"Choose another folder{instead}"
            raise FileExistsError(
                "A comparison is written to a new or empty folder. Received: "
                f"{str(folder)!r}, which is not empty. {remedy}."
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def default_folder():
    """`runs/compare-<date>`, followed by -2, -3 … if that exists already."""
    return unused_path(Path("runs") / f"compare-{datetime.date.today().isoformat()}")


def _is_comparison(folder):
    try:
        return json.loads((folder / "inputs" / "spec.json").read_text(encoding="utf-8")).get("kind") == KIND
    except (OSError, ValueError, AttributeError):
        return False


def _failure(code, out):
    """None for a process that has finished, else why it failed: the last error in its log."""
    if code == 0:
        return None
    log = (out / "log.txt").read_text(encoding="utf-8", errors="replace")
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Interrupt|Exit)\b", line)]
    last = (errors or lines or ["no message"])[-1]
    if last.startswith(("ModuleNotFoundError", "ImportError")):
        return {"status": "missing", "reason": last}
    ended = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    return {"status": "failed", "reason": f"{last} ({ended}; see {out.name}/log.txt)"}


def _results(out):
    result = json.loads((out / "result.json").read_text(encoding="utf-8"))
    with np.load(out / "arrays.npz") as arrays:
        return {"status": "ok", **result, "samples": arrays["samples"], "layers": read_arrays(out, "layer")}
