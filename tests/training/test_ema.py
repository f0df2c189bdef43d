"""The average of the weights: kept in float32, and followed where it was never used."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_diffusion as kd
from keras_diffusion.training import WeightAverage


def weights_of(network):
    return [ops.convert_to_numpy(w).astype("float32") for w in network.weights]


def put(network, shift):
    """Weights of the network's own, plus a number."""
    network.set_weights([w + shift for w in weights_of(network)])


@pytest.mark.parametrize("policy", ["float32", "bfloat16", "float16", "mixed_bfloat16"])
def test_averages_move_by_less_than_half_precision_can_say(policy):
    network = kd.networks.MLP((2,), width=8, depth=1, dtype=policy)
    average, before = WeightAverage(network, 0.999), weights_of(network)
    put(network, 1.0)
    average.num_calls.assign(10_000)  # past the warm-up
    for _ in range(50):
        average.update(network)
    for old, new, goal in zip(before, weights_of(average.network), weights_of(network), strict=True):
        np.testing.assert_allclose(new, old + (1 - 0.999**50) * (goal - old), atol=1e-4)
    assert {w.dtype for w in average.network.weights} == {"float32"}


def test_averages_of_functional_models_are_float32():
    inputs = {"x": keras.Input((3,), name="x"), "noise_level": keras.Input((), name="noise_level")}
    joined = keras.layers.Concatenate()([inputs["x"], keras.ops.expand_dims(inputs["noise_level"], -1)])
    network = keras.Model(inputs, keras.layers.Dense(3, dtype="bfloat16")(joined))
    average = WeightAverage(network)
    assert {w.dtype for w in network.weights} == {"bfloat16"} and {w.dtype for w in average.network.weights} == {
        "float32"
    }


def test_half_precision_models_train_sample_and_load(blobs, tmp_path):
    network = kd.networks.MLP((2,), width=16, depth=2, num_classes=3, dtype="bfloat16")
    model = kd.DiffusionModel(network, seed=0)
    model.compile("adam")
    model.fit(blobs, epochs=2, verbose=0)
    points = model.generate(2, conditions={"labels": 1}, num_steps=3, seed=0)
    model.save_to_preset(tmp_path / "half")
    loaded = kd.DiffusionModel.from_preset(tmp_path / "half")
    for a, b in zip(weights_of(model.average.network), weights_of(loaded.average.network), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(points, loaded.generate(2, conditions={"labels": 1}, num_steps=3, seed=0))


def points_of(model, weights="ema"):
    return model.generate(2, conditions={"labels": 1}, num_steps=2, seed=0, weights=weights)


def test_an_unused_average_is_what_the_network_holds(make_model, blobs, tmp_path):
    model = make_model()
    put(model.network, 0.1)
    np.testing.assert_array_equal(points_of(model), points_of(model, "raw"))
    # Saved, loaded, and put there once more.
    model.save_to_preset(tmp_path / "put")
    loaded = kd.DiffusionModel.from_preset(tmp_path / "put")
    np.testing.assert_array_equal(points_of(loaded), points_of(model, "raw"))
    put(loaded.network, 0.1)
    np.testing.assert_array_equal(points_of(loaded), points_of(loaded, "raw"))
    # What training goes on from: the average of one step at a learning rate of 0 is the network.
    model.compile(keras.optimizers.SGD(0.0))
    model.fit(blobs, batch_size=96, verbose=0)
    for a, b in zip(weights_of(model.average.network), weights_of(model.network), strict=True):
        np.testing.assert_array_equal(a, b)


def test_weights_put_into_the_average_count(make_model):
    model = make_model()
    before = points_of(model)
    put(model.average.network, 0.1)
    assert np.abs(points_of(model) - before).max() > 1e-4
    put(model.network, 0.2)
    assert np.abs(points_of(model) - points_of(model, "raw")).max() > 1e-4


def test_the_average_of_a_trained_model_is_restarted_when_asked(make_model, blobs):
    model = make_model()
    model.fit(blobs, verbose=0)
    put(model.network, 0.1)
    assert np.abs(points_of(model) - points_of(model, "raw")).max() > 1e-4
    model.restart_average()
    np.testing.assert_array_equal(points_of(model), points_of(model, "raw"))
    assert int(ops.convert_to_numpy(model.average.num_calls)) == 0
    with pytest.raises(ValueError, match="keeps no average"):
        make_model(ema=None).restart_average()


@pytest.mark.slow
def test_adapters_start_on_weights_that_were_put_into_the_network():
    network = kd.networks.UNet((4, 4, 1), widths=(8,), num_res_blocks=1, num_heads=2)
    model = kd.DiffusionModel(network, seed=0)
    put(network, 0.02)
    raw = model.generate(1, num_steps=2, seed=0, weights="raw")
    model.enable_lora(2)
    np.testing.assert_allclose(model.generate(1, num_steps=2, seed=0), raw, atol=1e-6)


def test_adapters_of_a_trained_average_stay_on_it(make_model):
    network = kd.networks.UNet((4, 4, 1), widths=(8,), num_res_blocks=1, num_heads=2)
    model = kd.DiffusionModel(network, seed=0)
    put(model.average.network, 0.02)
    model.average.num_calls.assign(5)
    averaged = model.generate(1, num_steps=2, seed=0)
    model.enable_lora(2)
    np.testing.assert_allclose(model.generate(1, num_steps=2, seed=0), averaged, atol=1e-6)
    model.merge_lora()
    np.testing.assert_allclose(model.generate(1, num_steps=2, seed=0), averaged, atol=1e-5)
