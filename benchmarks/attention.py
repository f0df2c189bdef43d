"""Attention here and in Keras: time of the compiled call, and of its gradient, at the shapes of a few networks.

    KERAS_BACKEND=jax python benchmarks/attention.py [--rounds 15]

Prints one JSON line per shape, "there" being Keras; a ratio below 1 says that the function here is faster. On
TensorFlow and torch both are Keras's.
"""

import argparse
import json
from functools import partial

import keras
import numpy as np
from keras import ops
from turns import computed, here_and_there

from keras_diffusion.core.autodiff import pullback
from keras_diffusion.layers.dot_product_attention import dot_product_attention
from keras_diffusion.runtime.compile import Compiled

# Batch, queries, keys, heads, channels per head.
SHAPES = [(8, 64, 64, 4, 32), (4, 256, 256, 3, 64), (4, 1024, 16, 4, 8), (4, 1024, 1024, 4, 16), (2, 4096, 77, 8, 40)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    for batch, queries, keys, heads, channels in SHAPES:
        lengths = (queries, keys, keys)
        qkv = [
            ops.convert_to_tensor(rng.standard_normal((batch, n, heads, channels)).astype("float32")) for n in lengths
        ]
        row = {
            "backend": keras.backend.backend(),
            "batch, queries, keys, heads, channels": [batch, queries, keys, heads, channels],
        }
        functions = {"here": dot_product_attention, "there": ops.dot_product_attention}
        for what, wrap in (("forward", lambda f: f), ("gradient", gradient)):
            calls = {name: Compiled(wrap(function)) for name, function in functions.items()}
            a, b = (ops.convert_to_numpy(call(*qkv)) for call in calls.values())
            np.testing.assert_allclose(a, b, atol=1e-4)
            row[what] = here_and_there(*(partial(computed, call, *qkv) for call in calls.values()), options.rounds)
        print(json.dumps(row), flush=True)


def gradient(function):
    """vᵀ·∂y/∂(q, k, v) for v = y, the three side by side."""

    def of(*qkv):
        joined = ops.concatenate(qkv, axis=1)
        ends = np.cumsum([t.shape[1] for t in qkv])

        def split(joined):
            return function(*(joined[:, start:end] for start, end in zip((0, *ends[:-1]), ends))), None

        y, _, vjp = pullback(split, joined)
        return vjp(y)

    return of


if __name__ == "__main__":
    main()
