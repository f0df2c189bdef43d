"""Shapes with captions: what is drawn is what is said, and the reader sees it."""

import numpy as np
import pytest

from keras_diffusion import data
from keras_diffusion.data.shapes import COLOURS, SHAPES, captions, is_held_out, parse_caption
from keras_diffusion.data.shapes_reader import read_shapes


@pytest.mark.parametrize("size", [24, 32])
def test_the_reader_agrees_with_every_caption(size):
    source = data.Shapes(300, size)
    images = source.batch(np.arange(300))["images"]
    right = data.check_shapes(images, source.captions)
    assert min(value.mean() for value in right.values()) > (0.999 if size == 32 else 0.98)
    assert set(right) == {"colours", "shapes", "sizes", "positions", "all"} and len(right["positions"]) > 100
    noisy = images / 127.5 - 1 + 0.1 * np.random.default_rng(0).standard_normal(images.shape)
    assert data.check_shapes(np.clip(noisy, -1, 1).astype("float32"), source.captions)["all"].mean() > 0.98


def test_the_reader_sees_what_is_wrong():
    source = data.Shapes(400)
    images = source.batch(np.arange(400))["images"]
    pairs = [i for i, text in enumerate(source.captions) if " of " in text or "above" in text or "below" in text][:100]
    other = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}

    def turned(text):
        return next(text.replace(a, b) for a, b in other.items() if a in text)

    right = data.check_shapes(images[pairs], [turned(source.captions[i]) for i in pairs])
    assert right["positions"].mean() == 0 and right["shapes"].mean() == right["colours"].mean() == 1
    right = data.check_shapes(images[pairs], [source.captions[i].replace("small", "large") for i in pairs])
    assert 0.3 < right["sizes"].mean() < 0.7 and right["all"].mean() == right["sizes"].mean()
    for name, floor in (("noise", np.random.default_rng(0).integers(0, 255, images.shape)), ("white", 255)):
        floor = data.check_shapes(np.broadcast_to(floor, images.shape).astype("uint8"), source.captions)
        assert max(value.mean() for value in floor.values()) < 0.02, name
    chance = data.check_shapes(images[::-1], source.captions)
    assert chance["colours"].mean() < 0.2 and chance["all"].mean() < 0.05


def test_a_found_shape_has_its_place():
    (found,) = read_shapes(data.Shapes(9)[[len(t.split()) for t in data.Shapes(9).captions].index(4)]["images"])
    assert found.colour in COLOURS and found.shape in SHAPES and found.overlap > 0.8
    assert 0 < found.x < 1 and 0 < found.y < 1 and 0.1 < found.radius < 0.25


def test_held_out_captions_are_never_trained_on():
    train, test = data.load("shapes", batch_size=100), data.load("shapes", split="test", batch_size=100)
    assert (len(train.source), len(test.source)) == (100_000, 1_000)
    assert not set(train.source.captions) & set(test.source.captions) and all(map(is_held_out, test.source.captions))
    every = captions(False) + captions(True)
    assert len(every) == len(set(every)) == 6_060 and 0.08 < np.mean([is_held_out(text) for text in every]) < 0.12
    with pytest.raises(ValueError, match="shapes have the splits"):
        data.load("shapes", split="all")


def test_a_picture_depends_on_its_number_alone():
    small, large = data.Shapes(5), data.Shapes(50)
    for i in (4, 1):
        np.testing.assert_array_equal(small[i]["images"], large[i]["images"])
    assert small.captions == large.captions[:5]
    batch = data.load("shapes", image_size=48, batch_size=8, captions=True)[0]
    assert (
        batch["images"].shape == (8, 48, 48, 3) and data.check_shapes(batch["images"], batch["captions"])["all"].all()
    )


@pytest.mark.parametrize(
    "caption",
    [
        "a red hexagon",
        "a pink circle",
        "red",
        "",
        "a red circle left of a red square",
        "a red circle near a blue star",
        3,
    ],
)
def test_other_words(caption):
    with pytest.raises(ValueError, match="caption"):
        parse_caption(caption)


def test_pictures_and_captions_belong_together():
    with pytest.raises(ValueError, match="checked by one caption each. Received: images of shape"):
        data.check_shapes(np.zeros((2, 32, 32, 3), "uint8"), ["a red circle"])
    with pytest.raises(ValueError, match="is square, with three channels"):
        read_shapes(np.zeros((32, 16, 3), "uint8"))
