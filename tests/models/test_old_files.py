"""Files and configs from before modules moved and constructors were rewritten stay readable and equal."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_diffusion as kd

OLD = Path(__file__).parents[1] / "golden" / "old_files"
CONFIGS = json.loads((OLD / "configs.json").read_text(encoding="utf-8"))


def without_modules(config):
    """A config less the places of classes in the package: those are looked up by their registered names."""
    if isinstance(config, dict):
        return {key: without_modules(value) for key, value in config.items() if key != "module"}
    if isinstance(config, (list, tuple)):
        return [without_modules(value) for value in config]
    return config


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_config_comes_back_as_it_was(name):
    old = CONFIGS[name]
    made = keras.saving.deserialize_keras_object(old)
    new = json.loads(json.dumps(keras.saving.serialize_keras_object(made)))
    assert without_modules(new) == without_modules(old)


def test_preset():
    model = kd.DiffusionModel.from_preset(OLD / "preset")
    assert list(model.class_names) == ["a", "b", "c"] and model.sampling_defaults["spacing"] == "karras"
    samples = model.generate(conditions={"labels": ["a", 1, 2]}, num_steps=4, seed=5, guidance_scale=2.0, verbose=0)
    np.testing.assert_allclose(samples, np.load(OLD / "samples.npz")["preset"], atol=1e-4)


def test_keras_file_with_adapters():
    model = keras.saving.load_model(OLD / "model.keras")
    assert model.network.adapters
    samples = model.generate(2, num_steps=4, seed=5, verbose=0, sampler="dpmpp_3m")
    np.testing.assert_allclose(samples, np.load(OLD / "samples.npz")["keras"], atol=1e-4)
