"""The README's training example runs as it stands, and its tables name what exists."""

import re
from pathlib import Path

import pytest
from pages import blocks

import keras_diffusion as kd

pytestmark = pytest.mark.usefixtures("optimized")

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_examples_run(tmp_path, monkeypatch, capsys):
    """One after the other, as a reader pastes them; `tests/pages.py` runs them in an environment of their own."""
    training, steering = (code for code, _ in blocks(README, "python"))
    assert len([line for line in training.splitlines() if line.strip()]) <= 15
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    exec(compile(training, "README.md", "exec"), names)
    assert (tmp_path / "digits.png").stat().st_size > 500
    assert kd.DiffusionModel.from_preset(tmp_path / "digits-model").generate(1, num_steps=1).shape == (1, 8, 8, 1)
    capsys.readouterr()
    exec(compile(steering, "README.md", "exec"), names)
    assert names["latents"].shape == (4, 8, 8, 1) and len(capsys.readouterr().out.splitlines()) >= 50


def test_the_sampler_table_names_every_sampler():
    table = README[README.index("### Samplers") : README.index("## Coming from FlaxDiff")]
    assert set(re.findall(r"`([a-z0-9_]+)`", table)) >= set(kd.samplers.SAMPLERS.names())


def test_pictures_exist():
    for path in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (Path(__file__).parent.parent / path).is_file(), path
