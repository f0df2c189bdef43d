"""Runs notebooks from top to bottom and stores what they show: `python notebooks/refresh.py [--quick] [NAME …]`.

A notebook is replaced only when all of its cells ran, and printed no warning. `--quick` trains for a moment only and
stores nothing: it tells whether every cell still runs. Needs `pip install keras-diffusion[notebooks]`.
"""

import argparse
import base64
import io
import os
import resource
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbclient
import nbformat
import numpy as np
from PIL import Image
from scipy.spatial import cKDTree

HERE = Path(__file__).resolve().parent


def run(path, quick):
    """The notebook at `path` as it is after a run in an empty folder; raises at the first cell that fails.

    Raises:
        RuntimeError: a cell wrote to stderr (a warning, above all) or left a file, or a quick run shows fewer or more
            pictures than are stored.
    """
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    stored = _pictures(code)
    for cell in code:
        cell.outputs, cell.execution_count = [], None
        cell.metadata.pop("execution", None)
    with tempfile.TemporaryDirectory() as folder:
        options = {"timeout": 900, "startup_timeout": 300, "record_timing": False}
        client = nbclient.NotebookClient(
            notebook, kernel_name="python3", resources={"metadata": {"path": folder}}, **options
        )
        client.execute(env=_environment(quick))
        left = os.listdir(folder)
    warned = [output.text for cell in code for output in cell.outputs if output.get("name") == "stderr"]
    if warned or left:
        raise RuntimeError(f"{path.name} wrote to stderr: {warned}, and left the files {left}")
    if quick and _pictures(code) != stored:
        raise RuntimeError(f"{path.name} shows {_pictures(code)} pictures, stored are {stored}: refresh it")
    return notebook


def _pictures(cells):
    """Number of pictures that code cells show."""
    return sum("image/png" in output.get("data", {}) for cell in cells for output in cell.outputs)


def _environment(quick):
    """The kernel's: this checkout's package, JAX unless chosen otherwise, and how long to train."""
    paths = [str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    environment = {
        "KERAS_BACKEND": "jax",
        "TF_CPP_MIN_LOG_LEVEL": "2",  # Keras imports TensorFlow, where it is installed, to set its seed
        "TF_ENABLE_ONEDNN_OPTS": "0",  # which would be reported at that import
        **os.environ,
        "KERAS_DIFFUSION_QUICK": str(int(quick)),
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
    }
    if quick:  # most programs run once: compiling them well costs more than it saves
        environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    return environment


def store(notebook, path):
    """Replaces the file at `path` at once, with small pictures. What a machine adds by chance (versions, widgets'
    state) stays out.
    """
    for output in (output for cell in notebook.cells for output in cell.get("outputs", ())):
        png = output.get("data", {}).get("image/png")
        if png:
            output.data["image/png"] = base64.b64encode(smaller(base64.b64decode(png))).decode()
    notebook.metadata = nbformat.NotebookNode(
        kernelspec={"display_name": "Python 3", "language": "python", "name": "python3"},
        language_info={"name": "python"},
    )
    partial = path.with_suffix(".partial")
    nbformat.write(notebook, partial)
    partial.replace(path)


def smaller(png):
    """A PNG with 256 colours, a third of the size: the commonest, so that thin lines stay, or Pillow's for photos."""
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))
    rough = (np.round(pixels / 17) * 17).astype("uint8") * (pixels[..., 3:] > 8)
    colours, number, count = np.unique(rough.view("uint32")[..., 0], return_inverse=True, return_counts=True)
    colours = colours.view("uint8").reshape(-1, 4)
    kept = colours[np.argsort(-count)[:256]]
    places = cKDTree(kept.astype("float64")).query(colours.astype("float64"))[1][number].reshape(pixels.shape[:2])
    error = np.abs(_on_grey(pixels) - _on_grey(kept[places]))
    if np.percentile(error, 99.9) < 24:
        image = Image.fromarray(places.astype("uint8"))
        image.putpalette(kept.tobytes(), "RGBA")
    else:
        image = Image.fromarray(pixels).quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return min(png, file.getvalue(), key=len)


def _on_grey(pixels):
    """Pixels `(H, W, 4)` composed onto grey, which is as far from dark pages as from light ones."""
    alpha = pixels[..., 3:] / 255
    return pixels[..., :3] * alpha + 128 * (1 - alpha)


def refresh(path, quick):
    """Runs one notebook and says how long it took; True if it ran through."""
    started = time.perf_counter()
    try:
        notebook = run(path, quick)
    except (nbclient.exceptions.CellExecutionError, RuntimeError) as error:
        print(f"{path.name}: FAILED after {time.perf_counter() - started:.0f} s\n{error}", flush=True)
        return False
    if not quick:
        store(notebook, path)
    print(f"{path.name}: {time.perf_counter() - started:.0f} s", flush=True)
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="what the file names start with, as 01 or 04-samplers; default: all")
    parser.add_argument("--quick", action="store_true", help="train for a moment only, store nothing")
    parser.add_argument("--jobs", type=int, default=1, help="notebooks that run at the same time; default 1")
    options = parser.parse_args()
    paths = sorted(HERE.glob("*.ipynb"))
    if options.names:
        paths = [path for path in paths if path.name.startswith(tuple(options.names))]
    with ThreadPoolExecutor(options.jobs) as pool:
        passed = list(pool.map(lambda path: refresh(path, options.quick), paths))
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{used.ru_utime + used.ru_stime:.0f} s of processor time")
    print(f"{sum(passed)} passed, {len(passed) - sum(passed)} failed")
    return not all(passed)


if __name__ == "__main__":
    sys.exit(main())
