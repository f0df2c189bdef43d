"""Sampling with the loop compiled once per kind of sampler and shapes, as generation does it: many cases, few programs."""

import keras
import numpy as np
from golden_data import array, tensor
from keras import ops

from keras_diffusion.core.compile import Compiled
from keras_diffusion.samplers.sampler import check_levels, to_tensors

ROWS = 256  # rows that every table is padded to
PROGRAMS = {}


def sample(sampler, x, problem, denoise, levels, noise=None, schedule=None):
    """x after every step, `(n, *x.shape)`, as an array.

    `problem` names the denoiser, which becomes part of the program. `noise`: array `(m, noises_per_step, *x.shape)`, m ≤ n; zeros beyond.
    """
    levels = check_levels(levels)
    rows = len(levels.t) - 1
    in_loop = rows - 1 if sampler.closes_apart(levels) else rows
    table = sampler.table(levels, schedule)
    padded = keras.tree.map_structure(lambda column: np.concatenate([column, np.repeat(column[-1:], ROWS - rows, axis=0)]), table)
    last = keras.tree.map_structure(lambda column: column[-1], table)
    normals = np.zeros((ROWS, max(sampler.noises_per_step, 1), *x.shape))
    if noise is not None:
        normals[: len(noise)] = noise
    loop, close = _program(sampler, problem, denoise)
    normals, x = tensor(normals), tensor(x)
    start, stop = (bound if keras.backend.backend() == "torch" else ops.convert_to_tensor(np.int32(bound)) for bound in (0, in_loop))
    x, steps = loop(x, sampler.initial_state(x), ops.zeros((ROWS, *x.shape), x.dtype), to_tensors(padded), normals, start, stop)
    steps = array(steps)[:in_loop]
    if in_loop < rows:
        steps = np.concatenate([steps, array(close(x, to_tensors(last), normals[rows - 1]))[None]])
    return steps


def _program(sampler, problem, denoise):
    key = (sampler.structure(), problem)
    if key not in PROGRAMS:

        def loop(x, state, buffer, plan, noise, start, stop):
            draws = lambda i, draw: ops.take(noise, i, axis=0)[draw]  # noqa: E731
            x, _, buffer = sampler.run(x, state, buffer, denoise, plan, draws, start, stop)
            return x, buffer

        def close(x, row, noise):
            return sampler.close(denoise, x, row, lambda draw: noise[draw])

        PROGRAMS[key] = (Compiled(loop), Compiled(close))
    return PROGRAMS[key]
