"""Every notebook is stored as it was run from top to bottom, with pictures; `make test-pages` runs them all anew."""

from pathlib import Path

import keras
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed: pip install keras-diffusion[notebooks]")

pytestmark = [
    pytest.mark.skipif(keras.backend.backend() != "jax", reason="notebooks run on JAX"),
    pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem),
]


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def pictures(notebook):
    """Number of code cells that show a picture."""
    return sum(any("image/png" in output.get("data", {}) for output in cell.outputs) for cell in code_cells(notebook))


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
