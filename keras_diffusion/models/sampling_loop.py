"""The loop of `generate`, `invert` and `log_likelihood`: batch by batch, in compiled programs.

    levels ──▶ sampler.table ──▶ rows ───────────────┐
    seed, sample index ──▶ x at the first level ─────┼─▶ compiled loop over rows ──▶ x at the last level
    weights, conditions, guidance scale, seed ───────┘

Everything on the left is an argument of the compiled function, and the table is padded to a round number of rows, so
one program per kind of sampler and batch shape serves any η, spacing, number of steps, schedule, guidance scale, seed,
and either set of weights.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from keras_diffusion.core.levels import Levels
from keras_diffusion.core.noise import seed_words
from keras_diffusion.core.precision import solver_dtype
from keras_diffusion.models.guidance_argument import Guiding
from keras_diffusion.models.guided_denoiser import DenoiserInputs, make_denoiser
from keras_diffusion.runtime.compile import Compiled, as_tensor, as_tensors, loop_bound
from keras_diffusion.runtime.devices import BatchPlacement, to_host
from keras_diffusion.runtime.recent import Recent
from keras_diffusion.samplers.tables import noise_source, padded, to_tensors
from keras_diffusion.samplers.walk import Walk, course_of, follow, noise_kind, run_closing_row, run_rows, start_walk

_ROWS = 1024  # rows that a table is padded to; longer ones to the next multiple
_PROGRAMS = 32


def _start(sampler, x, denoise, first):
    return start_walk(sampler, x, denoise)


class Request(NamedTuple):
    """What is to be walked, checked; arrays have one row per sample.

    Attributes:
        sampler: `Sampler`.
        levels: host `Levels`, n + 1.
        schedule: `NoiseSchedule` of the levels.
        num_samples, batch_size: how many samples, and how many at once.
        first_x: function of a slice of the samples → their x at the first level, an array.
        inputs: `DenoiserInputs`.
        guiding: `Guiding`.
        guided: whether there is guidance. It doubles the batch, so it is part of the program.
        seed: int, of the noise drawn on the way.
        noise: "independent", "brownian", or None for the sampler's own way.
        kept: tuple of "x" and "x0", what is recorded of every step.
        on_step: function of a `StepInfo`, called after every row, or None. An array that it returns replaces x.
        progress: function of the number of steps done, or None.
        start: function (sampler, x, denoiser, index of the first sample) → the `Walk` at the first level.
    """

    sampler: Any
    levels: Levels
    schedule: Any
    num_samples: int
    batch_size: int
    first_x: Callable
    inputs: DenoiserInputs
    guiding: Guiding = Guiding.none()
    guided: bool = False
    seed: int = 0
    noise: str | None = None
    kept: tuple = ()
    on_step: Callable | None = None
    progress: Callable | None = None
    start: Callable = _start


class Arrived(NamedTuple):
    """A batch at the end of its walk.

    Attributes:
        x: array `(B, ...)`.
        recordings: tuple of arrays `(n, B, ...)`, one for each of `Request.kept`.
        report: the sampler's report, a dict of numbers.
        state: the sampler's last state, tensors on the devices; None without a walk.
    """

    x: np.ndarray
    recordings: tuple
    report: dict
    state: Any = None


class StepInfo(NamedTuple):
    """What a hook of `generate` receives after a step.

    Attributes:
        step: number of the step, from 0. (Methods that take several rows of evaluations for a step count these.)
        total: number of steps.
        level: `Levels` of floats: where the network was evaluated.
        x: samples after the step, float32 array `(B, ...)`.
        x0: what the network took the clean samples for, float32 array `(B, ...)`.
        first_sample: index of the first of these samples among all that are generated.
    """

    step: int
    total: int
    level: Levels
    x: np.ndarray
    x0: np.ndarray
    first_sample: int


class Program(NamedTuple):
    """The compiled functions of a walk, for the rows and for the closing row."""

    loop: Compiled
    close: Compiled

    @property
    def traces(self):
        """How often Python ran through the two."""
        return self.loop.traces + self.close.traces


class Programs(Recent):
    """The compiled programs of a model's walks, the 32 used last."""

    def __init__(self):
        super().__init__(_PROGRAMS)

    @property
    def traces(self):
        """Number of traces of all programs; it stays the same when a call reuses an executable."""
        return sum(program.traces for program in self.values())


def walk_batches(model, request):
    """Walks all samples of a request.

    Args:
        model: `DiffusionModel`.
        request: `Request`.

    Returns:
        list of `Arrived`, one per batch.
    """
    sampler, total = request.sampler, request.num_samples
    course = course_of(sampler, request.levels, request.schedule, noise_kind(sampler, request.noise))
    unit = 16 if request.kept else _ROWS  # a recording's buffer has the table's length: do not pad it much
    length = math.ceil(course.rows / unit) * unit
    everywhere = BatchPlacement(1).copies
    plan, words = everywhere((to_tensors(padded(course.table, length)), seed_words(request.seed)))
    way = _Way(course, length, plan, words, _program(model, request))
    starts = range(0, total, request.batch_size)
    return [_walk_batch(model, request, way, slice(i, min(i + request.batch_size, total))) for i in starts]


