"""Brownian noise: increments of one path, so that a step split in two gets the same noise in two parts.

    N(a → c) = N(a → b) + N(b → c),      N(a → b) = W(τ_b) − W(τ_a),      z = N/√(τ_b − τ_a) ~ N(0, I)

W is a Brownian motion over a clock τ. For the reverse diffusion SDE the clock is the signal-to-noise ratio: the noise
that an exponential integrator adds over a step is then the sum of what it would add over the step's parts, carried
along by the SDE. So a sample changes little with the number of steps, since all grids see the same path.

The path is a Lévy tree over u = log τ ∈ [−40, 40], bisected 16 times: given both ends of an interval, the middle is
normal around the interpolated value, with variance (τ_m − τ_a)·(τ_b − τ_m)/(τ_b − τ_a). So every value of W is a sum of
a few named normals, one for each ancestor of a leaf, and so is every increment. The weights are scalars: they go into
the table of a plan, in float64 on the host; the device only adds up `counter_normal`s.

Reference: Lévy's construction; Li, Wong, Chen & Duvenaud 2020, arXiv:2001.01328, section 4 (the virtual Brownian tree).
"""

import functools

import numpy as np
from keras import ops

from keras_diffusion.core.noise import counter_normal, word_dtype

_RANGE = 40.0
_DEPTH = 16
_CELLS = 2**_DEPTH
_TERMS = 2 * (_DEPTH + 2)
_DRAW = 1 << 20  # keeps the nodes' normals apart from those of steps and draws


def brownian_table(spans):
    """Weights and nodes of the normals whose sums are the increments over given spans.

    Args:
        spans: float array `(rows, draws, 2)`: u = log τ at the start and at the end of each draw. −∞ and ∞ are cut to
            ±40, and ends are rounded to a cell of the tree, 0.0012. A span shorter than a cell has a draw of its own.

    Returns:
        dict of float64 arrays `(rows, draws, terms)`: "weight", whose squares add up to 1, and "node".
    """
    spans = np.clip(np.asarray(spans, "float64"), -_RANGE, _RANGE)
    cells = np.rint((spans + _RANGE) / (2 * _RANGE) * _CELLS).astype("int64")
    weights, nodes = np.zeros((*spans.shape[:-1], _TERMS)), np.zeros((*spans.shape[:-1], _TERMS))
    for number, index in enumerate(np.ndindex(*spans.shape[:-1])):
        start, end = (int(cell) for cell in cells[index])
        if start == end:
            weights[index][0], nodes[index][0] = 1.0, 2 * _CELLS + number
            continue
        terms = dict(_value(end))
        for node, weight in _value(start).items():
            terms[node] = terms.get(node, 0.0) - weight
        scale = np.sqrt(abs(_clock(end) - _clock(start)))
        weights[index][: len(terms)] = [weight / scale for weight in terms.values()]
        nodes[index][: len(terms)] = list(terms)
    return {"weight": weights, "node": nodes}


def brownian_normal(words, row, shape, first_index=0):
    """A standard normal increment of the path.

    Args:
        words: tensor `(2,)` from `seed_words`.
        row: dict of tensors `(terms,)`, one row and draw of `brownian_table`.
        shape: `(B, ...)`; static.
        first_index: index of the batch's first sample, as in `counter_normal`.

    Returns:
        tensor of `shape`.
    """
    nodes, weights = ops.cast(row["node"], word_dtype()), row["weight"]

    def add(k, total):
        normal = counter_normal(words, ops.take(nodes, k, axis=0), _DRAW, shape, first_index)
        return total + ops.take(weights, k, axis=0) * normal

    return ops.fori_loop(0, _TERMS, add, ops.zeros(shape, weights.dtype))


def coupling_table(spans):
    """Correlations of the draws of one row: draws whose spans overlap share part of their noise.

    Args:
        spans: as in `brownian_table`.

    Returns:
        float64 array `(rows, draws, draws)`, lower triangular: it turns rows of independent normals into correlated
            standard normals.
    """
    low, high = np.moveaxis(np.exp(np.clip(np.asarray(spans, "float64"), -_RANGE, _RANGE)), -1, 0)
    shared = np.minimum(high[:, :, None], high[:, None, :]) - np.maximum(low[:, :, None], low[:, None, :])
    length = np.maximum(high - low, 1e-300)
    correlation = np.maximum(shared, 0.0) / np.sqrt(length[:, :, None] * length[:, None, :])
    identity = np.eye(spans.shape[1])
    correlation = np.where(identity, 1.0, np.clip(correlation, 0.0, 1.0 - 1e-12))
    return np.linalg.cholesky(correlation)


def _clock(cell):
    return np.exp(cell / _CELLS * 2 * _RANGE - _RANGE)


@functools.lru_cache(maxsize=4096)
def _value(cell):
    """W at the edge of a cell, as {node: weight}.

    Node 0 is W at the first edge, node 1 the increment to the last; the nodes of the tree start at 2.
    """
    low, high, node = 0, _CELLS, 1
    at_low = {0: np.sqrt(_clock(low))}
    at_high = {0: np.sqrt(_clock(low)), 1: np.sqrt(_clock(high) - _clock(low))}
    while cell not in (low, high):
        middle = (low + high) // 2
        t_low, t_middle, t_high = _clock(low), _clock(middle), _clock(high)
        share = (t_middle - t_low) / (t_high - t_low)
        value = {
            n: (1 - share) * at_low.get(n, 0.0) + share * at_high.get(n, 0.0) for n in at_low.keys() | at_high.keys()
        }
        value[node + 1] = np.sqrt((t_middle - t_low) * (t_high - t_middle) / (t_high - t_low))
        if cell < middle:
            high, at_high, node = middle, value, 2 * node
        else:
            low, at_low, node = middle, value, 2 * node + 1
    return at_low if cell == low else at_high
