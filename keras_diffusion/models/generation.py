"""Generation: from a trained network to samples, in one compiled loop.

    spacing ──▶ levels ──▶ sampler.table ──▶ rows ─┐
    seed, sample index ──▶ x at t = 1 ─────────────┼─▶ compiled loop over rows ──▶ samples
    weights, conditions, guidance scale, seed ─────┘

Everything on the left is an argument of the compiled function, and the table is padded to a round number of rows, so one program per
kind of sampler and batch shape serves any η, spacing, number of steps, schedule, guidance scale, seed, and either set of weights.
"""

import math
import sys

import keras
import numpy as np
from keras import ops

from keras_diffusion.core.compile import Compiled
from keras_diffusion.core.levels import Levels
from keras_diffusion.core.noise import counter_normal, initial_noise, seed_words
from keras_diffusion.core.precision import solver_dtype
from keras_diffusion.samplers.sampler import to_tensors
from keras_diffusion.schedulers.spacing import check_steps

_ROWS = 1024  # rows that a table is padded to; longer ones to the next multiple


class Generator:
    """Runs samplers on denoisers and keeps the compiled programs.

    Args:
        make_denoiser: function of tensors (weight values, conditions, guidance scale, extra) and of the flag `guided` → `Denoiser`.
    """

    def __init__(self, make_denoiser):
        self._make_denoiser = make_denoiser
        self._programs = {}

    @property
    def traces(self):
        """Number of traces of all programs so far; it stays the same when a call reuses an executable."""
        return sum(function.traces for pair in self._programs.values() for function in pair)

    def run(
        self, sampler, levels, schedule, x, values, conditions, scale, extra, guided, seed, first_index, trajectory=False, progress=None
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
            trajectory: also return x after every step.
            progress: function of the number of steps done, or None.

        Returns:
            x `(B, ...)` as a NumPy array, and the trajectory `(n, B, ...)` or None.
        """
        table = sampler.table(levels, schedule)
        rows = len(levels.t) - 1
        in_loop = rows - 1 if sampler.closes_apart(levels) else rows
        last = keras.tree.map_structure(lambda column: column[-1], table)
        length = _padded(rows, trajectory)
        plan = to_tensors(
            keras.tree.map_structure(lambda column: np.concatenate([column, np.repeat(column[-1:], length - rows, axis=0)]), table)
        )
        loop, close = self._program(sampler, guided, trajectory)
        given = _as_tensors((values, conditions, scale, extra))
        words, first = seed_words(seed), ops.convert_to_tensor(np.int32(first_index))
        x = ops.convert_to_tensor(np.asarray(x, solver_dtype()))
        state = sampler.initial_state(x)
        buffer = ops.zeros((length, *x.shape), x.dtype) if trajectory else ()
        chunk = max(1, math.ceil(in_loop / 20)) if progress else max(1, in_loop)
        for start in range(0, in_loop, chunk):
            stop = min(start + chunk, in_loop)
            x, state, buffer = loop(given, x, state, buffer, plan, _bound(start), _bound(stop), words, first)
            if progress:
                ops.convert_to_numpy(x[:1])  # wait for the chunk, or the bar would run ahead
                progress(stop)
        xs = ops.convert_to_numpy(buffer)[:in_loop] if trajectory else None
        if in_loop < rows:
            x = close(given, x, to_tensors(last), _bound(rows - 1), words, first)
            xs = np.concatenate([xs, ops.convert_to_numpy(x)[None]]) if trajectory else None
            if progress:
                progress(rows)
        return ops.convert_to_numpy(x), xs

    def _program(self, sampler, guided, trajectory):
        key = (sampler.structure(), guided, trajectory)
        if key not in self._programs:

            def noise_source(words, first, x):
                return lambda i, draw: counter_normal(words, i, draw, tuple(x.shape), first)

            def loop(given, x, state, buffer, plan, start, stop, words, first):
                denoise, noise = self._make_denoiser(*given, guided=guided), noise_source(words, first, x)
                x, state, buffer = sampler.run(x, state, buffer if trajectory else None, denoise, plan, noise, start, stop)
                return x, state, buffer if trajectory else ()

            def close(given, x, row, step, words, first):
                denoise, noise = self._make_denoiser(*given, guided=guided), noise_source(words, first, x)
                return sampler.close(denoise, x, row, lambda draw: noise(step, draw))

            self._programs[key] = (Compiled(loop), Compiled(close))
        return self._programs[key]


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
        return schedule.levels(spacing(schedule, num_steps, start=start))
    # The curve itself stops at some noise: that is the last level the network sees, and the clean one is put behind it.
    t = spacing(schedule, num_steps - 1, start=start) if num_steps > 1 else np.array([start])
    levels = schedule.levels(t)
    return Levels(*(np.append(field, end) for field, end in zip(levels, (0.0, 1.0, 0.0), strict=True)))


def initial_state(levels, seed, indices, sample_shape, init=None):
    """x at the first level: σ·z, or α·init + σ·z."""
    z = initial_noise(seed, indices, sample_shape)
    alpha, sigma = levels.alpha[0], levels.sigma[0]
    return sigma * z if init is None else alpha * init + sigma * z


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
    return bar.update


def _padded(rows, trajectory):
    unit = 16 if trajectory else _ROWS  # a trajectory's buffer has the table's length: do not pad it much
    return math.ceil(rows / unit) * unit


def _bound(i):
    return i if keras.backend.backend() == "torch" else ops.convert_to_tensor(np.int32(i))


def _as_tensors(tree):
    return keras.tree.map_structure(lambda v: v if ops.is_tensor(v) else ops.convert_to_tensor(v), tree)
