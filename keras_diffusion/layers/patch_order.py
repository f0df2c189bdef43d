"""Orders in which the patches of a grid become a sequence.

    raster            row by row, each from the left: neighbours in a column are a whole row apart
    zigzag            row by row, every second row from the right: each patch is a neighbour of the one before it
    hilbert           along a space-filling curve: what is near in the sequence is near in the image, at every scale
    hilbert_cropped   the curve of the smallest square of 2^k that holds the grid, without cells outside (as FlaxDiff
                      does); on grids of another shape it jumps

Attention sees all positions at once and cares little. What walks along the sequence (a state space) or counts its
positions (rotary embeddings) does.

On a square of 2^k both curves are Hilbert's. On other rectangles "hilbert" cuts the grid into two parts along a long
side, or into three along a short one, until a part is one cell wide; it never jumps, but where a side is odd, one step
may go across a corner.

References: Hilbert 1891, "Über die stetige Abbildung einer Linie auf ein Flächenstück"; Červený 2018,
github.com/jakubcerveny/gilbert (the rule for rectangles).
"""

import functools

import numpy as np

from keras_diffusion.runtime import limits

PATCH_ORDERS = ("raster", "zigzag", "hilbert", "hilbert_cropped")


def check_patch_order(order):
    """Raises ValueError unless `order` is one of `PATCH_ORDERS`."""
    if order not in PATCH_ORDERS:
        raise ValueError(f"Unknown patch order: {order!r}. Known orders: {', '.join(PATCH_ORDERS)}.")


@functools.lru_cache(maxsize=64)
def patch_order(order, height, width):
    """The sequence of a grid's patches.

    Args:
        order: one of `PATCH_ORDERS`.
        height: rows of the grid.
        width: columns of the grid.

    Returns:
        int32 `(height * width,)`, read-only: entry i is the raster index (row·width + column) of the i-th patch of the
        sequence.

    Raises:
        ValueError: unknown order.

    Example:

    >>> patch_order("zigzag", 2, 3)
    array([0, 1, 2, 5, 4, 3], dtype=int32)
    """
    check_patch_order(order)
    side = 1 << (max(height, width) - 1).bit_length()
    limits.check(side * side if order == "hilbert_cropped" else height * width, "patches", "The number of patches")
    grid = np.arange(height * width, dtype="int32").reshape(height, width)
    if order == "zigzag":
        grid = np.concatenate([row[:: -1 if i % 2 else 1] for i, row in enumerate(grid)])
    elif order == "hilbert":
        sides = ((0, 1), (1, 0), width, height) if width >= height else ((1, 0), (0, 1), height, width)
        grid = np.array([grid[cell] for cell in _walk((0, 0), *sides)], "int32")
    elif order == "hilbert_cropped":
        square = 1 << (max(height, width) - 1).bit_length()
        cells = _walk((0, 0), (0, 1), (1, 0), square, square)
        grid = np.array([grid[cell] for cell in cells if cell[0] < height and cell[1] < width], "int32")
    sequence = grid.reshape(-1)
    sequence.flags.writeable = False
    return sequence


def inverse_order(sequence):
    """The places of the patches in the sequence: `x[sequence][inverse_order(sequence)]` is `x`.

    Args:
        sequence: what `patch_order` returns.

    Returns:
        int32, shaped like `sequence`: entry k is the place of the patch with the raster index k.
    """
    inverse = np.empty_like(sequence)
    inverse[sequence] = np.arange(len(sequence), dtype=sequence.dtype)
    return inverse


def _walk(start, along, across, length, breadth):
    """Cells (row, column) of a rectangle, from `start` to the other end of the side that goes `along`."""
    if breadth == 1 or length == 1:
        step, count = (along, length) if breadth == 1 else (across, breadth)
        for i in range(count):
            yield _move(start, step, i)
        return
    half, part = length // 2, breadth // 2
    if 2 * length > 3 * breadth:
        half += half % 2 if length > 2 else 0  # an even part ends where the next one begins
        yield from _walk(start, along, across, half, breadth)
        yield from _walk(_move(start, along, half), along, across, length - half, breadth)
        return
    part += part % 2 if breadth > 2 else 0
    back, down = (-along[0], -along[1]), (-across[0], -across[1])
    yield from _walk(start, across, along, part, half)
    yield from _walk(_move(start, across, part), along, across, length, breadth - part)
    corner = _move(_move(start, along, length - 1), across, part - 1)
    yield from _walk(corner, down, back, part, length - half)


def _move(cell, step, count):
    return (cell[0] + step[0] * count, cell[1] + step[1] * count)
