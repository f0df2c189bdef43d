"""A network of convolutions over a large picture, a tile at a time.

    tiles         ├───────────┤                  all of one size, so of one compiled program
                         ├───────────┤
                                ├───────────┤    spread evenly; neighbours share at least `overlap` positions
    weight   1    ───────╮     ╭────
                          ╲   ╱                  0 in the outer 3/8 of the overlap, linear in between,
             0            ╭╲─╱╮                  and 1 in all at every position

A tile sees zeros, not its neighbours, beyond its border. What that changes fades within the reach of the convolutions:
where they reach no further than 3/8 of the overlap, the tiles together are the whole picture's result; where they
reach further, the linear part hides the rest. Norms over all positions and attention see the tile alone, as if it
were a picture: that changes the whole tile a little, and the linear part blends one tile into the next.
"""

import itertools
import math

import numpy as np

from keras_diffusion.runtime.devices import run_batch

_UNSEEN = 3 / 8  # of the overlap, at either side: of the tile that ends there nothing is seen


def in_tiles(function, x, tile, overlap, units, batch_size=None):
    """What a function of pictures returns, put together from tiles.

    Args:
        function: function `(B, H, W, C)` → `(B, H', W', C')` of tensors, that sees neighbouring positions only.
        x: array `(B, H, W, C)`.
        tile: size of a tile in units, ≥ 1; None for the whole picture.
        overlap: how many units neighbouring tiles share at least, ≥ 0 and < tile.
        units: (i, o): a unit is i positions of x along each axis, and o positions of the result.
        batch_size: pictures at once; None (default): all.

    Returns:
        float32 array `(B, H', W', C')`.
    """
    unit_in, unit_out = units
    axes = [_axis(length // unit_in, tile, overlap, unit_out) for length in x.shape[1:3]]
    sides = [side * unit_in for side, _ in axes]
    result = None
    batch_size = batch_size or len(x)
    for i in range(0, len(x), batch_size):
        for (top, across), (left, along) in itertools.product(*(places for _, places in axes)):
            y0, x0 = top * unit_in, left * unit_in
            piece = run_batch(function, x[i : i + batch_size, y0 : y0 + sides[0], x0 : x0 + sides[1]])
            if result is None:
                size = [length // unit_in * unit_out for length in x.shape[1:3]]
                result = np.zeros((len(x), *size, piece.shape[-1]), "float32")
            y0, x0 = top * unit_out, left * unit_out
            part = result[i : i + batch_size, y0 : y0 + len(across), x0 : x0 + len(along)]
            part += piece * across[:, None, None] * along[:, None]
    return result


def _axis(length, tile, overlap, unit):
    """The side of the tiles along one axis, and a pair of each: where it starts, and the weight of its positions."""
    if tile is None or length <= tile:
        return length, [(0, np.ones(length * unit, "float32"))]
    count = math.ceil((length - overlap) / (tile - overlap))
    starts = np.round(np.linspace(0, length - tile, count)).astype(int)
    weights, total = [], np.zeros(length * unit)
    for i, start in enumerate(starts):
        rising = _ramp(tile * unit, overlap * unit) if i > 0 else 1.0
        falling = _ramp(tile * unit, overlap * unit)[::-1] if i < count - 1 else 1.0
        weights.append(np.broadcast_to(rising * falling, tile * unit))
        total[start * unit : (start + tile) * unit] += weights[-1]
    shares = [weight / total[start * unit : (start + tile) * unit] for start, weight in zip(starts, weights)]
    return tile, [(int(start), share.astype("float32")) for start, share in zip(starts, shares)]


def _ramp(length, overlap):
    """0 up to 3/8 of the overlap, from 5/8 on 1."""
    if overlap == 0:
        return np.ones(length)
    return np.clip((np.arange(length) + 0.5 - _UNSEEN * overlap) / ((1 - 2 * _UNSEEN) * overlap), 0.0, 1.0)
