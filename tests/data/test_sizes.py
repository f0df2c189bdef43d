import numpy as np
import pytest

from keras_diffusion.data.sizes import Resized, resize
from keras_diffusion.data.sources import ArraySource


def test_resize_crops_the_centre_of_the_longer_side():
    image = np.zeros((4, 12, 3), "uint8")
    image[:, 4:8] = 200
    assert (resize(image, (4, 4)) == 200).all()
    assert resize(image, (8, 2)).shape == (8, 2, 3)


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
