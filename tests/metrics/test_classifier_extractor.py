"""The classifier that is trained on the data itself, and the networks of keras.applications."""

import keras
import numpy as np
import pytest

import keras_diffusion as kd


@pytest.fixture(scope="module")
def digits():
    images, labels = pytest.importorskip("sklearn.datasets").load_digits(return_X_y=True)
    images = (images.reshape(-1, 8, 8, 1) / 8.0 - 1.0).astype("float32")
    order = np.random.default_rng(0).permutation(len(images))
    return images[order], labels[order]


@pytest.fixture(scope="module")
def stripes():
    """Bright and dark pictures with stripes this way or that."""
    rng = np.random.default_rng(0)
    bright, way = rng.integers(0, 2, (2, 64))
    x = np.where(way[:, None, None], np.arange(8) % 2, (np.arange(8) % 2)[:, None])
    images = 0.5 * (2.0 * bright - 1.0)[:, None, None] + 0.3 * (2 * x - 1)
    return (images + 0.05 * rng.standard_normal(images.shape))[..., None], {"bright": bright, "way": way}


@pytest.mark.slow
def test_it_reads_held_out_digits(digits):
    images, labels = digits
    extractor = kd.metrics.get_extractor(
        "classifier", images=images[:1300], labels=labels[:1300], steps=40, batch_size=32
    )
    accuracy = extractor.accuracy(images[1300:], labels[1300:])
    assert accuracy > 0.85 and extractor.num_classes == 10
    features = extractor(images[:900])
    same = kd.metrics.get("fd")(features[:450], features[450:]).value
    noise = 0.5 * np.random.default_rng(0).standard_normal((450, 8, 8, 1))
    noisy = extractor(np.clip(images[:450] + noise, -1, 1))
    assert kd.metrics.get("fd")(noisy, features[450:]).value > 2 * same


@pytest.mark.slow
def test_attributes_cache_and_fingerprint(stripes, tmp_path, monkeypatch):
    images, labels = stripes
    options = {"images": images, "labels": labels, "steps": 25, "features": 8, "batch_size": 32, "cache": tmp_path}
    extractor = kd.metrics.get_extractor("classifier", **options)
    assert extractor.accuracy(images, labels["bright"]) > 0.9, "the logits are those of the first labels"
    assert extractor(images).shape == (64, 8) and extractor.images is None
    (path,) = tmp_path.iterdir()

    def fail(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr("keras_diffusion.metrics.extractors.classifier._train", fail)
    again = kd.metrics.get_extractor("classifier", **options)
    assert again.fingerprint() == extractor.fingerprint()
    with pytest.raises(AssertionError, match="trained again"):
        kd.metrics.get_extractor("classifier", **{**options, "images": -images})
    np.savez(path, w0=np.zeros(3))
    with pytest.raises(ValueError, match="A cached classifier has the weights of its network.*Delete it"):
        kd.metrics.get_extractor("classifier", **options)


def test_training_is_deterministic(stripes, monkeypatch):
    images, labels = stripes
    options = {"images": images, "labels": labels["way"], "steps": 3, "features": 4, "batch_size": 16}
    first, second = (kd.metrics.get_extractor("classifier", **options) for _ in range(2))
    for a, b in zip(first.network.get_weights(), second.network.get_weights()):
        np.testing.assert_array_equal(a, b)
    monkeypatch.setattr("keras_diffusion.metrics.extractors.classifier._train", lambda *_: None)
    untrained = [kd.metrics.get_extractor("classifier", seed=seed, **options).fingerprint() for seed in (0, 1)]
    assert len({first.fingerprint(), *untrained}) == 3


def test_what_cannot_be_learnt_is_refused(stripes):
    images, labels = stripes
    with pytest.raises(ValueError, match="class id ≥ 0 for each picture.*64 pictures, 'label' of shape"):
        kd.metrics.get_extractor("classifier", images=images, labels=labels["way"][:3])
    with pytest.raises(ValueError, match="of at least two classes"):
        kd.metrics.get_extractor("classifier", images=images, labels=np.zeros(64, int))
    with pytest.raises(ValueError, match="1 NaN"):
        broken = images.copy()
        broken[0, 0, 0] = np.nan
        kd.metrics.get_extractor("classifier", images=broken, labels=labels)


@pytest.mark.slow
def test_a_network_of_keras_applications():
    extractor = kd.metrics.get_extractor("applications", network="MobileNetV2", size=32, batch_size=2)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("uint8")
    expected = extractor.network(keras.applications.mobilenet_v2.preprocess_input(images.astype("float32")))
    found = extractor(images)
    assert found.shape == (2, extractor.width) == (2, 1280) and extractor.preprocessing == "clean"
    expected = keras.ops.convert_to_numpy(expected)  # random weights leave little: compare with the largest
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
    with pytest.raises(ValueError, match="Did you mean 'MobileNetV2'"):
        kd.metrics.get_extractor("applications", network="MobilNetV2")
