"""The walk along a grid: the rows of a table in one loop, then the closing row of methods that have one of their own.

    start_walk ──▶ rows, chunk by chunk ──▶ closing row ──▶ x at the last level
                     └─ x or x0 recorded after each; a hook between chunks

`follow` drives every walk. `Sampler.sample` passes it functions that run as they are, `models/sampling_loop.py`
compiled ones, and `AdaptiveSampler.solve` one that stops after each trial. `run_rows` and `run_closing_row` are what
such functions do: tensors only, so that they compile.
"""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_diffusion.core.denoiser_memory import initial_memories, memory_scope, parts_of
from keras_diffusion.core.noise import seed_words
from keras_diffusion.samplers.tables import check_noise_kind, noise_source, rows_of


class Walk(NamedTuple):
    """What is carried from row to row.

    Attributes:
        x: samples `(B, ...)`.
        state: what the sampler remembers, as `Sampler.initial_state` makes it.
        memory: what the denoiser remembers, as `core.denoiser_memory.initial_memories` makes it.
    """

    x: Any
    state: Any
    memory: Any


class Course(NamedTuple):
    """What a sampler walks along: the table of a grid.

    Attributes:
        levels: checked `Levels`, n + 1.
        table: float64 columns, one row per step or part of a step.
        rows: number of rows.
        in_loop: how many of them run in the loop: all but the closing row.
        ends: rows after which x stands at levels 1 … n, `(n,)`.
    """

    levels: Any
    table: Any
    rows: int
    in_loop: int
    ends: Any


def course_of(sampler, levels, schedule=None, noise="given"):
    """The `Course` of a sampler along `levels`; see `Sampler.table` for the arguments and errors."""
    levels = sampler.check(levels)
    table = sampler.table(levels, schedule, noise)
    rows = rows_of(table)
    return Course(levels, table, rows, rows - int(sampler.closes_apart(levels)), sampler.step_ends(levels))


def start_walk(sampler, x, denoise):
    """The `Walk` at the first level."""
    return Walk(x, sampler.initial_state(x), initial_memories(denoise, x))


def follow(course, walk, record, loop, close, start=0, stop=None, chunk=None, after=None):
    """Walks rows `start` to `stop` of a course.

    Args:
        course: `Course`.
        walk: `Walk` before row `start`.
        record: dict of buffers, as in `run_rows`.
        loop: function (walk, record, first row, row after the last) → (walk, record).
        close: function (walk, record, row) → (walk, record), for the closing row.
        start, stop: ints; None (default): all rows that are left.
        chunk: rows for each call of `loop`; None (default): all at once.
        after: function (walk, record, rows done) → walk, called after each chunk and after the closing row, or None.

    Returns:
        (walk, record) after the rows.
    """
    stop = course.rows if stop is None else stop
    in_loop = min(stop, course.in_loop)
    for first in range(start, in_loop, chunk or course.rows):
        last = min(first + (chunk or course.rows), in_loop)
        walk, record = loop(walk, record, first, last)
        walk = after(walk, record, last) if after else walk
    if in_loop < stop:
        walk, record = close(walk, record, in_loop)
        walk = after(walk, record, stop) if after else walk
    return walk, record


def run_rows(sampler, walk, record, denoise, plan, noise, start, stop):
    """Rows `start` to `stop` of a table in one loop.

    Args:
        sampler: `Sampler`.
        walk: `Walk` before row `start`.
        record: dict of buffers `(m, *x.shape)` to be written: "x" receives x after each row, "x0" the denoiser's
            first x0 of each row. Row i goes to place i modulo m.
        denoise: a `Denoiser`.
        plan: table of tensors, leading axis = rows.
        noise: function (row, draw) → standard normal tensor shaped like x.
        start, stop: ints or integer scalar tensors; which rows run does not change the compiled program.

    Returns:
        (walk, record) after the rows.
    """

    def body(i, carry):
        walk, record = Walk(*carry[0]), carry[1]
        watched = RecordX0(denoise) if "x0" in record else denoise
        with memory_scope(denoise, walk.memory, walk.x) as memory:
            x, state = sampler.step(watched, walk.x, _row(plan, i), walk.state, lambda draw: noise(i, draw))
            memory = memory()
        seen = {"x": x, "x0": watched.x0 if "x0" in record else None}
        return (x, state, memory), {key: _write(buffer, i, seen[key]) for key, buffer in record.items()}

    carry, record = ops.fori_loop(start, stop, body, (tuple(walk), record))
    return Walk(*carry), record


