"""Generation: from a trained network to samples, in one compiled loop.

    spacing ──▶ levels ──▶ sampler.table ──▶ rows ─┐
    seed, sample index ──▶ x at t = 1 ─────────────┼─▶ compiled loop over rows ──▶ samples
    weights, conditions, guidance scale, seed ─────┘

Everything on the left is an argument of the compiled function, and the table is padded to a round number of rows, so
one program per kind of sampler and batch shape serves any η, spacing, number of steps, schedule, guidance scale, seed,
and either set of weights.
"""

import math
import sys
import time
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_diffusion.core.levels import Levels
from keras_diffusion.core.noise import initial_noise, seed_words
from keras_diffusion.core.precision import solver_dtype
from keras_diffusion.runtime.compile import Compiled, as_tensor, as_tensors, loop_bound
from keras_diffusion.runtime.devices import BatchPlacement, to_host
from keras_diffusion.runtime.recent import Recent
from keras_diffusion.samplers.sampler import Walk
from keras_diffusion.samplers.tables import check_noise_kind, noise_source, padded, recorded, rows_of, to_tensors
from keras_diffusion.schedulers.time_spacing import check_steps

_ROWS = 1024  # rows that a table is padded to; longer ones to the next multiple


class Generator:
    """Runs samplers on denoisers and keeps the compiled programs.

    Args:
        make_denoiser: function of tensors (weight values, conditions, guidance scale, extra) and of the flag `guided` →
            `Denoiser`.
    """

    def __init__(self, make_denoiser):
        self._make_denoiser = make_denoiser
        self._programs = Recent()

    @property
    def traces(self):
        """Number of traces of all programs so far; it stays the same when a call reuses an executable."""
        return sum(function.traces for pair in self._programs.values() for function in pair)

    def run(
        self,
        sampler,
        levels,
        schedule,
        x,
        values,
        conditions,
        scale,
        extra,
        guided,
        seed,
        first_index,
        trajectory=False,
        progress=None,
        noise=None,
        on_step=None,
    ):
        """Walks `x` down `levels`.

        Args:
            sampler: `Sampler`.
            levels: host `Levels`, n + 1.
            schedule: `NoiseSchedule` of the levels.
            x: float array `(B, ...)` at the first level.
            values, conditions, scale, extra: what the denoiser is made of; pytrees of tensors or arrays.
            guided: whether guidance is on (it doubles the batch, so it is part of the program).
            seed: int; of the noise within the loop.
            first_index: index of the first sample of `x`.
            trajectory: also return x, x0 or both of every step, as `Sampler.sample` has it.
            progress: function of the number of rows done and of all rows, or None.
            noise: "independent", "brownian", or None for the sampler's own way.
            on_step: function of a `StepInfo`, called after every row, or None. An array that it returns replaces x.

        Returns:
            x `(B, ...)` as a NumPy array, a tuple of trajectories `(n, B, ...)`, and the sampler's report, a dict of
            numbers.
        """
        noise, kept = check_noise_kind(noise or sampler.noise), recorded(trajectory)
        wanted = kept if on_step is None or "x0" in kept else (*kept, "x0")
        table = sampler.table(levels, schedule, noise)
        rows = rows_of(table)
        in_loop = rows - 1 if sampler.closes_apart(levels) else rows
        length = _table_length(rows, kept)
        plan = to_tensors(padded(table, length))
        loop, close = self._program(sampler, guided, wanted, noise)
        # Under a `keras.distribution`, each device gets its share of the batch.
        place = BatchPlacement(len(x), pad=not sampler.couples_samples)
        conditions, extra = place.batch(conditions), _placed(extra, place, np.ndim(x))
        given = as_tensors((values, conditions, place.copies(scale), extra))
        words, first = place.copies((seed_words(seed), as_tensor(np.int32(first_index))))
        plan = place.copies(plan)
        x = as_tensor(place.batch(np.asarray(x, solver_dtype())))
        walk = place.like(x, sampler.start(x, self._make_denoiser(*given, guided=guided)))
        record = place.like(x, {key: ops.zeros((length if kept else 1, *x.shape), x.dtype) for key in wanted})
        chunk = 1 if on_step else max(1, math.ceil(in_loop / 20)) if progress else max(1, in_loop)
        for start in [*range(0, in_loop, chunk), *range(in_loop, rows)]:
            stop = min(start + chunk, in_loop) if start < in_loop else rows
            begin, end = (place.copies(loop_bound(i)) for i in (start, stop))
            if start < in_loop:
                walk, record = loop(given, walk, record, plan, begin, end, words, first)
            else:
                walk, record = close(given, walk, record, plan, begin, words, first)
            if on_step:
                walk = _tell(on_step, walk, record["x0"], start, table, rows, first_index, place)
            if progress:
                to_host(walk.x[:1])  # wait for the chunk, or the bar would run ahead
                progress(stop, rows)
        ends = sampler.step_ends(levels)
        report = {key: to_host(value).item() for key, value in sampler.report(walk.state).items()}
        return place.to_host(walk.x), tuple(place.to_host(record[key], axis=1)[ends] for key in kept), report

    def _program(self, sampler, guided, wanted, noise):
        key = (sampler.structure(), guided, wanted, noise)

        def make():
            def loop(given, walk, record, plan, start, stop, words, first):
                denoise, walk = self._make_denoiser(*given, guided=guided), Walk(*walk)
                return sampler.run(
                    walk, record, denoise, plan, noise_source(plan, words, walk.x.shape, first), start, stop
                )

            def close(given, walk, record, plan, index, words, first):
                denoise, walk = self._make_denoiser(*given, guided=guided), Walk(*walk)
                return sampler.finish(
                    walk, record, denoise, plan, noise_source(plan, words, walk.x.shape, first), index
                )

            return Compiled(loop), Compiled(close)

        return self._programs.get(key, make)


