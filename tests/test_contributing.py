"""The worked example of docs/contributing.md does what the page says."""

import re
from pathlib import Path

import compiled_sampling
import numpy as np
import pytest
from golden_data import mixture
from samplers.test_sampler_orders import STEPS, exact_path, grid, run, slope

from keras_diffusion import samplers, schedulers
from keras_diffusion.samplers.sampler import SAMPLERS

PAGE = (Path(__file__).parent.parent / "docs" / "contributing.md").read_text(encoding="utf-8")


@pytest.fixture
def sampler(monkeypatch):
    monkeypatch.setattr(SAMPLERS, "_entries", dict(SAMPLERS._entries))
    monkeypatch.setattr(SAMPLERS, "_aliases", dict(SAMPLERS._aliases))
    code = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL).group(1)
    exec(compile(code, "contributing.md", "exec"), {"__name__": "ab2"})
    return samplers.get("ab2")


def test_the_example_has_the_order_that_it_claims(sampler):
    errors = []
    for n in STEPS[2]:
        levels = grid(n)
        errors.append(np.abs(run(sampler, levels) - exact_path(levels)[-1]).max())
    assert slope(STEPS[2], errors) == pytest.approx(2, abs=0.35)


@pytest.mark.parametrize("schedule", ["vp", "flow"])
def test_the_example_is_the_twin_of_lms(sampler, schedule):
    schedule = schedulers.get(schedule)
    levels = schedule.levels(schedulers.get_spacing("linspace")(schedule, 9, end=0.1))
    x = np.random.default_rng(0).standard_normal((4, 2))
    ours, twin = (
        compiled_sampling.sample(s, x, "gmm2", mixture("gmm2"), levels, None, schedule) for s in (sampler, samplers.get("lms", order=2))
    )
    np.testing.assert_allclose(ours, twin, atol=1e-5)
    closing = schedule.levels(schedulers.get_spacing("linspace")(schedule, 5))
    steps = compiled_sampling.sample(sampler, x, "gmm2", mixture("gmm2"), closing, None, schedule)
    np.testing.assert_allclose(steps[-1], np.asarray(mixture("gmm2")(steps[-2], closing.map(lambda v: v[-2])).x0), atol=1e-5)


def test_the_page_names_what_exists():
    for path in re.findall(r"`((?:tests|benchmarks|keras_diffusion|docs)/[\w/.]+)`", PAGE):
        assert (Path(__file__).parent.parent / path).exists() or "ab2" in path, path
