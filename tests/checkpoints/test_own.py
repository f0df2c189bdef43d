"""This library's own files go through `load` and `inspect` like any other."""

import json
import zipfile

import keras
import numpy as np
import pytest

import keras_diffusion as kd


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    network = kd.networks.MLP((2,), width=8, depth=1, num_classes=3)
    model = kd.DiffusionModel(
        network, noise_schedule="linear", predictor="epsilon", loss_weighting="min_snr", ema=0.5, seed=0
    )
    model.compile("adam")
    rng = np.random.default_rng(0)
    model.fit({"images": rng.normal(size=(32, 2)).astype("float32"), "labels": rng.integers(0, 3, 32)}, verbose=0)
    return model


@pytest.fixture(scope="module", params=["preset", "model.keras"])
def path(request, model, tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / request.param
    model.save_to_preset(path) if request.param == "preset" else model.save(path)
    return path


def test_a_network_with_shared_parts_comes_back(tmp_path):
    """Keras marks them in a `.keras` file by their addresses, which are no sizes."""
    x, level = keras.Input((2,), name="x"), keras.Input((), name="noise_level")
    start = keras.initializers.GlorotUniform(seed=1)
    h = keras.layers.Dense(2, kernel_initializer=start)(keras.layers.Dense(2, kernel_initializer=start)(x))
    network = keras.Model({"x": x, "noise_level": level}, keras.layers.Add()([h, keras.layers.Reshape((1,))(level)]))
    kd.DiffusionModel(network, seed=0).save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        assert b"shared_object_id" in archive.read("config.json")
    loaded = kd.checkpoints.load(tmp_path / "model.keras", verbose=0)
    np.testing.assert_array_equal(loaded.network.get_weights()[0], network.get_weights()[0])


@pytest.mark.parametrize("weights", ["ema", "raw"])
def test_load_gives_the_set_of_weights_that_is_asked_for(model, path, weights, capsys):
    loaded = kd.checkpoints.load(path, weights=weights)
    assert (
        f"{'averaged weights (EMA)' if weights == 'ema' else 'raw weights'} of a keras_diffusion"
        in capsys.readouterr().out
    )
    again = loaded.diffusion_model()
    assert type(again.loss_weighting) is type(model.loss_weighting) and again.ema == 0.5
    options = {"conditions": {"labels": [0, 1, 2]}, "num_steps": 3, "seed": 0}
    expected = model.generate(**options, weights=weights)
    np.testing.assert_allclose(again.generate(**options), expected, atol=1e-5)
    other = model.generate(**options, weights="raw" if weights == "ema" else "ema")
    assert np.abs(other - expected).max() > 1e-4


def test_inspect_says_what_it_is(path):
    inspection = kd.checkpoints.inspect(path)
    assert inspection.family == "keras_diffusion" and inspection.weights == ("ema", "raw")
    assert inspection.config["num_classes"] == 3 and "MLP" in inspection.title
    assert "keras_diffusion: a DiffusionModel" in str(inspection) and inspection.parameters > 0


def test_a_damaged_file_is_refused(model, tmp_path):
    model.save_to_preset(tmp_path / "preset")
    weights = tmp_path / "preset" / "model.weights.h5"
    weights.write_bytes(weights.read_bytes()[:3000])
    with pytest.raises(kd.checkpoints.CheckpointError, match="cut off or damaged"):
        kd.checkpoints.load(tmp_path / "preset")
    config = json.loads((tmp_path / "preset" / "config.json").read_text())
    config["config"]["network"]["config"]["width"] = 9
    model.save_to_preset(tmp_path / "other")
    (tmp_path / "other" / "config.json").write_text(json.dumps(config))
    with pytest.raises(kd.checkpoints.CheckpointError, match="cannot be built"):
        kd.checkpoints.load(tmp_path / "other")


def test_objects_that_a_config_holds_twice(tmp_path):
    """Keras marks them by their addresses in memory, in the config of a network that calls ready-made layers."""
    x, level = keras.Input((2,), name="x"), keras.Input((), name="noise_level")
    network = keras.Model({"x": x, "noise_level": level}, keras.layers.Dense(2)(x) + keras.layers.Reshape((1,))(level))
    model = kd.DiffusionModel(network, seed=0)
    model.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        assert b"shared_object_id" in archive.read("config.json")
    loaded = kd.checkpoints.load(tmp_path / "model.keras").diffusion_model()
    np.testing.assert_array_equal(*(one.generate(2, num_steps=2, seed=0, verbose=0) for one in (loaded, model)))
