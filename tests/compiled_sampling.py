"""Sampling with the loop compiled once per kind of sampler and shapes, as generation does it: many
cases, few programs.
"""

import keras
import numpy as np
from golden_data import array, tensor
from keras import ops

from keras_diffusion.runtime.compile import Compiled
from keras_diffusion.samplers.sampler import Walk
from keras_diffusion.samplers.tables import padded, rows_of, to_tensors
from keras_diffusion.samplers.walk import run_closing_row, run_rows, start_walk

ROWS = 512  # rows that every table is padded to
PROGRAMS = {}


def sample(sampler, x, problem, denoise, levels, noise=None, schedule=None):
    """x after every step, `(n, *x.shape)`, as an array.

    `problem` names the denoiser, which becomes part of the program. `noise`: array `(m, noises_per_step, *x.shape)`
    with one entry per row of the table, zeros beyond m.
    """
    levels = sampler.check(levels)
    table = sampler.table(levels, schedule)
    rows = rows_of(table)
    in_loop = rows - 1 if sampler.closes_apart(levels) else rows
    normals = np.zeros((ROWS, max(sampler.noises_per_step, 1), *x.shape))
    if noise is not None:
        normals[: len(noise)] = noise
    loop, close = _program(sampler, problem, denoise)
    plan, normals, x = to_tensors(padded(table, ROWS)), tensor(normals), tensor(x)
    walk, record = start_walk(sampler, x, denoise), {"x": ops.zeros((ROWS, *x.shape), x.dtype)}
    walk, record = loop(walk, record, plan, normals, _bound(0), _bound(in_loop))
    if in_loop < rows:
        walk, record = close(walk, record, plan, normals, _bound(in_loop))
    return array(record["x"])[sampler.step_ends(levels)]


def _bound(i):
    return i if keras.backend.backend() == "torch" else ops.convert_to_tensor(np.int32(i))


def _program(sampler, problem, denoise):
    key = (sampler.structure(), problem)
    if key not in PROGRAMS:

        def draws(noise):
            return lambda i, draw: ops.take(noise, i, axis=0)[draw]

        def loop(walk, record, plan, noise, start, stop):
            return run_rows(sampler, Walk(*walk), record, denoise, plan, draws(noise), start, stop)

        def close(walk, record, plan, noise, index):
            return run_closing_row(sampler, Walk(*walk), record, denoise, plan, draws(noise), index)

        PROGRAMS[key] = (Compiled(loop), Compiled(close))
    return PROGRAMS[key]
