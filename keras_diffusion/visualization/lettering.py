"""Texts in a grid of images: titles of rows on the left, of columns above, captions under each image."""

import math
from typing import NamedTuple

import numpy as np

from keras_diffusion.runtime.optional import import_optional
from keras_diffusion.visualization.figures import TEXT

_LONGEST_TITLE = 32  # characters
_MOST_LINES = 3  # of a caption


class Cells(NamedTuple):
    """Where images lie in a grid without texts: `pad` pixels between them and around them."""

    rows: int
    cols: int
    height: int
    width: int
    pad: int

    @property
    def size(self):
        return self.rows * (self.height + self.pad) + self.pad, self.cols * (self.width + self.pad) + self.pad

    def corner(self, row, col):
        """(top, left) of an image."""
        return self.pad + row * (self.height + self.pad), self.pad + col * (self.width + self.pad)


class Lettering:
    """The texts of a grid, and the room that they take.

    Args:
        cells: the `Cells` of the grid.
        titles, column_titles, captions: lists of texts, or None.
    """

    def __init__(self, cells, titles=None, column_titles=None, captions=None):
        self.cells = cells
        self.titles = [_short(text) for text in titles or ()]
        self.size_of_titles = int(np.clip((cells.height + cells.pad) // 4, 8, 20))
        self.title_font = _font(self.size_of_titles)
        column_size = int(np.clip((cells.width + cells.pad) // 6, 8, 16))
        self.column_font = _font(column_size)
        room = cells.width + cells.pad
        self.column_titles = [_cut(text, self.column_font, room) for text in column_titles or ()]
        caption_size = int(np.clip(cells.width // 7, 8, 14))
        self.caption_font = _font(caption_size)
        self.captions = [_lines(text, self.caption_font, cells.width) for text in captions or ()]
        self.line_height = math.ceil(caption_size * 1.2)
        self.under = max((len(lines) for lines in self.captions), default=0) * self.line_height
        self.under += cells.pad if self.captions else 0
        self.above = math.ceil(column_size * 1.3) if self.column_titles else 0
        widest = max((math.ceil(self.title_font.getlength(text)) for text in self.titles), default=-self.size_of_titles)
        self.left = widest + self.size_of_titles

    @property
    def size(self):
        height, width = self.cells.size
        return height + self.above + self.cells.rows * self.under, width + self.left

    def corner(self, row, col):
        """(top, left) of an image."""
        top, left = self.cells.corner(row, col)
        return top + self.above + row * self.under, left + self.left

    def on(self, canvas, background):
        """`canvas`, a uint8 array of this size, with the texts on it."""
        image, draw = (
            import_optional(f"PIL.{n}", extra="viz", purpose="texts of grids") for n in ("Image", "ImageDraw")
        )
        ink = image.new("L", canvas.shape[1::-1], 0)
        pen = draw.Draw(ink)
        for row, text in enumerate(self.titles):
            place = self.left - self.size_of_titles / 2, self.corner(row, 0)[0] + self.cells.height / 2
            pen.text(place, text, fill=255, font=self.title_font, anchor="rm")
        for col, text in enumerate(self.column_titles):
            place = self.corner(0, col)[1] + self.cells.width / 2, self.above / 2
            pen.text(place, text, fill=255, font=self.column_font, anchor="mm")
        for i, lines in enumerate(self.captions):
            top, left = self.corner(*divmod(i, self.cells.cols))
            for k, line in enumerate(lines):
                place = left + self.cells.width / 2, top + self.cells.height + self.cells.pad + k * self.line_height
                pen.text(place, line, fill=255, font=self.caption_font, anchor="ma")
        return _inked(canvas, np.asarray(ink)[..., None], background)


def _inked(canvas, ink, background):
    if background is None:
        grey = np.array([int(TEXT[i : i + 2], 16) for i in (1, 3, 5)], "uint8")
        return np.where(ink > 0, np.concatenate([np.broadcast_to(grey, (*ink.shape[:2], 3)), ink], axis=-1), canvas)
    text = canvas + (ink / 255.0) * ((0.0 if background > 127 else 255.0) - canvas)
    if canvas.shape[-1] == 4:
        text[..., 3:] = np.maximum(canvas[..., 3:], ink)
    return np.where(ink > 0, np.round(text), canvas).astype("uint8")


def _font(size):
    return import_optional("PIL.ImageFont", extra="viz", purpose="texts of grids").load_default(size)


def _short(text):
    return text if len(text) <= _LONGEST_TITLE else f"{text[: _LONGEST_TITLE - 1]}…"


def _lines(text, font, width):
    """`text` in lines of at most `width` pixels; what does not fit ends in "…"."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    rest = len(lines) > _MOST_LINES
    return [_cut(line, font, width, rest and i == _MOST_LINES - 1) for i, line in enumerate(lines[:_MOST_LINES])]


def _cut(line, font, width, more=False):
    """`line`, shortened until it and, if it was or `more` follows, "…" are not wider than `width`."""
    if font.getlength(line) <= width and not more:
        return line
    while line and font.getlength(f"{line}…") > width:
        line = line[:-1]
    return f"{line}…"
