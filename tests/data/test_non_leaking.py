import numpy as np
import pytest

from keras_diffusion.data import Batches, NonLeaking
from keras_diffusion.data.non_leaking import _rotation, _transformed

pytest.importorskip("PIL.Image")
OFF = {"vertical_flip": False, "horizontal_flip": False, "scale": 0, "rotation": 0, "stretch": 0, "translation": 0}


def smooth(side=32):
    y, x = np.mgrid[:side, :side] / side * 2 * np.pi
    return np.stack([np.sin(x), np.cos(2 * y) * np.sin(x), np.cos(x + y)], axis=-1).astype("float32")


def changed(n=64, seed=0, **options):
    images = np.stack([smooth()] * n)
    return NonLeaking(**{"probability": 1.0, **OFF, **options})(images, np.random.default_rng(seed))


def test_a_quarter_turn_and_a_shift_move_pixels():
    image = smooth()
    turned = _transformed(image, _rotation(np.pi / 2), np.zeros(2))
    np.testing.assert_allclose(turned, np.rot90(image, -1), atol=0.02)  # y points down
    moved = _transformed(image, np.eye(2), np.array([3.0, -2.0]))
    np.testing.assert_allclose(moved[:-2, 3:], image[2:, :-3], atol=0.02)
    np.testing.assert_allclose(
        moved[:-2, 1:3], image[2:, 1:-1][:, 1::-1], atol=0.1
    )  # beyond the edge, its mirror image


def test_the_vector_says_what_was_done():
    images, vectors = changed(horizontal_flip=True, vertical_flip=True)
    assert images.dtype == vectors.dtype == np.float32 and vectors.shape == (64, 9)
    for image, (mirrored, upside_down) in zip(images, vectors[:, :2]):
        expected = smooth()[:, ::-1] if mirrored else smooth()
        np.testing.assert_array_equal(image, expected[::-1] if upside_down else expected)
    assert 20 < vectors[:, 0].sum() < 44 and 20 < vectors[:, 1].sum() < 44 and not vectors[:, 2:].any()

    images, vectors = changed(8, rotation=1)
    angles = np.arctan2(vectors[:, 4], vectors[:, 3] + 1)
    for image, angle in zip(images, angles):
        np.testing.assert_allclose(image, _transformed(smooth(), _rotation(angle), np.zeros(2)), atol=1e-5)

    images, vectors = changed(8, translation=0.1)
    for image, shift in zip(images, vectors[:, 7:]):
        np.testing.assert_allclose(image, _transformed(smooth(), np.eye(2), shift * 3.2), atol=1e-5)


@pytest.mark.parametrize(("option", "columns"), [("scale", [2]), ("stretch", [5, 6]), ("translation", [7, 8])])
def test_strengths_of_zero_draw_nothing(option, columns):
    _, vectors = changed(**{option: 0.1})
    assert np.flatnonzero(vectors.any(axis=0)).tolist() == columns
    assert 0.7 < np.sqrt((vectors**2).mean(axis=0).sum() / (1 if option != "translation" else 2)) < 1.3


def test_each_is_done_with_its_probability():
    images, vectors = NonLeaking(0.12)(np.stack([smooth(4)] * 2000), np.random.default_rng(0))
    assert np.isfinite(images).all() and np.abs(images).max() <= 1
    done = (vectors != 0).mean(axis=0)
    assert 0.45 < done[0] < 0.55 and 0.04 < done[1] < 0.08
    assert (np.abs(done[2:] - 0.12) < 0.03).all()
    untouched = ~vectors.any(axis=1)
    np.testing.assert_array_equal(images[untouched], np.stack([smooth(4)] * untouched.sum()))


def test_batches_hold_the_vectors():
    data = {"images": np.stack([smooth(8)] * 8), "labels": np.arange(8)}
    one, other = (Batches(data, 4, seed=1, augment=NonLeaking(0.5)) for _ in range(2))
    other.rows = np.array([0, 2])
    for key in ("images", "augmentation", "labels"):
        np.testing.assert_array_equal(one[1][key][[0, 2]], other[1][key])
    assert one[1]["augmentation"].shape == (4, 9)


def test_errors():
    with pytest.raises(ValueError, match="`probability` must be .* Received: probability=2"):
        NonLeaking(2)
    with pytest.raises(ValueError, match="pictures"):
        Batches(np.zeros((4, 3), "float32"), 2, augment=NonLeaking())[0]
