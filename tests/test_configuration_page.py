"""docs/configuration.md and docs/command-line.md are what the code writes; pages about training say what is so."""

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import run

import keras_diffusion as kd
from keras_diffusion.cli.app import app
from keras_diffusion.cli.building import known_keys
from keras_diffusion.cli.plotting import plot

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.slow
def test_the_references_are_current(tmp_path):
    # In a process of its own: tests register classes.
    names = ("configuration.md", "command-line.md")
    command = [sys.executable, "-m", "keras_diffusion.cli.reference", *(tmp_path / name for name in names)]
    subprocess.run(command, check=True, capture_output=True)
    for name in names:
        assert (tmp_path / name).read_text(encoding="utf-8") == (DOCS / name).read_text(encoding="utf-8"), (
            f"docs/{name} is old. Write it anew: python -m keras_diffusion.cli.reference docs/{name}"
        )


def test_every_option_is_described():
    page = (DOCS / "command-line.md").read_text(encoding="utf-8")
    commands = [*app.registered_commands, *plot.registered_commands]
    for command in commands:
        name = command.name or command.callback.__name__.strip("_")
        section = re.search(
            rf"^## `keras-diffusion (?:plot )?{name}`\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE
        )
        for key in inspect.signature(command.callback).parameters:
            key = key.strip("_")
            assert f"`{key.upper()}`" in section[1] or f"`--{key.replace('_', '-')}`" in section[1], (name, key)
    assert len(commands) > 10


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
    codes = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (code,) = (code for code in codes if "runs/flowers" in code)  # the page's other blocks run with the pages
    exec(compile(code, "your-own-pictures.md", "exec"), names)
    assert names["roses"].shape == (8, 8, 8, 3) and (tmp_path / "roses.png").is_file()
    assert kd.data.load("flowers", image_size=8, batch_size=4).class_names == ["daisy", "rose"]
