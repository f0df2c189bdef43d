"""docs/results.md is what `make reports` writes from its measured rows, and rows are measured as the page says."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module", autouse=True)
def benchmarks():
    patch = pytest.MonkeyPatch()
    patch.syspath_prepend(str(ROOT / "benchmarks"))
    yield
    patch.undo()


@pytest.fixture
def rows(tmp_path):
    from reports.rows import Rows

    return Rows(tmp_path / "reports.json")


def test_the_page_is_written_from_the_rows():
    from reports import page
    from reports.rows import Rows

    rows = Rows(ROOT / "benchmarks" / "results" / "reports.json")
    assert (ROOT / "docs" / "results.md").read_text(encoding="utf-8") == page.render(rows)
    assert len(page.sweep_of(rows).cells) == 32 and len(rows.of("mixtures", "grid of 25", "network")) == 5
    assert "make reports" in (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert "-m reports" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_what_is_measured_is_not_measured_again(rows):
    from reports.rows import Rows

    asked = []
    for _ in range(2):
        rows.measure("digits", [("v", 0), ("v", 1)], lambda *key: asked.append(key) or {"mind": len(asked)})
    with pytest.raises(ZeroDivisionError):
        rows.measure("digits", [("x0", 0), ("x0", 1)], lambda name, seed: {"mind": 1 / (1 - seed)})
    assert asked == [("v", 0), ("v", 1)]
    again = Rows(rows.path)
    assert again.of("digits", "v") == [{"mind": 1}, {"mind": 2}]
    assert again.of("digits", "x0") == [{"mind": 1.0}], "what came before an interruption is kept"
    assert Rows(rows.path, again=["digits"]).of("digits", "v") == []


def test_intervals_are_those_of_student():
    from reports.page import interval, shown

    mean, half = interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert mean == 3.0 and math.isclose(half, 2.776 * math.sqrt(2.5 / 5), rel_tol=1e-3)
    assert shown([1.0], ".1f") == "1.0" and shown([], ".1f") == "–" and shown([1.0, None], ".1f") == "not finite"


@pytest.mark.slow
def test_a_recipe_is_trained_and_measured(rows):
    from reports import digits

    sizes = {"widths": [4, 8], "steps": 2, "n": 100, "num_steps": 2, "batch_size": 8}
    digits.measure(rows, 1, sizes, recipes=[("v", "none", "cosine")])
    ((row,), (reference,)) = rows.of("digits", "v none cosine"), rows.of("digits", "reference")
    assert reference["floor"] < reference["mean"]["mind"] < row["mind"] < 2 * reference["noise"]["mind"]
    assert row["read"] < 0.5 < reference["read_real"]


@pytest.mark.slow
def test_mixtures_lie_between_real_samples_and_a_gaussian(rows):
    from reports import mixtures, page

    mixtures.measure(rows, 1, {"steps": 20, "n": 4000, "num_steps": 20, "data": 4000, "batch_size": 32, "width": 8})
    for problem in mixtures.problems():
        real, exact, gaussian = (rows.of("mixtures", problem, way)[0] for way in ("real", "exact", "gaussian"))
        for found in (real, exact):
            assert found["sliced_wasserstein"] < 0.5 * gaussian["sliced_wasserstein"]
            assert found["near"] > 0.98 and found["covered"] == 1.0 and found["nats"] < gaussian["nats"] - 1.0
        assert np.isfinite(rows.of("mixtures", problem, "network")[0]["nats"])
    assert len(page.mixture_table(rows).splitlines()) == 2 + 3 * 4
    assert json.loads(rows.path.read_text())["mixtures"]["sizes"]["n"] == 4000


@pytest.mark.slow
def test_latents_and_pixels_are_trained_for_equally_long(rows):
    from reports import latents, page

    sizes = {"image_size": 16, "batch_size": 4, "n": 8, "num_steps": 2}
    sizes |= {"autoencoder_steps": {"shapes": 2}, "seconds": 1e-3}
    sizes |= {"autoencoder": {**latents.SIZES["autoencoder"], "widths": [4, 8]}, "pixels": [4, 8], "latents": [4]}
    latents.measure(rows, 1, sizes, sources=["shapes"])
    (autoencoder,) = rows.of("latents", "shapes", "autoencoder")
    assert 0 < autoencoder["psnr"] < 20 and autoencoder["n"] == 8
    for way in latents.WAYS:
        (row,) = rows.of("latents", "shapes", way)
        assert row["steps"] == 2 and row["mind"] > row["floor"] and row["read"] < 0.5 < row["read_real"]
    assert len(page.latent_table(rows).splitlines()) == 4 and len(page.autoencoder_table(rows).splitlines()) == 3
