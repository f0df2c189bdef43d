"""Every notebook runs from top to bottom, and is stored with the pictures it makes."""

import os
from pathlib import Path

import keras
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed: pip install keras-diffusion[notebooks]")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(keras.backend.backend() != "jax", reason="notebooks run on JAX"),
    pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem),
]


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def pictures(notebook):
    """Number of code cells that show a picture."""
    return sum(any("image/png" in output.get("data", {}) for output in cell.outputs) for cell in code_cells(notebook))


def test_runs_top_to_bottom(path, monkeypatch, tmp_path):
    nbclient = pytest.importorskip(
        "nbclient", reason="nbclient is not installed: pip install keras-diffusion[notebooks]"
    )
    pytest.importorskip("ipykernel", reason="ipykernel is not installed: pip install keras-diffusion[notebooks]")
    monkeypatch.setenv("KERAS_DIFFUSION_QUICK", "1")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(path.parents[1]), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(path, as_version=4)
    stored = pictures(notebook)
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    # A folder of its own: a notebook must not need files beside it, nor leave any.
    client = nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()  # raises at the first cell that fails
    assert all(cell.execution_count for cell in code_cells(notebook))
    assert pictures(notebook) == stored >= 5
    assert list(tmp_path.iterdir()) == []


def test_is_stored_executed_small_and_without_errors(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert path.stat().st_size < 500_000
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    assert pictures(notebook) >= 5
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    assert not [output for output in outputs if str(Path.home()) in str(output)]
