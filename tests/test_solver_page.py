"""docs/solvers.md is what `make solvers` writes: every sampler has its rows, and its numbers come out again."""

import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from keras_diffusion.samplers.sampler import SAMPLERS

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "solvers.md").read_text(encoding="utf-8")


def rows(section):
    """{name: cells} of the table rows of a section."""
    text = PAGE[PAGE.index(f"## {section}") :].split("\n## ")[0]
    return {
        cells[0].strip("`"): cells[1:]
        for cells in (re.split(r"\s*\|\s*", line)[1:-1] for line in text.splitlines() if "| `" in line)
    }


def test_every_sampler_is_measured_or_said_not_to_be():
    measured = {**rows("Methods for the probability-flow ODE"), **rows("Stochastic methods")}
    left_out = set(re.findall(r"`(\w+)`", PAGE[PAGE.index("Not measured here:") :].split("\n")[0]))
    assert set(measured) | left_out == set(SAMPLERS.names()) and not set(measured) & left_out
    assert set(rows("Who else has them")) == set(SAMPLERS.names())
    readme = (ROOT / "README.md").read_text(encoding="utf-8")  # whose picture shows those that are measured
    assert f"for {len(measured)} of the {len(SAMPLERS.names())} samplers" in readme
    assert f"evaluations of {len(measured)} samplers" in readme
    assert (ROOT / "docs" / "images" / "solvers-error.png").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "jax", reason="the page is made with JAX")
def test_numbers_come_out_again():
    code = (
        "import solvers; [print(n, solvers.order(n), [e for _, e in solvers.measure(n, solvers.exact(), "
        "None).values()]) for n in %r]"
    )
    names = ["dpmpp_2m", "heun", "unipc"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'benchmarks'}{os.pathsep}{ROOT}"}
    result = subprocess.run(
        [sys.executable, "-c", code % names], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
    table = rows("Methods for the probability-flow ODE")
    for line in result.stdout.splitlines():
        name, order, *errors = re.findall(r"[\w.+-]+", line)
        order_on_page, _, _, *errors_on_page = table[name]
        assert float(order_on_page) == pytest.approx(float(order), abs=0.06)
        assert [float(e) for e in errors_on_page] == pytest.approx([float(e) for e in errors], rel=0.06)
    assert len(result.stdout.splitlines()) == len(names)