def joined(arrived):
    """(x, recordings, report) of all batches: one array, a list of arrays, and the last batch's report."""
    recordings = zip(*(batch.recordings for batch in arrived), strict=True)
    x = np.concatenate([batch.x for batch in arrived])
    return x, [np.concatenate(parts, axis=1) for parts in recordings], arrived[-1].report


class _Way(NamedTuple):
    """What all batches share: the course, its table padded to `length` rows and on the devices, seed, and program."""

    course: Any
    length: int
    plan: Any
    words: Any
    program: Program


def _walk_batch(model, request, way, rows):
    """The border between host and devices: under a `keras.distribution`, each device gets its share of the batch."""
    sampler, kept, (course, length, plan, words, program) = request.sampler, request.kept, way
    place = BatchPlacement(rows.stop - rows.start, pad=not sampler.couples_samples)
    inputs = _inputs_on_devices(request, rows, place)
    first = place.copies(as_tensor(np.int32(rows.start)))
    x = as_tensor(place.batch(np.asarray(request.first_x(rows), solver_dtype())))
    denoise = make_denoiser(model, request.guiding, inputs, request.guided)
    walk = place.like(x, request.start(sampler, x, denoise, rows.start))
    buffer = (length if kept else 1, *x.shape)
    record = place.like(x, {key: ops.zeros(buffer, x.dtype) for key in _recorded(request)})

    def bound(row):
        return place.copies(loop_bound(row))

    def loop(walk, record, start, stop):
        return program.loop(inputs, walk, record, plan, words, first, bound(start), bound(stop))

    def close(walk, record, row):
        return program.close(inputs, walk, record, plan, words, first, bound(row))

    def after(walk, record, done):
        if request.on_step:
            walk = _tell(request.on_step, walk, record["x0"], done - 1, course.table, course.rows, rows.start, place)
        if request.progress:
            to_host(walk.x[:1])  # wait for the chunk, or the bar would run ahead
            steps = len(course.levels.t) - 1
            request.progress(steps * (rows.start // request.batch_size) + steps * done / course.rows)
        return walk

    watched = request.on_step or request.progress
    chunk = math.ceil(course.in_loop / 20) if request.progress else None
    chunk = 1 if request.on_step else chunk
    walk, record = follow(course, walk, record, loop, close, chunk=chunk, after=after if watched else None)
    x = place.to_host(walk.x)
    recordings = tuple(place.to_host(record[key], axis=1)[course.ends] for key in kept)
    report = {key: to_host(value).item() for key, value in sampler.report(walk.state).items()}
    return Arrived(x, recordings, report, walk.state)


def _recorded(request):
    """What the program writes down: what is kept, and the x0 that a hook receives."""
    kept = request.kept
    return kept if request.on_step is None or "x0" in kept else (*kept, "x0")


def _inputs_on_devices(request, rows, place):
    """The `DenoiserInputs` of a batch: what has a row per sample is split, all else copied."""
    values, conditions, scale, negative, numbers, known = request.inputs

    def batch(arrays):
        return {key: place.batch(array[rows]) for key, array in arrays.items()}

    if known:
        images, mask = known
        mask = place.batch(mask[rows]) if len(mask) == request.num_samples else place.copies(mask)
        known = (place.batch(images[rows]), mask)
    inputs = DenoiserInputs(
        values, batch(conditions), place.copies(scale), batch(negative), place.copies(numbers), known
    )
    return as_tensors(inputs)


def _program(model, request):
    """The `Program` of a request, made where there is none yet."""
    sampler, guiding, guided = request.sampler, request.guiding, request.guided

    def parts(inputs, walk, plan, words, first):
        """What follows the sampler in the arguments of `run_rows` and `run_closing_row`, but for record and rows."""
        walk, denoise = Walk(*walk), make_denoiser(model, guiding, DenoiserInputs(*inputs), guided)
        return walk, denoise, noise_source(plan, words, walk.x.shape, first)

    def loop(inputs, walk, record, plan, words, first, start, stop):
        walk, denoise, noise = parts(inputs, walk, plan, words, first)
        return run_rows(sampler, walk, record, denoise, plan, noise, start, stop)

    def close(inputs, walk, record, plan, words, first, index):
        walk, denoise, noise = parts(inputs, walk, plan, words, first)
        return run_closing_row(sampler, walk, record, denoise, plan, noise, index)

    key = (guiding.structure, sampler.structure(), guided, _recorded(request), noise_kind(sampler, request.noise))
    return model.programs.get(key, lambda: Program(Compiled(loop), Compiled(close)))


def _tell(on_step, walk, x0, index, table, total, first_sample, place):
    """Calls the hook; returns the walk, with the hook's x where it returned one."""
    level = table["level"].map(lambda column: float(column[index]))
    x, x0 = place.to_host(walk.x), place.to_host(x0[index % x0.shape[0]])
    changed = on_step(StepInfo(index, total, level, x, x0, first_sample))
    if changed is None:
        return walk
    if np.shape(changed) != x.shape:
        raise ValueError(
            f"A hook returns None, or an array that replaces x, of shape {x.shape}. Received: shape {np.shape(changed)}"
        )
    return walk._replace(x=ops.convert_to_tensor(place.batch(np.asarray(changed, x.dtype))))