def run_closing_row(sampler, walk, record, denoise, plan, noise, index):
    """The closing step, which is row `index` of the table: as `run_rows` for that row."""
    with memory_scope(denoise, walk.memory, walk.x):
        x = sampler.close(denoise, walk.x, _row(plan, index), lambda draw: noise(index, draw))
    record = {key: _write(buffer, index, x) for key, buffer in record.items()}
    return walk._replace(x=x, state=sampler.state_after_close(walk.state)), record


def eager(sampler, denoise, plan, noise):
    """The functions `loop` and `close` of `follow` that run as they are."""

    def loop(walk, record, first, last):
        return run_rows(sampler, walk, record, denoise, plan, noise, first, last)

    def close(walk, record, index):
        return run_closing_row(sampler, walk, record, denoise, plan, noise, index)

    return loop, close


def noise_kind(sampler, noise):
    """How the noise of a walk comes about: "independent" or "brownian", or "given" as an array. None is the sampler's
    own way.
    """
    noise = sampler.noise if noise is None else noise
    return check_noise_kind(noise) if isinstance(noise, str) else "given"


def noise_of(sampler, noise, plan, x, seed, closing):
    """The function (row, draw) → standard normals that `noise` asks for.

    Args:
        sampler: `Sampler`.
        noise: as in `Sampler.sample`.
        plan: table of tensors.
        x: samples.
        seed: int or None, of drawn noise.
        closing: whether the last level is clean, so that the last row's draw may be missing from an array.

    Raises:
        ValueError: an array of another shape.
    """
    if noise_kind(sampler, noise) == "given":
        return sampler.given_noise(noise, rows_of(plan), x, closing)
    return noise_source(plan, seed_words(seed), x.shape)


def check_part(start, stop, steps, ends):
    """`stop` as a number; raises unless `start` and `stop` are levels of a grid of `steps` steps, in this order.

    A sampler that chooses its own steps does not stand at the levels between: it has another number of `ends`.
    """
    stop = steps if stop is None else stop
    if (start, stop) != (0, steps) and ends != steps:
        raise ValueError(
            f"An adaptive sampler does not stop at the levels of its grid. Received: {start=}, {stop=}. Walk down the "
            "part that you want: levels.map(lambda v: v[start : stop + 1])"
        )
    whole = all(isinstance(level, int | np.integer) and not isinstance(level, bool) for level in (start, stop))
    if not whole or not 0 <= start < stop <= steps:
        raise ValueError(
            f"A walk starts and stops at levels of its grid: integers with 0 <= start < stop <= {steps}. Received: "
            f"{start=}, {stop=}"
        )
    return stop


class RecordX0:
    """A denoiser that keeps its first x0."""

    def __init__(self, denoise):
        self.denoise, self.x0 = denoise, None

    def parts(self):
        """The parts of the denoiser inside; see `core.denoiser_memory.parts_of`."""
        return parts_of(self.denoise)

    def __call__(self, x, level):
        prediction = self.denoise(x, level)
        if self.x0 is None:
            self.x0 = prediction.x0
        return prediction


def _row(plan, i):
    return keras.tree.map_structure(lambda column: ops.take(column, i, axis=0), plan)


def _write(buffer, i, value):
    # All indices have the integer type of i: JAX refuses a mixture, which plain zeros would be with 64-bit types.
    return ops.slice_update(buffer, (i % buffer.shape[0],) + (0 * i,) * (len(buffer.shape) - 1), value[None])
