"""Upsampling by 2 with a convolution: in phases, with kernels of size 2, or by repeating (layers/resampling.py).

    KERAS_BACKEND=jax python benchmarks/upsampling.py [--rounds 30]

Prints one JSON line per shape, for the compiled layer and for its gradient, "there" being the repetition; a ratio below
1 says that phases are faster.
"""

import argparse
import json
import math
from functools import partial

import keras
import numpy as np
from keras import ops
from turns import computed, here_and_there

from keras_diffusion.core.autodiff import pullback
from keras_diffusion.layers.resampling import convolve_in_phases, convolve_repeated
from keras_diffusion.runtime.compile import Compiled

# Batch, side, channels, filters.
SHAPES = [(16, 4, 64, 32), (8, 8, 96, 64), (8, 16, 64, 32), (2, 8, 512, 256), (2, 32, 128, 64), (1, 32, 320, 320)]


def gradient(function):
    """That of Σy²/2 by x and the kernel, one vector."""

    def of(x, kernel):
        size = math.prod(x.shape)

        def of_vector(vector):
            return function(ops.reshape(vector[:size], x.shape), ops.reshape(vector[size:], kernel.shape)), None

        y, _, vjp = pullback(of_vector, ops.concatenate([ops.reshape(x, (-1,)), ops.reshape(kernel, (-1,))]))
        return vjp(y)

    return of


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    for batch, side, channels, filters in SHAPES:
        x = ops.convert_to_tensor(rng.standard_normal((batch, side, side, channels)).astype("float32"))
        kernel = ops.convert_to_tensor(
            (rng.standard_normal((3, 3, channels, filters)) / np.sqrt(9 * channels)).astype("float32")
        )
        row = {"backend": keras.backend.backend(), "batch, side, channels, filters": [batch, side, channels, filters]}
        for what, wrap in (("forward", lambda f: f), ("gradient", gradient)):
            calls = [Compiled(wrap(function)) for function in (convolve_in_phases, convolve_repeated)]
            here, there = (computed(call, x, kernel) for call in calls)
            np.testing.assert_allclose(here, there, atol=1e-5 * np.abs(there).max())
            row[what] = here_and_there(*(partial(computed, call, x, kernel) for call in calls), options.rounds)
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
