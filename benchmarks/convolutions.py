"""Convolutions on a CPU with JAX: compiled with our options, and with JAX's own (see runtime/compile.py).

    KERAS_BACKEND=jax python benchmarks/convolutions.py [--rounds 15]

Prints one JSON line per shape, for eight 3×3 convolutions one after another and their gradient, and one for a U-Net;
"there" is JAX by itself, and a ratio below 1 says that programs compiled as here are faster.
"""

import argparse
import json
from functools import partial

import jax
import keras
import numpy as np
from keras import ops
from turns import computed, here_and_there

import keras_diffusion as kd
from keras_diffusion.runtime.compile import compiler_options

# Batch, side, channels.
SHAPES = [
    (1, 8, 64),
    (16, 8, 32),
    (16, 8, 64),
    (8, 32, 32),
    (8, 16, 64),
    (8, 8, 128),
    (2, 64, 64),
    (2, 32, 128),
    (2, 16, 256),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    if keras.backend.backend() != "jax" or not compiler_options():
        parser.error(
            "Only JAX on a CPU whose XLA knows the option compiles in two ways. Set KERAS_BACKEND=jax, and no XLA_FLAGS"
        )
    rng = np.random.default_rng(0)
    for batch, side, channels in SHAPES:
        x = rng.standard_normal((batch, side, side, channels)).astype("float32")
        kernel = (rng.standard_normal((3, 3, channels, channels)) / np.sqrt(9 * channels)).astype("float32")
        row = {"batch, side, channels": [batch, side, channels]}
        row["forward"] = compare(eight, options.rounds, x, kernel)
        row["gradient"] = compare(
            jax.grad(lambda x, kernel: ops.sum(ops.square(eight(x, kernel))), (0, 1)), options.rounds, x, kernel
        )
        print(json.dumps(row), flush=True)
    network = kd.networks.UNet((32, 32, 3), widths=(32, 64, 96), num_res_blocks=2, seed=0)
    weights = [
        [variable.value for variable in group]
        for group in (network.trainable_variables, network.non_trainable_variables)
    ]
    inputs = {"x": np.ones((8, 32, 32, 3), "float32"), "noise_level": np.zeros((8,), "float32")}

    def call(weights, inputs):
        return network.stateless_call(*weights, inputs)[0]

    row = {"UNet": {"batch": 8, "shape": [32, 32, 3], "parameters": network.count_params()}}
    print(json.dumps({**row, "forward": compare(call, options.rounds, weights, inputs)}), flush=True)


def eight(x, kernel):
    for _ in range(8):
        x = ops.conv(x, kernel, padding="same", data_format="channels_last")
    return x


def compare(function, rounds, *args):
    """Times of both ways, which agree to rounding; one output of a program is there when all are."""
    calls = [jax.jit(function, compiler_options=compiler_options()), jax.jit(function)]
    for here, there in zip(*(jax.tree.leaves(call(*args)) for call in calls)):
        np.testing.assert_allclose(here, there, rtol=1e-3, atol=1e-3 * np.abs(there).max())
    return here_and_there(
        *(partial(computed, lambda call: jax.tree.leaves(call(*args))[0], call) for call in calls), rounds
    )


if __name__ == "__main__":
    main()
