import numpy as np
import pytest

import keras_diffusion as kd
from keras_diffusion.visualization import film_strip, image_grid

GREY = np.full((6, 32, 32, 1), 200, "uint8")


def dark(picture):
    return int((picture[..., 0] < 100).sum())


def test_texts_are_drawn_around_the_images_and_leave_them_as_they_are():
    plain = image_grid(GREY, cols=3, pad=2)
    options = {"titles": ["above", "below"], "column_titles": ["a", "b", "c"], "captions": list("uvwxyz")}
    for name, texts in options.items():
        grid = image_grid(GREY, cols=3, pad=2, **{name: texts})
        other = image_grid(GREY, cols=3, pad=2, **{name: [*texts[:-1], "i"]})
        assert (grid == 200).sum() >= 6 * 32 * 32, name  # no text covers an image
        assert grid.size > plain.size and dark(grid) > 10 and grid.shape == other.shape
        assert (grid != other).any(), name  # the text itself changes the picture
    everything = image_grid(GREY, cols=3, pad=2, **options)
    for axis in (0, 1):
        assert everything.shape[axis] > plain.shape[axis]


def test_long_captions_are_wrapped_and_cut():
    one, two = (image_grid(GREY[:1], captions=[text]) for text in ("ab", "ab cd ef gh"))
    assert two.shape[0] > one.shape[0] and two.shape[1] == one.shape[1]
    three, endless = (image_grid(GREY[:1], captions=[text]) for text in ("ab cd " * 4, "ab cd " * 40))
    assert three.shape == endless.shape
    unbroken = image_grid(GREY[:1], captions=["x" * 100])
    assert unbroken.shape[1] == one.shape[1] and dark(unbroken[:, -1:]) == 0


def test_without_a_background_the_page_shows_through():
    grid = image_grid(GREY, cols=3, pad=2, background=None, captions=list("uvwxyz"))
    assert grid.shape[-1] == 4 and set(np.unique(grid[grid[..., 3] == 255][:, 0])) <= {200, 0x79}
    assert (grid[..., 3] == 255).sum() >= 6 * 32 * 32 and (grid[..., 3] == 0).mean() > 0.1
    half = np.full((1, 4, 4, 4), 128, "uint8")
    np.testing.assert_array_equal(image_grid(half, pad=0, background=None), half[0])


def test_film_strip_writes_the_level_after_each_step():
    xs = np.full((10, 2, 32, 32, 1), 200, "uint8")
    levels = kd.schedulers.get_spacing("linspace").levels(kd.schedulers.get("cosine"), 10)
    strip = film_strip(xs, steps=3, levels=levels)
    shifted = film_strip(xs, steps=3, levels=levels.t[:-1])
    assert strip.shape[0] > film_strip(xs, steps=3).shape[0] and strip.shape == shifted.shape
    assert (strip != shifted).any()
    chosen = np.round(np.linspace(9, 0, 3)).astype(int)[::-1]
    texts = ["?"] * 10
    for i in chosen:
        texts[i] = f"t = {levels.t[i + 1]:.2f}"
    np.testing.assert_array_equal(strip, film_strip(xs, steps=3, levels=texts))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: image_grid(GREY, rows=2, titles=["a"]),
            r"titles need one text per row. Received: 1 titles for 2",
        ),
        (lambda: image_grid(GREY, cols=2, column_titles="abc"), r"per column. Received: 3 column_titles for 2 columns"),
        (lambda: image_grid(GREY, captions=["a"]), r"per image. Received: 1 captions for 6 images"),
        (lambda: image_grid(GREY, background=300), r"from 0 to 255, or None. Received: background=300"),
        (lambda: film_strip(GREY[None], levels=["a", "b"]), r"Received: 2 after steps, for a trajectory of 1 steps"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
