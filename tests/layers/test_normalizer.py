import keras
import numpy as np
import pytest
from keras import ops

from keras_diffusion.layers import Normalizer

MEAN, VARIANCE = np.array([0.5, 0.4, 0.3], "float32"), np.array([0.08, 0.0, 0.25], "float32")


def images(seed=0, shape=(5, 4, 6, 3)):
    return np.random.RandomState(seed).uniform(-1, 1, shape).astype("float32")


def test_encode_is_the_affine_map_of_the_units_in_which_it_was_measured():
    x = images()
    z = ops.convert_to_numpy(Normalizer(MEAN, VARIANCE).encode(x))
    unit = (x + 1) / 2
    np.testing.assert_allclose(z[..., 0], (unit[..., 0] - 0.5) / np.sqrt(0.08), atol=1e-5)
    np.testing.assert_allclose(
        z[..., 1], (unit[..., 1] - 0.4) / 1e-7, rtol=1e-4
    )  # a constant channel: Keras's smallest deviation
    z = ops.convert_to_numpy(Normalizer(100.0, 400.0, value_range=(0, 255))(x))
    np.testing.assert_allclose(z, (unit * 255 - 100) / 20, atol=1e-4)


def test_decode_is_the_inverse():
    normalizer = Normalizer(MEAN, VARIANCE)
    np.testing.assert_allclose(
        ops.convert_to_numpy(normalizer.decode(normalizer.encode(images()))), images(), atol=1e-5
    )


@pytest.mark.parametrize("shape", [(3,), (1, 1, 1, 3)])
def test_attributes_and_file_round_trip(shape, tmp_path):
    normalizer = Normalizer(MEAN.reshape(shape), VARIANCE.reshape(shape), name="normalizer")
    assert normalizer.mean.shape == shape and normalizer.mean.dtype == normalizer.variance.dtype == np.float32
    np.testing.assert_array_equal(normalizer.variance.ravel(), VARIANCE)
    keras.Sequential([keras.Input((4, 6, 3)), normalizer]).save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras").get_layer("normalizer")
    assert loaded.get_config() == normalizer.get_config()
    np.testing.assert_array_equal(loaded.mean, normalizer.mean)


def test_from_data_is_what_keras_adapts():
    data = (np.random.RandomState(0).beta(2, 5, (40, 4, 6, 3)) * 255).astype("uint8")
    reference = keras.layers.Normalization()
    reference.adapt(data / 255.0)
    normalizer = Normalizer.from_data(data)
    np.testing.assert_allclose(normalizer.mean, ops.convert_to_numpy(reference.mean).ravel(), rtol=1e-4)
    np.testing.assert_allclose(normalizer.variance, ops.convert_to_numpy(reference.variance).ravel(), rtol=1e-3)
    in_batches = Normalizer.from_data([{"images": data[:15]}, {"images": data[15:] / 127.5 - 1.0}])
    np.testing.assert_allclose(in_batches.mean, normalizer.mean, rtol=1e-5)
    np.testing.assert_allclose(in_batches.variance, normalizer.variance, rtol=1e-4)
    z = ops.convert_to_numpy(normalizer.encode(data / 127.5 - 1.0))
    assert np.abs(z.mean(axis=(0, 1, 2))).max() < 1e-4 and np.abs(z.var(axis=(0, 1, 2)) - 1).max() < 1e-3


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: Normalizer(0.0, -1.0), "finite means and variances ≥ 0"),
        (lambda: Normalizer(np.nan, 1.0), "finite means and variances ≥ 0"),
        (lambda: Normalizer(0.0, 1.0, value_range=(1, 0)), r"Received: value_range=\(1, 0\)"),
        (lambda: Normalizer.from_data([]), "measured on images. Received: none"),
    ],
)
def test_errors(make, text):
    with pytest.raises(ValueError, match=text):
        make()
