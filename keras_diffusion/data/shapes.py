"""Pictures of coloured shapes with captions, drawn on demand: text to image with a known truth.

    "a large green star"        "a small red circle left of a blue square"

Picture i is a function of i alone. Colours, shapes, sizes and places can be read back from pixels (shapes_reader.py),
so that a model of words is judged by counting what it got right, without another network.
"""

import functools
import itertools
import zlib
from typing import NamedTuple

import numpy as np

from keras_diffusion.configs.checks import check_flag, check_text, check_whole, shown
from keras_diffusion.core.noise import philox
from keras_diffusion.data.sources import Source

COLOURS = {
    "red": (214, 39, 40),
    "green": (44, 160, 44),
    "blue": (31, 90, 200),
    "yellow": (247, 208, 36),
    "purple": (140, 50, 170),
    "black": (30, 30, 34),
}
SIZES = {"small": 0.13, "large": 0.21}  # radius, in widths of the picture
RELATIONS = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}  # y points down
_FINE = 4  # points per pixel and axis, for smooth edges
_ONE_IN = 10  # captions of which training sees none


class Thing(NamedTuple):
    """One shape in a scene: a size or None, a colour, a shape."""

    size: str | None
    colour: str
    shape: str


class Scene(NamedTuple):
    """What a caption says: the first shape, and where it is from the second, or None twice."""

    first: Thing
    relation: str | None = None
    second: Thing | None = None


class Shapes(Source):
    """Coloured shapes on white, and their captions.

    Half of the pictures show one shape of a size, a colour and a form; half show two of different colours, and the
    caption says where the first is.

    Args:
        n: number of pictures, int ≥ 1.
        image_size: width and height in pixels, int from 16 to 1024.
        held_out: whether the captions are of the tenth that training never sees, or the others.

    Returns (of indexing):
        {"images": uint8 `(image_size, image_size, 3)`}; the captions are given by `texts`.

    Raises:
        ValueError: numbers out of range.

    Example:

    >>> kd.data.Shapes(1000).texts([0, 1])
    [('a small purple triangle below a black square',), ('a large yellow circle',)]
    """

    def __init__(self, n=10_000, image_size=32, held_out=False):
        self.n, self.image_size = check_whole("n", n, 1), check_whole("image_size", image_size, 16, 1024)
        self.held_out = check_flag("held_out", held_out)
        self._captions = [
            [text for text in captions(pairs) if is_held_out(text) == held_out] for pairs in (False, True)
        ]

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        text, rng = self._caption(int(index))
        return {"images": draw_scene(parse_caption(text), self.image_size, rng)}

    @property
    def captions(self):
        """The caption of each picture, a list of str."""
        return [self._caption(index)[0] for index in range(self.n)]

    def texts(self, indices):
        return [(self._caption(int(index))[0],) for index in indices]

    def _caption(self, index):
        """The caption of a picture, and the generator that goes on to draw it."""
        if not 0 <= index < self.n:
            raise IndexError(f"There are {self.n} pictures. Received: index={index}")
        rng = philox(int(self.held_out), index)
        known = self._captions[int(rng.random() < 0.5)]
        return known[int(rng.integers(len(known)))], rng


@functools.cache
def captions(pairs):
    """All captions of one shape, or of two, a list of str.

    Args:
        pairs: whether of two.
    """
    one = [f"{size} {colour} {shape}" for size, colour, shape in itertools.product(SIZES, COLOURS, SHAPES)]
    if not pairs:
        return [f"a {first}" for first in one]
    others = [f"{colour} {shape}" for colour, shape in itertools.product(COLOURS, SHAPES)]
    every = itertools.product(one, RELATIONS, others)
    return [f"a {a} {where} a {b}" for a, where, b in every if a.split()[1] != b.split()[0]]


def is_held_out(caption):
    """Whether a caption, a str, is of the tenth that training never sees."""
    return zlib.crc32(caption.encode()) % _ONE_IN == 0


def parse_caption(caption):
    """A caption as a `Scene`.

    Args:
        caption: "a small red circle", "a small red circle left of a blue square"; sizes may be left out.

    Returns:
        `Scene`.

    Raises:
        ValueError: other words, or two shapes of one colour.
    """
    check_text("caption", caption)
    relation = next((words for words in RELATIONS if f" {words} " in caption), None)
    parts = [caption] if relation is None else caption.split(f" {relation} ", 1)
    things = [_parse_thing(part, caption) for part in parts]
    if relation is None:
        return Scene(things[0])
    if things[0].colour == things[1].colour:
        raise ValueError(f"Two shapes of a caption have different colours. Received: {shown(caption)}")
    return Scene(things[0], relation, things[1])


