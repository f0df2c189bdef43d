import numpy as np
import pytest

from keras_diffusion.data.values import check_images, standardize_images, standardize_labels


def test_uint8_is_scaled():
    out = standardize_images(np.array([[0, 127, 255]], "uint8"), [0])
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, [[-1.0, 127 / 127.5 - 1, 1.0]], atol=1e-7)


def test_floats_are_kept():
    images = np.linspace(-1, 1, 8).reshape(1, 2, 4, 1)
    out = standardize_images(images, [0])
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, images, atol=1e-7)


def test_no_range_for_data_that_are_no_pictures():
    assert standardize_images(np.full((1, 2), 50.0), [0], value_range=None).max() == 50.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_names_the_first_sample(bad):
    images = np.zeros((3000, 2, 2, 1), "float32")
    images[2050, 1, 1, 0] = bad
    images[2900] = bad
    for value_range in ((-1.0, 1.0), None):
        with pytest.raises(ValueError, match="NaN or infinity in sample 2050"):
            check_images(images, value_range)


def test_out_of_range_names_sample_and_remedy():
    images = np.zeros((4, 2, 2, 1), "float32")
    images[2] = 255.0
    with pytest.raises(ValueError, match=r"must lie in \[-1, 1\].*from 0 to 255, first in sample 12.*x / 127.5 - 1"):
        standardize_images(images, [10, 11, 12, 13])


def test_integers_other_than_uint8():
    with pytest.raises(ValueError, match=r"uint8 .* Received: dtype=int64"):
        standardize_images(np.zeros((1, 2, 2, 1), "int64"), [0])


def test_labels():
    assert standardize_labels(np.array([0, 2], "int64"), [0, 1], 3).dtype == np.int32


@pytest.mark.parametrize(
    ("labels", "num_classes", "message"),
    [
        ([0, 3], 3, r"\[0, 3\). Received: label 3 of sample 8"),
        ([-1, 0], None, r"\[0, number of classes\). Received: label -1 of sample 7"),
        ([[0, 1], [1, 0]], None, r"one integer class id.*argmax"),
        ([0.0, 1.0], None, r"one integer class id.*float64"),
    ],
)
def test_bad_labels(labels, num_classes, message):
    with pytest.raises(ValueError, match=message):
        standardize_labels(labels, [7, 8], num_classes)
