"""The example of docs/lora.md runs."""

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parent.parent / "docs" / "lora.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(re.search(r"```python\n(.*?)```", PAGE, re.DOTALL).group(1), "docs/lora.md", "exec"), names)
    assert names["samples"].shape == (4, 8, 8, 1) and not names["other"].network.adapters
    assert (tmp_path / "style.safetensors").stat().st_size < (tmp_path / "base" / "model.weights.h5").stat().st_size / 5