def _parse_thing(text, caption):
    words = text.strip().split()
    words = words[1:] if words[:1] in (["a"], ["the"]) else words
    size = words.pop(0) if words and words[0] in SIZES else None
    if len(words) != 2 or words[0] not in COLOURS or words[1] not in SHAPES:
        raise ValueError(
            f"A caption names shapes as “a small red circle”, of the colours {', '.join(COLOURS)} and the shapes "
            f"{', '.join(SHAPES)}, perhaps with {', '.join(RELATIONS)} between two. Received: {shown(caption)}"
        )
    return Thing(size, *words)


def draw_scene(scene, image_size, rng):
    """A picture of a scene; what the scene leaves open is drawn.

    Args:
        scene: `Scene`.
        image_size: width and height, int.
        rng: `numpy.random.Generator`.

    Returns:
        uint8 `(image_size, image_size, 3)`.
    """
    things = [thing for thing in (scene.first, scene.second) if thing]
    radii = [SIZES[thing.size or list(SIZES)[int(rng.integers(len(SIZES)))]] for thing in things]
    image = np.full((image_size, image_size, 3), 255.0)
    for thing, radius, centre in zip(things, radii, _centres(scene, radii, rng)):
        cover = coverage(thing.shape, centre, radius, image_size)[..., None]
        image = (1 - cover) * image + cover * np.array(COLOURS[thing.colour])
    return image.round().astype("uint8")


def _centres(scene, radii, rng):
    """(x, y) of each shape, in widths of the picture."""
    if scene.second is None:
        return [rng.uniform(radii[0] + 0.03, 0.97 - radii[0], 2)]
    direction = np.array(RELATIONS[scene.relation])
    along = 0.23 + rng.uniform(-0.02, 0.02, 2)  # from the middle; two large shapes have a gap of a pixel or two
    across = rng.uniform(-0.1, 0.1, 2)
    middle = 0.5 + across[:, None] * np.abs(direction[::-1])
    return [middle[0] + along[0] * direction, middle[1] - along[1] * direction]


def coverage(shape, centre, radius, image_size):
    """Share of each pixel that a shape covers.

    Args:
        shape: one of `SHAPES`.
        centre: (x, y), in widths of the picture.
        radius: of the circle around it, in widths of the picture.
        image_size: width and height, int.

    Returns:
        floats in [0, 1] `(image_size, image_size)`.
    """
    rows, columns = (_pixels(c, radius, image_size) for c in (centre[1], centre[0]))  # the rest is empty
    u, v = (_points(pixels, c, radius, image_size) for pixels, c in ((columns, centre[0]), (rows, centre[1])))
    inside = SHAPES[shape](u[None, :], v[:, None]).astype("float32")
    result = np.zeros((image_size, image_size), "float32")
    result[rows, columns] = inside.reshape(len(v) // _FINE, _FINE, len(u) // _FINE, _FINE).mean(axis=(1, 3))
    return result


def _pixels(centre, radius, image_size):
    """The pixels of one axis, a slice, that a shape may touch."""
    return slice(max(0, int((centre - radius) * image_size)), min(image_size, int((centre + radius) * image_size) + 1))


def _points(pixels, centre, radius, image_size):
    """Places within pixels of one axis, in units of the radius."""
    fine = (np.arange(pixels.start * _FINE, pixels.stop * _FINE) + 0.5) / (image_size * _FINE)
    return (fine - centre) / radius


def _star(u, v):
    """Five points at radius 1, the corners between them at 0.45."""
    step, inner = np.pi / 5, 0.45
    angle = np.abs((np.arctan2(u, -v) + step) % (2 * step) - step)  # from the nearest point of the star
    edge = inner * np.sin(step) / (inner * np.sin(step) * np.cos(angle) + (1 - inner * np.cos(step)) * np.sin(angle))
    return np.hypot(u, v) <= edge


#: Whether points (u, v) lie inside, in units of the radius; v points down.
SHAPES = {
    "circle": lambda u, v: u**2 + v**2 <= 1,
    "square": lambda u, v: np.maximum(np.abs(u), np.abs(v)) <= 0.8,
    "triangle": lambda u, v: (v <= 0.7) & (np.abs(u) <= 0.56 * (v + 1)),
    "star": _star,
    "cross": lambda u, v: (np.minimum(np.abs(u), np.abs(v)) <= 0.3) & (np.maximum(np.abs(u), np.abs(v)) <= 0.95),
}
