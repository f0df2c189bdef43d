import numpy as np
import pytest

from keras_diffusion.data import load
from keras_diffusion.data.sizes import Resized, resize
from keras_diffusion.data.sources import ArraySource


def test_resize_crops_the_centre_of_the_longer_side():
    image = np.zeros((4, 12, 3), "uint8")
    image[:, 4:8] = 200
    assert (resize(image, (4, 4)) == 200).all()
    assert resize(image, (8, 2)).shape == (8, 2, 3)


def test_resize_averages_fine_patterns():
    stripes = np.tile(np.array([0, 250], "uint8"), 16)[None, :, None].repeat(32, axis=0)
    assert set(np.unique(resize(stripes, (8, 8))[2:-2, 2:-2])) <= {124, 125, 126}


def test_resize_of_floats_stays_in_range():
    image = np.random.default_rng(0).choice([-1.0, 1.0], (8, 8, 1)).astype("float32")
    large = resize(image, (16, 16))
    assert large.shape == (16, 16, 1) and large.dtype == np.float32
    assert large.min() >= -1.0 and large.max() <= 1.0
    np.testing.assert_allclose(large.mean(), image.mean(), atol=0.1)


def test_resized_source_passes_the_rest_through():
    source = Resized(ArraySource({"images": np.zeros((2, 4, 6, 1), "uint8"), "labels": [0, 1]}), (2, 2))
    assert source.batch([0, 1])["images"].shape == (2, 2, 2, 1)
    assert source[1]["labels"] == 1 and source.num_classes == 2


def test_resizing_vectors():
    with pytest.raises(ValueError, match="Only images"):
        resize(np.zeros(3), (2, 2))


def test_random_crops_take_any_part_of_the_longer_side():
    strip = np.repeat(np.arange(40, dtype="uint8")[None], 8, axis=0)[..., None]
    data = {"images": np.stack([strip] * 64), "concat": np.stack([strip] * 64)}
    batches = load(data, image_size=8, crop="random", batch_size=64, seed=1)
    batch = batches[0]
    starts = np.rint((batch["images"][:, 4, 0, 0] + 1) * 127.5)
    assert starts.min() < 6 and starts.max() > 26 and len(set(starts)) > 15
    np.testing.assert_array_equal(batch["images"], batch["concat"])  # cropped alike
    batches.epoch = 1
    assert not np.array_equal(batch["images"], batches[0]["images"])
    again = load(data, image_size=8, crop="random", batch_size=64, seed=1)
    again.rows = np.array([3, 60])
    np.testing.assert_array_equal(again[0]["images"], batch["images"][[3, 60]])


def test_crops_leave_other_draws_as_they_are():
    images = np.random.default_rng(0).integers(0, 255, (32, 8, 8, 3), "uint8")
    options = {"image_size": 8, "batch_size": 8, "horizontal_flip": True}
    for random, centre in zip(load(images, crop="random", **options), load(images, **options)):
        np.testing.assert_array_equal(random["images"], centre["images"])


def test_crop_errors():
    with pytest.raises(ValueError, match="without image_size"):
        load("digits", crop="random")
    with pytest.raises(ValueError, match="'center' or 'random'.*Received: crop='top'"):
        load("digits", image_size=4, crop="top")
