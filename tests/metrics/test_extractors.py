"""What all feature extractors do, seen on Keras models and functions."""

import keras
import numpy as np
import pytest

import keras_diffusion as kd
from keras_diffusion.metrics.extractors import EXTRACTORS
from keras_diffusion.metrics.extractors.extractor import check_images


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 6, 6, 3)).astype("uint8")


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Conv2D(4, 3, name="maps"), keras.layers.Flatten(), keras.layers.Dense(7, name="classes")]
    return keras.Sequential([keras.Input((6, 6, 3)), *layers], name="tiny")


def mean_colour(images):
    return images.mean(axis=(1, 2))


def test_a_model_in_batches_gives_what_the_model_gives(model, images):
    extractor = kd.metrics.get_extractor(model, classes=True, batch_size=2)
    floats = images / 127.5 - 1.0
    expected = keras.ops.convert_to_numpy(model(floats.astype("float32")))
    np.testing.assert_allclose(extractor(images), expected, rtol=1e-4, atol=1e-5)
    both = extractor.extract(floats, ("features", "logits"))
    np.testing.assert_allclose(both["logits"], expected, rtol=1e-4, atol=1e-5)
    assert (extractor.name, extractor.width, extractor.num_classes, extractor.preprocessing) == ("tiny", 7, 7, "none")
    assert repr(extractor) == "KerasExtractor(name='tiny', width=7, preprocessing='none')"


def test_a_layer_of_a_model(model, images):
    extractor = kd.metrics.get_extractor(model, layer="maps", batch_size=5)
    maps = keras.Model(model.inputs[0], model.get_layer("maps").output)((images / 127.5 - 1.0).astype("float32"))
    expected = keras.ops.convert_to_numpy(maps).mean(axis=(1, 2))
    np.testing.assert_allclose(extractor(images), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="no layer 'map'. Its last ones: .*maps"):
        kd.metrics.get_extractor(model, layer="map")
    with pytest.raises(ValueError, match="has features alone"):
        extractor.logits(images)


def test_a_model_without_a_graph(model, images):
    class Own(keras.Model):
        def __init__(self):
            super().__init__(name="own")
            self.inner = model

        def call(self, x):
            return self.inner(x)

    extractor = kd.metrics.get_extractor(Own())
    np.testing.assert_allclose(extractor(images), kd.metrics.get_extractor(model)(images), rtol=1e-4, atol=1e-5)
    assert extractor.width == 7
    with pytest.raises(ValueError, match="functional and sequential models that are built. Received: Own"):
        kd.metrics.get_extractor(Own(), classes=True)


def test_new_weights_are_seen_and_change_the_fingerprint(images):
    model = keras.Sequential([keras.Input((6, 6, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
    extractor = kd.metrics.get_extractor(model)
    before, name = extractor(images), extractor.fingerprint()
    model.set_weights([2 * weight for weight in model.get_weights()])
    np.testing.assert_allclose(extractor(images), 2 * before, rtol=1e-4)
    assert kd.metrics.get_extractor(model).fingerprint() != name
    assert kd.metrics.get_extractor(model, preprocessing=kd.metrics.Preprocessing("clean", 6)).fingerprint() != name


def test_a_function(images):
    extractor = kd.metrics.get_extractor(mean_colour, batch_size=2, version="1")
    np.testing.assert_allclose(extractor(images), (images / 127.5 - 1.0).mean(axis=(1, 2)), atol=1e-6)
    assert extractor.width == 3 and extractor.name == "mean_colour"
    again = kd.metrics.get_extractor(mean_colour, version="1")
    assert again.fingerprint() == extractor.fingerprint()
    assert kd.metrics.get_extractor(mean_colour).fingerprint() != kd.metrics.get_extractor(mean_colour).fingerprint()


def test_preprocessing_of_a_function(images):
    seen = []

    def look(batch):
        seen.append(batch.shape)
        return batch.reshape(len(batch), -1)

    preprocessing = kd.metrics.Preprocessing("clean", 4, "imagenet")
    extractor = kd.metrics.get_extractor(look, preprocessing=preprocessing, batch_size=5)
    np.testing.assert_allclose(extractor(images).reshape(5, 4, 4, 3), preprocessing(images))
    assert seen == [(5, 4, 4, 3)] and extractor.preprocessing == "clean"


def test_whatever_has_the_parts_is_an_extractor():
    class Own:
        name, width, preprocessing = "own", 1, "none"

        def __call__(self, images):
            return images.mean(axis=(1, 2, 3))[:, None]

        def fingerprint(self):
            return "own"

    own = Own()
    assert kd.metrics.get_extractor(own) is own
    extractor = kd.metrics.get_extractor({"name": "function", "function": mean_colour})
    assert kd.metrics.get_extractor(extractor) is extractor
    with pytest.raises(ValueError, match="not for finished extractors"):
        kd.metrics.get_extractor(extractor, batch_size=3)


def test_names_and_mistakes():
    names = kd.metrics.extractor_names()
    assert {"inception", "dinov2", "clip", "keras", "function"} <= set(names) and names == sorted(names)
    assert all("Example:" in cls.__doc__ for cls in EXTRACTORS.classes())
    with pytest.raises(ValueError, match="Did you mean 'inception'"):
        kd.metrics.get_extractor("inceptoin")
    with pytest.raises(ValueError, match="has no option 'feature'.*Did you mean 'features'"):
        kd.metrics.get_extractor("inception", feature=64)


@pytest.mark.parametrize("bad", [np.zeros((0, 6, 6, 3)), np.zeros((6, 6, 3)), np.zeros((2, 6, 6, 3), "int32")])
def test_what_is_no_picture_is_refused(bad):
    with pytest.raises(ValueError, match=r"Features are of pictures \(N, H, W, C\)"):
        check_images(bad)


def test_what_is_not_finite_is_refused(images):
    pictures = np.zeros((3, 2, 2, 1))
    pictures[1, 0, 0] = np.nan
    with pytest.raises(ValueError, match="Pictures must be finite. Received: 1 NaN"):
        kd.metrics.get_extractor(mean_colour)(pictures)
    with np.errstate(divide="ignore"), pytest.raises(ValueError, match="Features are finite .* NaN or infinite"):
        kd.metrics.get_extractor(lambda batch: 1.0 / np.zeros((len(batch), 2)))(images)
