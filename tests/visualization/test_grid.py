import io

import keras
import numpy as np
import pytest
from PIL import Image

from keras_diffusion.visualization import film_strip, image_grid, png_bytes, save_png, to_uint8


def numbered(n, channels=1):
    """n uint8 images 2×3 whose grey value is their number."""
    return np.broadcast_to(np.arange(n, dtype="uint8")[:, None, None, None], (n, 2, 3, channels)).copy()


def test_to_uint8():
    assert to_uint8(np.array([-1.0, 0.0, 1.0, 1.7, -3.0])).tolist() == [0, 128, 255, 255, 0]
    tensor = keras.ops.convert_to_tensor([-1.0, 1.0])
    assert to_uint8(tensor).tolist() == [0, 255]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_grid_places_images_row_by_row(channels):
    grid = image_grid(numbered(6, channels), cols=3, pad=2, background=200)
    assert grid.shape == (2 * 4 + 2, 3 * 5 + 2, channels) and grid.dtype == np.uint8
    for i in range(6):
        top, left = 2 + (i // 3) * 4, 2 + (i % 3) * 5
        assert (grid[top : top + 2, left : left + 3] == i).all()
    assert (grid[:2] == 200).all() and (grid[:, -2:] == 200).all()


def test_places_left_over_are_background():
    grid = image_grid(numbered(3), rows=2, cols=2, pad=0, background=99)
    assert (grid[2:, 3:] == 99).all()


@pytest.mark.parametrize(
    ("n", "given", "layout"),
    [(10, {}, (3, 4)), (9, {}, (3, 3)), (10, {"rows": 2}, (2, 5)), (7, {"cols": 4}, (2, 4)), (1, {}, (1, 1))],
)
def test_layout(n, given, layout):
    assert image_grid(numbered(n), pad=0, **given).shape[:2] == (layout[0] * 2, layout[1] * 3)


def test_enlarging_repeats_pixels():
    image = np.arange(6, dtype="uint8").reshape(1, 2, 3, 1)
    grid = image_grid(image, scale=3, pad=0)
    np.testing.assert_array_equal(grid[..., 0], np.kron(image[0, ..., 0], np.ones((3, 3), "uint8")))


@pytest.mark.parametrize(("size", "side"), [(8, 64), (28, 84), (64, 64), (100, 100)])
def test_automatic_scale(size, side):
    assert image_grid(np.zeros((1, size, size, 1)), scale="auto", pad=0).shape[:2] == (side, side)


def test_film_strip_has_a_row_per_sample_and_the_ends_of_the_way():
    trajectory = np.zeros((10, 2, 2, 2, 1), "uint8") + np.arange(10, dtype="uint8")[:, None, None, None, None]
    trajectory[:, 1] += 100
    strip = film_strip(trajectory, steps=4, pad=0)
    assert strip.shape == (4, 8, 1)
    assert strip[0, ::2, 0].tolist() == [0, 3, 6, 9] and strip[2, ::2, 0].tolist() == [100, 103, 106, 109]


def test_film_strip_with_chosen_steps():
    trajectory = np.zeros((5, 1, 1, 1, 1), "uint8") + np.arange(5, dtype="uint8")[:, None, None, None, None]
    assert film_strip(trajectory, steps=[1, -1], pad=0).ravel().tolist() == [1, 4]
    assert film_strip(trajectory, steps=1, pad=0).ravel().tolist() == [4]
    assert film_strip(trajectory, steps=99, pad=0).ravel().tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_save_png(tmp_path, channels, mode):
    image = np.random.default_rng(0).integers(0, 256, (4, 5, channels), "uint8")
    path = save_png(tmp_path / "new" / "a.png", image)
    with Image.open(path) as read:
        assert read.mode == mode
        np.testing.assert_array_equal(np.asarray(read).reshape(image.shape), image)
    assert [p.name for p in path.parent.iterdir()] == ["a.png"]


def test_png_bytes_of_a_float_image():
    with Image.open(io.BytesIO(png_bytes(np.full((2, 2), 1.0)))) as read:
        assert np.asarray(read).tolist() == [[255, 255], [255, 255]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: image_grid(np.zeros((4, 8, 8))), r"N ≥ 1. Received: shape=\(4, 8, 8\). Append an axis"),
        (lambda: image_grid(np.zeros((4, 8, 8, 2))), r"1, 3 or 4 channels.*shape=\(4, 8, 8, 2\)"),
        (lambda: image_grid(np.zeros((0, 8, 8, 1))), r"N ≥ 1. Received: shape=\(0, 8, 8, 1\)"),
        (
            lambda: image_grid(numbered(5), rows=2, cols=2),
            r"a place for each image. Received: 5 images, rows=2, cols=2",
        ),
        (lambda: image_grid(numbered(5), cols=0), r"cols must be an integer ≥ 1 or None. Received: cols=0"),
        (lambda: image_grid(numbered(5), pad=-1), r"pad must be an integer ≥ 0. Received: pad=-1"),
        (lambda: image_grid(numbered(5), scale=0.5), r"scale must be an integer ≥ 1 or 'auto'. Received: scale=0.5"),
        (lambda: to_uint8(np.array([0.0, np.nan])), r"must be finite to be drawn. Received: 1 NaN"),
        (lambda: to_uint8(np.zeros(3, "int64")), r"uint8 or floats.*dtype=int64"),
        (lambda: film_strip(np.zeros((4, 8, 8, 1))), r"trajectory \(steps, batch.*shape=\(4, 8, 8, 1\)"),
        (lambda: film_strip(np.zeros((4, 1, 8, 8, 1)), steps=0), r"at least one step. Received: steps=0"),
        (lambda: film_strip(np.zeros((4, 1, 8, 8, 1)), steps=[4]), r"indices into the 4 steps.*steps=\[4\]"),
        (lambda: png_bytes(np.zeros((2, 2, 2))), r"A PNG holds one image.*shape=\(2, 2, 2\)"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_nothing_is_written_for_a_bad_image(tmp_path):
    with pytest.raises(ValueError, match="finite"):
        save_png(tmp_path / "a.png", np.full((2, 2, 1), np.nan))
    assert list(tmp_path.iterdir()) == []
