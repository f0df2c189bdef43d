"""The worked examples of CONTRIBUTING.md run, and do what the page says."""

import re
from pathlib import Path

import compiled_sampling
import keras
import numpy as np
import pytest
from golden_data import array, mixture, tensor
from keras import ops
from pages import blocks
from samplers.test_sampler_orders import STEPS, exact_path, grid, run, slope

import keras_diffusion as kd
from keras_diffusion import checkpoints, networks, samplers, schedulers
from keras_diffusion.checkpoints.families import family
from keras_diffusion.containers.safetensors import write_safetensors
from keras_diffusion.guidance.pair import GUIDANCES
from keras_diffusion.networks import network as network_module
from keras_diffusion.samplers.sampler import SAMPLERS
from keras_diffusion.schedulers import noise_schedule

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
REGISTRIES = (SAMPLERS, noise_schedule.SCHEDULES, GUIDANCES, network_module.NETWORKS)


@pytest.fixture
def example(monkeypatch):
    """A function that runs the example under a heading; what it registers is forgotten after the test."""
    for registry in REGISTRIES:
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
        monkeypatch.setattr(registry, "_aliases", dict(registry._aliases))
    monkeypatch.setattr(family, "_FAMILIES", dict(family._FAMILIES))

    def run_example(heading):
        section = PAGE[PAGE.index(f"## {heading}\n") :].split("\n## ")[0]
        ((code, _),) = blocks(section, "python")
        names = {"__name__": "example"}
        exec(compile(code, "CONTRIBUTING.md", "exec"), names)
        return names

    return run_example


@pytest.fixture
def sampler(example):
    example("A sampler")
    return samplers.get("ab2")


def test_the_sampler_has_the_order_that_it_claims(sampler):
    errors = []
    for n in STEPS[2]:
        levels = grid(n)
        errors.append(np.abs(run(sampler, levels) - exact_path(levels)[-1]).max())
    assert slope(STEPS[2], errors) == pytest.approx(2, abs=0.35)


@pytest.mark.parametrize("schedule", ["vp", "flow"])
def test_the_sampler_is_the_twin_of_lms(sampler, schedule):
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


def test_the_schedule_is_whole(example):
    example("A noise schedule")
    t = np.linspace(0, 1, 9)
    np.testing.assert_array_equal(schedulers.get("power").levels(t).sigma, schedulers.get("sqrt").levels(t).sigma)
    schedule = schedulers.get("power", power=2.5)
    levels = schedule.levels(t)
    np.testing.assert_allclose(schedule.time(levels.log_snr), t, atol=1e-12)
    for device, host in zip(schedule(tensor(t)), levels[1:], strict=True):
        np.testing.assert_allclose(array(device), host, atol=1e-6)
    copy = type(schedule).from_config(schedule.get_config())
    np.testing.assert_array_equal(copy.levels(t), levels)
    model = kd.DiffusionModel(networks.MLP((2,), width=8, depth=1), noise_schedule={"name": "power", "power": 2.5})
    assert model.generate(2, num_steps=2).shape == (2, 2)
    with pytest.raises(ValueError, match="power"):
        schedulers.get("power", power=-1.0)


def test_the_guidance_fades(example):
    example("A guidance")
    x = np.random.default_rng(0).standard_normal((3, 2))
    conditional, unconditional = mixture("gmm2", 1), mixture("gmm2")

    def x0(name, alpha, sigma, scale=3.0, **options):
        pair = {"conditional": conditional, "unconditional": unconditional, "scale": scale}
        level = kd.Levels(*(tensor(v) for v in (0.5, alpha, sigma)))
        return array(kd.guidance.get(name, **pair, **options)(alpha * x, level).x0)

    whole, none = (x0("classifier_free", 0.6, 0.6, scale=scale) for scale in (3.0, 1.0))
    np.testing.assert_allclose(x0("fading", 0.6, 0.6, power=0.0), whole, rtol=1e-5)
    np.testing.assert_allclose(x0("fading", 0.6, 0.6), 0.5 * (whole + none), rtol=1e-4)  # half of the variance is noise
    np.testing.assert_allclose(x0("fading", 0.6, 0.8), x0("fading", 1.0, 0.8 / 0.6), rtol=1e-4)
    model = kd.DiffusionModel(networks.MLP((2,), width=8, depth=1, num_classes=2), seed=0)
    guidance = {"name": "fading", "power": 2.0}
    samples = model.generate(conditions={"labels": [0, 1]}, guidance_scale=3.0, guidance=guidance, num_steps=2)
    assert samples.shape == (2, 2)


def test_the_network_moves_with_its_points(example, tmp_path):
    cls = example("A network")["PointSet"]
    network = networks.get("point_set", input_shape=(5, 2), width=8, num_classes=3)
    rng = np.random.default_rng(0)
    network.get_layer("dense_out").kernel.assign(rng.standard_normal((8, 2)))
    inputs = {"x": tensor(rng.standard_normal((4, 5, 2))), "noise_level": tensor(np.linspace(-1, 1, 4))}
    inputs["labels"] = ops.convert_to_tensor(np.arange(4), "int32")
    order = [3, 0, 4, 1, 2]
    moved = array(network({**inputs, "x": ops.take(inputs["x"], ops.convert_to_tensor(order), axis=1)}))
    expected = array(network(inputs))
    np.testing.assert_allclose(moved, expected[:, order], atol=1e-5)
    for key in inputs:
        changed = array(network({**inputs, key: ops.flip(inputs[key], axis=0)}))
        assert np.abs(changed - expected).max() > 1e-3, key
    network.save(tmp_path / "network.keras")
    loaded = keras.models.load_model(tmp_path / "network.keras")
    assert type(loaded) is cls and loaded.get_config() == network.get_config()
    np.testing.assert_array_equal(array(loaded(inputs)), expected)
    model = kd.DiffusionModel(networks.get("point_set", input_shape=(5, 2), width=8))
    model.compile("adam")
    model.fit(np.zeros((8, 5, 2), "float32"), batch_size=4, verbose=0)
    assert model.generate(2, num_steps=2).shape == (2, 5, 2)


def test_the_family_loads_a_file(example, tmp_path):
    example("A family of checkpoints")
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
    new = ("ab2", "power", "fading", "point_set", "toy_mlp")
    for path in re.findall(r"`((?:tests|benchmarks|keras_diffusion|docs)/[\w/.]+)`", PAGE):
        assert (ROOT / path).exists() or Path(path).stem in new, path