class StepInfo(NamedTuple):
    """What a hook of `generate` is told after a step.

    Fields:
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


def _placed(extra, place, ndim):
    """What else the denoiser is made of: images to keep and negative conditions have a row per sample,
    masks may have.
    """
    placed = {}
    for key, value in extra.items():
        per_sample = key in ("known", "negative") or (
            key == "mask" and np.ndim(value) == ndim and len(value) == place.size
        )
        placed[key] = place.batch(value) if per_sample else place.copies(value)
    return placed


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


def sampling_levels(schedule, spacing, num_steps, start=1.0):
    """The grid of a generation: `num_steps` levels at which the network is evaluated, then a clean one.

    Args:
        schedule: `NoiseSchedule`.
        spacing: `Spacing`.
        num_steps: n ≥ 1.
        start: first time, in (0, 1].

    Returns:
        host `Levels`, n + 1, the last with σ = 0.
    """
    check_steps(num_steps)
    if schedule.levels(0.0).sigma == 0:
        return spacing.levels(schedule, num_steps, start=start)
    # The curve itself stops at some noise: that, or the spacing's own least noise, is the last level the network sees,
    # and the clean one is put behind it. Trailing spacing has the clean one in its place.
    if not spacing.visits_end:
        t = spacing(schedule, num_steps, start=start)
        return schedule.levels(t[:-1]).with_clean_end()
    least = getattr(spacing, "sigma_min", None)
    end = 0.0 if least is None else float(np.clip(schedule.time(-2.0 * np.log(least)), 0.0, 1.0))
    t = spacing(schedule, num_steps - 1, start=start, end=end) if num_steps > 1 else np.array([start])
    return schedule.levels(t).with_clean_end()


def initial_state(levels, seed, indices, sample_shape, init=None, latents=None):
    """x at the first level: σ·z, or α·init + σ·z; z is drawn unless it is given as `latents`."""
    z = initial_noise(seed, indices, sample_shape) if latents is None else latents
    alpha, sigma = levels.alpha[0], levels.sigma[0]
    return sigma * z if init is None else alpha * init + sigma * z


def check_samples(x, sampler, num_steps, values, what="Samples"):
    """Raises if samples hold NaN or infinity, which clipping and rounding would make black pixels of.

    Args:
        x: array `(N, ...)`.
        sampler: `Sampler` that made it.
        num_steps: its number of steps.
        values: the weights that it was made with, tensors.
        what: what x is, for the message.

    Raises:
        FloatingPointError: with the number of such samples, and whether the weights are finite.
    """
    bad = ~np.isfinite(x).reshape(len(x), -1).all(axis=1)
    if not bad.any():
        return
    broken = sum(
        not bool(np.isfinite(np.asarray(to_host(v), "float32")).all())
        for v in values
        if keras.backend.is_float_dtype(v.dtype)
    )
    cause = (
        f"{broken} of {len(values)} weights hold NaN or infinity: go back to an earlier state of the training"
        if broken
        else "All weights are finite: try more steps, another sampler, less guidance, or float32 in place of float16"
    )
    raise FloatingPointError(
        f"{what} must be finite. Received: NaN or infinity in {int(bad.sum())} of {len(x)}, first in sample "
        f"{int(np.argmax(bad))}, "
        f"made by {type(sampler).__name__} in {num_steps} steps. {cause}"
    )


def finish(x, clip, dtype):
    """Clips to [−1, 1] where asked, and converts to "float32" or "uint8"."""
    if dtype not in ("float32", "uint8"):
        raise ValueError(f"Generated samples are 'float32' or 'uint8'. Received: dtype={dtype!r}")
    x = np.clip(x, -1.0, 1.0) if clip or dtype == "uint8" else x
    return np.round((x + 1.0) * 127.5).astype("uint8") if dtype == "uint8" else x.astype("float32")


def progress_bar(verbose, total):
    """A function of the steps done that draws a bar, or None. "auto": only where a person watches a terminal."""
    if verbose == "auto":
        verbose = sys.stderr.isatty() and total > 1
    if not verbose:
        return None
    bar = keras.utils.Progbar(total, unit_name="step")
    return lambda done: bar.update(min(total, int(done)))


def progress_lines(total, what, every=30.0, clock=time.monotonic):
    """A function of the steps done that writes a line to standard error now and then: for long work that nobody watches
    on a terminal.

    Args:
        total: number of steps.
        what: what is done, the first word of the lines.
        every: seconds before the first line, and between two.
        clock: function that gives seconds.
    """
    began = told = clock()

    def tell(done):
        nonlocal told
        now = clock()
        if now - told >= every and done < total:
            told = now
            sys.stderr.write(
                f"{what}: step {int(done)} of {total}, about {round((now - began) * (total - done) / done)} s left\n"
            )
            sys.stderr.flush()

    return tell


def _table_length(rows, kept):
    unit = 16 if kept else _ROWS  # a trajectory's buffer has the table's length: do not pad it much
    return math.ceil(rows / unit) * unit
