"""docs/configuration.md is what the code writes, and the pages about training say what is so."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import run

import keras_diffusion as kd
from keras_diffusion.cli.building import known_keys

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.slow
def test_the_reference_is_current(tmp_path):
    # In a process of its own: tests register classes.
    subprocess.run(
        [sys.executable, "-m", "keras_diffusion.cli.reference", tmp_path / "page.md"], check=True, capture_output=True
    )
    written = (DOCS / "configuration.md").read_text(encoding="utf-8")
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == written, (
        "docs/configuration.md is old. Write it anew: python -m keras_diffusion.cli.reference docs/configuration.md"
    )


def test_every_key_is_described():
    page = (DOCS / "configuration.md").read_text(encoding="utf-8")
    for section, keys in known_keys().items():
        for key in set(keys) - {"name", "dtype", "trainable", "clipvalue", "gradient_accumulation_steps"}:
            assert f"| `{key}` |" in page or (section == "network" and key == "seed"), f"[{section}] {key}"


def test_links_of_the_page_on_pictures_lead_somewhere():
    page = (DOCS / "your-own-pictures.md").read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#]+)\)", page):
        assert (DOCS / link).exists(), link


@pytest.mark.slow
def test_the_python_of_the_page_on_pictures_runs(tmp_path, monkeypatch):
    image = pytest.importorskip("PIL.Image")
    monkeypatch.chdir(tmp_path)
    for name in ("daisy", "rose"):
        (tmp_path / "flowers" / name).mkdir(parents=True)
        for i in range(4):
            image.new("RGB", (9, 12), (60 * i, 0, 0)).save(tmp_path / "flowers" / name / f"{i}.png")
    network = {"widths": [8], "num_res_blocks": 1, "num_middle_res_blocks": 0, "attention": False}
    data = {"source": "flowers", "image_size": 8, "batch_size": 4}
    (tmp_path / "c.json").write_text(
        json.dumps({"data": data, "network": network, "train": {"epochs": 1, "samples": {"every": 0}}})
    )
    assert run("train", "c.json", "--out", "runs/flowers").exit_code == 0
    page = (DOCS / "your-own-pictures.md").read_text(encoding="utf-8")
    names = {}
    exec(compile(re.search(r"```python\n(.*?)```", page, re.DOTALL).group(1), "your-own-pictures.md", "exec"), names)
    assert names["roses"].shape == (8, 8, 8, 3) and (tmp_path / "roses.png").is_file()
    assert kd.data.load("flowers", image_size=8, batch_size=4).class_names == ["daisy", "rose"]
