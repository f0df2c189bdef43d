"""The worked examples of docs/contributing.md do what the page says."""

import re
from pathlib import Path

import compiled_sampling
import numpy as np
import pytest
from golden_data import mixture
from keras import ops
from samplers.test_sampler_orders import STEPS, exact_path, grid, run, slope

from keras_diffusion import checkpoints, networks, samplers, schedulers
from keras_diffusion.checkpoints.families import family
from keras_diffusion.containers.safetensors import write_safetensors
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
        compiled_sampling.sample(s, x, "gmm2", mixture("gmm2"), levels, None, schedule)
        for s in (sampler, samplers.get("lms", order=2))
    )
    np.testing.assert_allclose(ours, twin, atol=1e-5)
    closing = schedule.levels(schedulers.get_spacing("linspace")(schedule, 5))
    steps = compiled_sampling.sample(sampler, x, "gmm2", mixture("gmm2"), closing, None, schedule)
    np.testing.assert_allclose(
        steps[-1], np.asarray(mixture("gmm2")(steps[-2], closing.map(lambda v: v[-2])).x0), atol=1e-5
    )


def test_the_example_of_a_family_loads_a_file(monkeypatch, tmp_path):
    monkeypatch.setattr(family, "_FAMILIES", dict(family._FAMILIES))
    code = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[1]
    exec(compile(code, "contributing.md", "exec"), {"__name__": "toy_mlp"})
    rng = np.random.default_rng(0)
    places = [("stem", 2, 4), ("embed.0", 4, 4), ("embed.2", 4, 4), ("head", 4, 2)]
    places += [(f"blocks.{i}.{part}", 4, 4) for i in range(2) for part in ("up", "time", "down")]
    tensors = {f"{name}.weight": rng.standard_normal((n, m)).astype("float32") for name, m, n in places}
    tensors |= {f"{name}.bias": rng.standard_normal(n).astype("float32") for name, _, n in places}
    tensors["frequencies"] = rng.standard_normal(2).astype("float32")
    write_safetensors(tmp_path / "toy.safetensors", tensors)
    loaded = checkpoints.load(tmp_path / "toy.safetensors", verbose=0)
    assert loaded.report.family == "toy_mlp" and not loaded.report.missing and not loaded.report.unused
    assert isinstance(loaded.network, networks.MLP) and len(loaded.report.matched) == len(tensors)
    x = rng.standard_normal((3, 2)).astype("float32")
    expected = x @ tensors["stem.weight"].T + tensors["stem.bias"]
    np.testing.assert_allclose(ops.convert_to_numpy(loaded.network.get_layer("dense_in")(x)), expected, rtol=1e-5)
    assert loaded.diffusion_model().generate(2, num_steps=2).shape == (2, 2)


def test_the_page_names_what_exists():
    for path in re.findall(r"`((?:tests|benchmarks|keras_diffusion|docs)/[\w/.]+)`", PAGE):
        assert (Path(__file__).parent.parent / path).exists() or "ab2" in path or "toy_mlp" in path, path
