"""README.md fits two screens, and what it counts is there. `make test-pages` runs its examples."""

import re
from pathlib import Path

from pages import blocks

import keras_diffusion as kd
from keras_diffusion.networks.network import NETWORKS
from keras_diffusion.training.loss_weighting import LOSS_WEIGHTINGS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_it_is_short():
    training, loading = (code for code, _ in blocks(README, "python"))
    assert len(README.splitlines()) <= 100
    assert len([line for line in training.splitlines() if line.strip()]) <= 15 and len(loading.splitlines()) == 3


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


def test_the_picture_shows_as_many_samplers_as_it_says():
    page = (ROOT / "docs" / "solvers.md").read_text(encoding="utf-8")
    missing = re.search(r"^Not measured here: (.*)$", page, re.MULTILINE)[1].count("`") // 2
    everything = len(kd.samplers.SAMPLERS.names())
    assert f"for {everything - missing} of the {everything} samplers" in README and missing == 6
    assert f"of {everything - missing} samplers" in README and "The other six" in README
