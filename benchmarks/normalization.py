"""Group normalization and SiLU here and in Keras: time of the compiled pair, and of its gradient.

    KERAS_BACKEND=jax python benchmarks/normalization.py [--rounds 40]

Prints one JSON line per shape, "there" being Keras; a ratio below 1 says that the layer here is faster.
"""

import argparse
import json
from functools import partial

import keras
import numpy as np
from keras import ops
from turns import computed, here_and_there

from keras_diffusion.core.autodiff import pullback
from keras_diffusion.layers.group_normalization import GroupNormalization
from keras_diffusion.runtime.compile import Compiled

SHAPES = [((4, 32, 32, 32), 8), ((4, 32, 32, 64), 8), ((4, 16, 16, 64), 8), ((4, 8, 8, 96), 8), ((8, 64, 64, 64), 32)]


def gradient(function):
    """vᵀ·∂y/∂x for v = y."""

    def of(x):
        y, _, vjp = pullback(lambda x: (function(x), None), x)
        return vjp(y)

    return of


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    for shape, groups in SHAPES:
        layers = {"here": GroupNormalization(groups), "there": keras.layers.GroupNormalization(groups)}
        for layer in layers.values():
            layer.build(shape)
        x = ops.convert_to_tensor(np.random.default_rng(0).standard_normal(shape).astype("float32"))
        row = {"backend": keras.backend.backend(), "shape": shape, "groups": groups}
        for what, wrap in (("forward", lambda f: f), ("gradient", gradient)):
            calls = {}
            for name, layer in layers.items():
                calls[name] = Compiled(wrap(lambda x, layer=layer: ops.silu(layer(x))))
            a, b = (ops.convert_to_numpy(call(x)) for call in calls.values())
            np.testing.assert_allclose(a, b, atol=1e-4)
            row[what] = here_and_there(*(partial(computed, call, x) for call in calls.values()), options.rounds)
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
