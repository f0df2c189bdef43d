"""Reads coloured shapes back from pixels, and counts what agrees with captions.

A pixel is a mixture of white and one colour. Neighbouring pixels of one colour form a thing; its shape is that whose
drawing, with the same centre and area, overlaps it best.
"""

import functools
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from keras_diffusion.configs.checks import check_array
from keras_diffusion.data.shapes import COLOURS, RELATIONS, SHAPES, SIZES, coverage, parse_caption

_LEAST = 0.009  # share of the picture that is a thing: a quarter of the area of a small star


class Found(NamedTuple):
    """A shape in a picture: what it is, its centre and radius in widths of the picture, and how well it fits."""

    size: str
    colour: str
    shape: str
    x: float
    y: float
    radius: float
    overlap: float


def read_shapes(image):
    """The shapes in a picture.

    Args:
        image: uint8, or floats in [−1, 1], `(S, S, 3)`.

    Returns:
        list of `Found`, the largest first.

    Raises:
        ValueError: an image of another shape.
    """
    image = check_array("image", image)
    if image.ndim != 3 or image.shape[0] != image.shape[1] or image.shape[2] != 3:
        raise ValueError(f"A picture of shapes is square, with three channels. Received: shape={image.shape}")
    pixels = image.astype("float64") if image.dtype == np.uint8 else (image.astype("float64") + 1) * 127.5
    names, shares = list(COLOURS), np.stack([_share(pixels, np.array(colour)) for colour in COLOURS.values()])
    left = [np.abs(pixels - _mixture(share, np.array(c))).sum(-1) for share, c in zip(shares, COLOURS.values())]
    nearest = np.argmin(left, axis=0)
    found = []
    for number, name in enumerate(names):
        parts, count = ndimage.label((nearest == number) & (shares[number] > 0.5))
        for part in range(1, count + 1):
            if (parts == part).sum() >= _LEAST * parts.size:
                found.append(_thing(name, shares[number] * _around(parts == part)))
    return sorted(found, key=lambda thing: -thing.radius)


def _share(pixels, colour):
    """How much of `colour`, against white, is in each pixel: `(S, S)` in [0, 1]."""
    direction = colour - 255.0
    return np.clip((pixels - 255) @ direction / (direction @ direction), 0, 1)


def _mixture(share, colour):
    return 255 + share[..., None] * (colour - 255.0)


def _around(part):
    """A part and the pixels of its edge, which it covers by less than half."""
    return ndimage.binary_dilation(part, iterations=1)


def _thing(colour, cover):
    """What a part of a picture is, from how much of each pixel it covers `(S, S)`."""
    size = len(cover)
    area = cover.sum()
    y, x = (np.array(ndimage.center_of_mass(cover)) + 0.5) / size
    best = None
    for shape in SHAPES:
        unit, (dx, dy) = _moments(shape)
        radius = np.sqrt(area / unit) / size
        drawn = coverage(shape, (x - dx * radius, y - dy * radius), radius, size)
        overlap = np.minimum(drawn, cover).sum() / np.maximum(drawn, cover).sum()
        if best is None or overlap > best[0]:
            best = overlap, shape, radius
    overlap, shape, radius = best
    limit = np.sqrt(SIZES["small"] * SIZES["large"])
    return Found("small" if radius < limit else "large", colour, shape, x, y, radius, overlap)


@functools.cache
def _moments(shape, size=256):
    """Area and centroid (x, y) of a shape of radius 1."""
    radius = 0.4
    cover = coverage(shape, (0.5, 0.5), radius, size)
    y, x = (np.array(ndimage.center_of_mass(cover)) + 0.5) / size - 0.5
    return cover.mean() / radius**2, (x / radius, y / radius)


def check_shapes(images, captions):
    """Counts what pictures show of what their captions say.

    Args:
        images: uint8, or floats in [−1, 1], `(N, S, S, 3)`.
        captions: N texts, as those of `Shapes`.

    Returns:
        dict of bool arrays: "colours" `(N,)`, exactly those of the caption; "shapes" `(N,)` and "sizes" `(N,)`, each
        named one, found by its colour, is as said; "positions" `(M,)`, one for each of the M captions with two shapes:
        the first is where it should be; "all" `(N,)`.

    Raises:
        ValueError: other images, or captions with other words.
    """
    images = check_array("images", images)
    if images.ndim != 4 or len(images) != len(captions):
        raise ValueError(
            "Pictures (N, S, S, 3) are checked by one caption each. Received: "
            f"images of shape {images.shape} and {len(captions)} captions"
        )
    rows = [_check(read_shapes(image), parse_caption(caption)) for image, caption in zip(images, captions)]
    columns = dict(zip(("colours", "shapes", "sizes", "positions"), zip(*rows))) if rows else {}
    result = {name: np.array([v for v in values if v is not None], bool) for name, values in columns.items()}
    return result | {"all": np.array([all(value in (True, None) for value in row) for row in rows], bool)}


def _check(found, scene):
    """(colours, shapes, sizes, position) of one picture, True, False, or None for what the caption leaves open."""
    asked = [thing for thing in (scene.first, scene.second) if thing]
    colours = sorted(thing.colour for thing in found) == sorted(thing.colour for thing in asked)
    by_colour = {thing.colour: thing for thing in reversed(found)}  # the largest of each
    pairs = [(thing, by_colour.get(thing.colour)) for thing in asked]
    shapes = all(seen is not None and seen.shape == thing.shape for thing, seen in pairs)
    sizes = all(thing.size is None or (seen is not None and seen.size == thing.size) for thing, seen in pairs)
    return colours, shapes, sizes, _is_where(scene, *(seen for _, seen in pairs))


def _is_where(scene, first, second=None):
    if scene.second is None:
        return None
    if first is None or second is None:
        return False
    across = np.array([first.x - second.x, first.y - second.y])
    along = float(across @ np.array(RELATIONS[scene.relation]))
    return along > 0 and along >= np.abs(across).max()
