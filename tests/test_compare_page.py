"""The example of docs/compare.md runs, and its commands have the options that it names."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from keras_diffusion.cli.app import app

PAGE = (Path(__file__).parent.parent / "docs" / "compare.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_example_runs(tmp_path, monkeypatch):
    """Starts one process, of JAX."""
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(re.search(r"```python\n(.*?)```", PAGE, re.DOTALL).group(1), "docs/compare.md", "exec"), names)
    assert names["summary"]["backends"]["jax"]["status"] == "ok"
    page = (tmp_path / "compare-points" / "compare.html").read_text(encoding="utf-8")
    assert "first two numbers of every sample" in page and "data:image/png" not in page


def test_the_command_has_the_options_of_the_page():
    command = re.search(r"keras-diffusion compare (.*)", PAGE).group(1)
    text = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["compare", "--help"]).output
    used = set(re.findall(r"--[a-z-]+", command)) | {"--data", "--backend", "--reference"}
    assert used and all(option in text for option in used)
    assert (Path(__file__).parent.parent / "docs" / "images" / "compare.png").is_file()
