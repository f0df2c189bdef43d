"""The originals' notebooks run from top to bottom, cut short, and are stored executed; nothing in keras_diffusion
imports the originals.
"""

import ast
import os
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed: pip install keras-diffusion[notebooks]")

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "legacy_tf" / "notebooks").glob("*.ipynb"))

pytestmark = pytest.mark.slow
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@each
def test_stored_executed_small_and_without_errors(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert path.stat().st_size < 200_000
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 4
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    assert str(Path.home()) not in str(outputs)


def test_runs_cut_short(monkeypatch, tmp_path):
    """The quickest of them; the two others differ in cells whose functions the other tests call, and take a minute to
    compile.
    """
    path = ROOT / "legacy_tf" / "notebooks" / "ddim.ipynb"
    nbclient = pytest.importorskip(
        "nbclient", reason="nbclient is not installed: pip install keras-diffusion[notebooks]"
    )
    pytest.importorskip("ipykernel", reason="ipykernel is not installed: pip install keras-diffusion[notebooks]")
    pytest.importorskip("tf_keras", reason="tf_keras is not installed: pip install keras-diffusion[legacy-tf]")
    monkeypatch.setenv("LEGACY_TF_EPOCHS", "1")
    monkeypatch.setenv("LEGACY_TF_OUT", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()  # raises at the first cell that fails
    names = {written.name for written in (tmp_path / path.stem).iterdir()}
    assert names == {written.name for written in (ROOT / "legacy_tf" / "checkpoints" / path.stem).iterdir()}


def test_keras_diffusion_does_not_import_the_originals():
    for path in (ROOT / "keras_diffusion").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                [a.name for a in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", None) or ""]
            )
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert not [name for name in names if name.split(".")[0] in ("legacy_tf", "tf_keras")], path
