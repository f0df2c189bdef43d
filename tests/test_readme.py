"""README.md fits two screens, its examples run as they stand, and what it counts is there."""

import re
from pathlib import Path

import pytest
from pages import blocks

import keras_diffusion as kd
from keras_diffusion.networks.network import NETWORKS
from keras_diffusion.training.loss_weighting import LOSS_WEIGHTINGS

pytestmark = pytest.mark.usefixtures("optimized")

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_examples_run(tmp_path, monkeypatch, capsys):
    """One after the other, as a reader pastes them; `tests/pages.py` runs them in an environment of their own."""
    training, loading = (code for code, _ in blocks(README, "python"))
    assert len([line for line in training.splitlines() if line.strip()]) <= 15
    assert len(loading.splitlines()) == 3
    monkeypatch.chdir(tmp_path)
    (tmp_path / "legacy_tf").symlink_to(ROOT / "legacy_tf")
    names = {"__name__": "__main__"}
    exec(compile(training, "README.md", "exec"), names)
    assert (tmp_path / "digits.png").stat().st_size > 500
    assert kd.DiffusionModel.from_preset(tmp_path / "digits-model").generate(1, num_steps=1).shape == (1, 8, 8, 1)
    exec(compile(loading, "README.md", "exec"), names)
    assert names["images"].shape[:3] == (16, 8, 8) and "keras_ddim" in capsys.readouterr().out


def test_it_is_short():
    assert len(README.splitlines()) <= 100


def test_the_counts_are_right():
    counts = dict(
        (kind, int(number))
        for number, kind in re.findall(r"(\d+) (names|noise schedules|predictors|loss weightings|time dist)", README)
    )
    assert counts == {
        "names": len(kd.samplers.SAMPLERS.names()),
        "noise schedules": len(kd.schedulers.SCHEDULES.names()),
        "predictors": len(kd.predictors.PREDICTORS.names()),
        "loss weightings": len(LOSS_WEIGHTINGS.names()),
        "time dist": len(kd.training.TIME_DISTRIBUTIONS.names()),
    }
    assert f"| [networks](docs/features.md#networks) | {len(NETWORKS.names())}:" in README


def test_the_demo_takes_as_long_as_it_says_itself():
    said = re.search(r"about (\d+) minutes on 2 CPU cores", README)[1]
    demo = (ROOT / "keras_diffusion" / "cli" / "demo.py").read_text(encoding="utf-8")
    assert f'"{said} minutes on two CPU cores"' in demo
    assert f"about {said} minutes" in (ROOT / "Makefile").read_text(encoding="utf-8")
