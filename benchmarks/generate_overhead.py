"""What `generate` costs beside the network itself.

Runs `model.generate` with n steps and the bare compiled network n times in turns, and prints the ratio of the medians. The bar is 1.05.

    KERAS_BACKEND=jax python benchmarks/generate_overhead.py [--size 32] [--batch 8] [--steps 50] [--rounds 7]
"""

import argparse
import json
import time

import keras
import numpy as np

import keras_diffusion as kd
from keras_diffusion.core.compile import Compiled


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=32, help="side of the images, in pixels")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--sampler", default="dpmpp_2m")
    options = parser.parse_args()
    network = kd.networks.UNet((options.size, options.size, 3), widths=(32, 64, 96))
    model = kd.DiffusionModel(network, seed=0)
    inputs = {
        "x": keras.ops.ones((options.batch, options.size, options.size, 3)),
        "noise_level": keras.ops.zeros((options.batch,)),
    }
    values = [variable.value for variable in network.variables]

    def bare(values, inputs):
        with keras.StatelessScope(state_mapping=list(zip(network.variables, values))):
            return network(inputs, training=False)

    call = Compiled(bare)

    def walk():
        model.generate(options.batch, num_steps=options.steps, sampler=options.sampler, seed=0, verbose=0)

    def floor():
        for _ in range(evaluations):
            output = call(values, inputs)
        keras.ops.convert_to_numpy(output)

    evaluations = options.steps * kd.samplers.get(options.sampler).evaluations_per_step
    times = {"generate": [], "network": []}
    walk(), floor()  # compile
    for _ in range(options.rounds):
        for name, function in (("generate", walk), ("network", floor)):
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    ratios = np.array(times["generate"]) / np.array(times["network"])
    result = {
        "backend": keras.backend.backend(),
        "parameters": network.count_params(),
        "network calls": evaluations,
        "milliseconds per step": {name: round(1e3 * float(np.median(t)) / options.steps, 3) for name, t in times.items()},
        "ratio of medians": round(float(np.median(times["generate"]) / np.median(times["network"])), 4),
        "ratio, quartiles": [round(float(q), 4) for q in np.quantile(ratios, [0.25, 0.75])],
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
