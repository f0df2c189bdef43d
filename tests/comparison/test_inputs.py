"""What all backends receive: drawn once, in NumPy."""

import keras
import numpy as np
import pytest

import keras_diffusion as kd
from keras_diffusion.comparison.inputs import Settings, first_rows, make_inputs, read_arrays, write_inputs

SETTINGS = Settings(steps=3, batch_size=8, num_samples=5, num_steps=4, seed=1)


def test_batches_are_cut_to_rows_and_repeated():
    batches = [
        {"images": np.arange(3), "labels": np.arange(3) + 10},
        {"images": np.arange(3, 5), "labels": np.arange(3, 5) + 10},
    ]
    rows = first_rows(batches, 7)
    np.testing.assert_array_equal(rows["images"], [0, 1, 2, 3, 4, 0, 1])
    np.testing.assert_array_equal(rows["labels"], rows["images"] + 10)
    np.testing.assert_array_equal(first_rows(iter(batches), 4)["images"], [0, 1, 2, 3])
    np.testing.assert_array_equal(first_rows(np.arange(4), 6)["images"], [0, 1, 2, 3, 0, 1])
    with pytest.raises(ValueError, match="at least one sample"):
        first_rows([], 3)


def test_everything_random_is_in_the_arrays(make_model, blobs):
    model = make_model(condition_dropout=0.5)
    spec, arrays = make_inputs(model, blobs, SETTINGS)
    assert arrays["train/x0"].shape == arrays["train/eps"].shape == (24, 2)
    np.testing.assert_array_equal(arrays["train/x0"], blobs["images"][:24])
    t = arrays["train/t"].reshape(3, 8)
    assert np.all((t > 0) & (t < 1))
    np.testing.assert_allclose(
        np.diff(np.sort(t, axis=1), axis=1), 1 / 8, atol=1e-6
    )  # each batch sees all noise levels evenly
    dropped = arrays["train/labels"] != blobs["labels"][:24]
    assert 0 < dropped.sum() < 24 and set(arrays["train/labels"][dropped]) == {model.network.null_labels}
    np.testing.assert_array_equal(arrays["sample/labels"], [0, 1, 2, 0, 1])
    np.testing.assert_array_equal(arrays["sample/latents"], kd.core.noise.initial_noise(1, range(5), (2,)))
    assert arrays["forward/x"].shape == (2, 2) and arrays["forward/noise_level"].shape == (2,)
    assert spec["sample_shape"] == [2] and not spec["random_data"]
    again = make_inputs(model, blobs, SETTINGS)[1]
    assert all(np.array_equal(arrays[name], again[name]) for name in arrays)
    assert not np.array_equal(
        make_inputs(model, blobs, Settings(steps=3, batch_size=8, seed=2))[1]["train/eps"], arrays["train/eps"]
    )


def test_the_folder_holds_model_optimizer_and_arrays(make_model, blobs, tmp_path, difference):
    model = make_model()
    rate = keras.optimizers.schedules.CosineDecay(0.1, 10)
    spec, arrays = make_inputs(model, blobs, SETTINGS, keras.optimizers.AdamW(rate, clipnorm=1.0))
    write_inputs(tmp_path / "inputs", model, spec, arrays)
    assert difference(kd.DiffusionModel.from_preset(tmp_path / "inputs" / "model"), model) == 0
    optimizer = keras.saving.deserialize_keras_object(spec["optimizer"])
    assert type(optimizer).__name__ == "AdamW" and optimizer.clipnorm == 1.0
    assert spec["optimizer"]["module"] == "keras.optimizers"  # not the class of this backend
    assert optimizer._learning_rate.get_config()["initial_learning_rate"] == 0.1
    assert set(read_arrays(tmp_path / "inputs", "sample")) == {"latents", "labels"}


def test_random_numbers_stand_in_for_data(make_model):
    spec, arrays = make_inputs(make_model(num_classes=3), None, SETTINGS)
    assert spec["random_data"] and arrays["train/x0"].shape == (24, 2) and np.abs(arrays["train/x0"]).max() <= 1
    any_size = kd.DiffusionModel(kd.networks.UNet((None, None, 1), widths=(8,), num_res_blocks=1, attention=False))
    with pytest.raises(ValueError, match="any size: pass `size`"):
        make_inputs(any_size, None, SETTINGS)
    assert make_inputs(any_size, None, SETTINGS, size=4)[1]["sample/latents"].shape == (5, 4, 4, 1)


@pytest.mark.parametrize("name, value", [("steps", 1), ("batch_size", 0), ("num_samples", 1.5), ("num_steps", True)])
def test_settings_out_of_range(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be an integer .* Received: {name}="):
        Settings(**{name: value})


def test_settings_check_sampler_and_seed():
    with pytest.raises(ValueError, match="dpmpp_2m"):
        Settings(sampler="dpmpp_2")
    with pytest.raises(ValueError, match="seed must be"):
        Settings(seed=-1)


def test_models_that_do_not_fit(make_model):
    class Own(kd.DiffusionModel):
        pass

    network = make_model().network
    with pytest.raises(ValueError, match="plain DiffusionModel.*Received: Own"):
        make_inputs(Own(network), None, SETTINGS)
