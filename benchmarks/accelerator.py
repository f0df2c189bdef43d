"""Training and sampling on an accelerator: time, memory, and the share of the hardware's peak that is used.

    KERAS_BACKEND=jax python benchmarks/accelerator.py [--cases unet64 unet128 dit_s dit_b] [--dtypes float32
    mixed_bfloat16] [--scale 1]

Writes benchmarks/results/DEVICE.json, DEVICE being the name that JAX gives the device, after every measurement; prints
one line each. The same models run on a CPU with `--scale 0.05 --rounds 1`: to see that all of it works, not to learn
anything.

Model FLOPs utilization (MFU) counts the floating-point operations of the network's forward pass, as XLA counts them
before it optimizes, thrice for a training step, and divides by time and by the peak of the device for dense bfloat16
(with tensor cores, no sparsity), whichever dtype is measured.

Reference: Chowdhery et al., "PaLM", arXiv:2204.02311, appendix B.
"""

import argparse
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import keras
import numpy as np
from turns import in_turns

import keras_diffusion as kd
from keras_diffusion.runtime.files import write_json
from keras_diffusion.runtime.hardware import peak_memory

# TFLOP/s in bfloat16, from the manufacturers' data sheets (of the SXM versions).
PEAKS = {
    "H200": 989,
    "H100": 989,
    "A100": 312,
    "L4": 121,
    "TPU v4": 275,
    "TPU v5 lite": 197,
    "TPU v5": 459,
    "TPU v6": 918,
}
# name: (network, sample shape, its arguments, batch of training, batch of sampling)
CASES = {
    "unet64": (kd.networks.UNet, (64, 64, 3), {"widths": (64, 128, 256, 512), "num_classes": 100}, 64, 64),
    "unet128": (kd.networks.UNet, (128, 128, 3), {"widths": (96, 192, 384, 576), "num_classes": 100}, 32, 32),
    "dit_s": (
        kd.networks.SimpleDiT,
        (32, 32, 4),
        {"patch_size": 2, "emb_features": 384, "num_heads": 6, "num_classes": 1000},
        128,
        64,
    ),
    "dit_b": (
        kd.networks.SimpleDiT,
        (32, 32, 4),
        {"patch_size": 2, "emb_features": 768, "num_heads": 12, "num_classes": 1000},
        64,
        64,
    ),
}
_STEPS, _SAMPLING_STEPS = 20, 20


def measure(name, dtype, scale, rounds):
    """One row of the results."""
    network_class, shape, options, train_batch, batch = CASES[name]
    train_batch, batch = (max(1, int(size * scale)) for size in (train_batch, batch))
    model = kd.DiffusionModel(network_class(shape, **options, dtype=dtype), seed=0)
    model.compile(keras.optimizers.Adam(1e-4))
    rng = np.random.default_rng(0)
    count = _STEPS * train_batch
    data = {"images": rng.integers(0, 256, (count, *shape)).astype("uint8"), "labels": np.zeros(count, "int32")}
    runs = {
        "training": lambda: model.fit(data, batch_size=train_batch, verbose=0),
        "sampling": lambda: model.generate(
            batch, {"labels": 0}, num_steps=_SAMPLING_STEPS, guidance_scale=2.0, seed=0, verbose=0
        ),
    }
    first = {name: float(spent[0]) for name, spent in in_turns(runs, 1).items()}
    times = in_turns(runs, rounds)
    flops, peak = forward_flops(model.network, shape), peak_of(jax.devices()[0].device_kind)
    # Per training step three forward passes' worth; guidance doubles the batch of sampling.
    work = {"training": 3 * flops * train_batch * _STEPS, "sampling": 2 * flops * batch * _SAMPLING_STEPS}
    row = {
        "case": name,
        "dtype": dtype,
        "device": jax.devices()[0].device_kind,
        "parameters": model.network.count_params(),
        "GFLOP forward": flops / 1e9,
    }
    for what, size, parts in (("training", train_batch, _STEPS), ("sampling", batch, 1)):
        seconds = float(np.median(times[what]))
        row[what] = {
            "batch": size,
            "seconds": seconds / parts,
            "quartiles": [float(q) / parts for q in np.quantile(times[what], [0.25, 0.75])],
            "samples per second": size * parts / seconds,
            "first": first[what],
            "MFU": None if peak is None else work[what] / seconds / peak,
        }
    return {**row, "peak memory": peak_memory()}


def forward_flops(network, shape):
    """Floating-point operations of one forward pass of one sample."""
    inputs = {key: np.zeros((1, *tensor.shape[1:]), tensor.dtype) for key, tensor in network.input.items()}
    variables = (
        [variable.value for variable in network.trainable_variables],
        [variable.value for variable in network.non_trainable_variables],
    )
    return (
        jax.jit(lambda *values: network.stateless_call(*values, inputs, training=False)[0])
        .lower(*variables)
        .cost_analysis()["flops"]
    )


def peak_of(kind):
    """FLOP/s of a kind of device, or None where the table does not have it."""
    return next((1e12 * peak for name, peak in PEAKS.items() if name.lower() in kind.lower()), None)


def line(row):
    def of(what):
        numbers = row[what]
        share = "" if numbers["MFU"] is None else f", MFU {numbers['MFU']:.1%}"
        return f"{what} {1e3 * numbers['seconds']:.1f} ms, {numbers['samples per second']:.1f} samples/s{share}"

    return (
        f"{row['case']}, {row['dtype']}: {of('training')}; {of('sampling')}; "
        f"{row['peak memory']['bytes'] / 2**20:,.0f} MiB"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--dtypes", nargs="+", default=["float32", "mixed_bfloat16"])
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the batches")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="instead of benchmarks/results/DEVICE.json")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # measure this case and dtype here
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(*options.one, options.scale, options.rounds)))
        return
    # A process each: memory is counted from the start of one, and two of them would not fit on the device.
    rows, device = [], None
    for name, dtype in itertools.product(options.cases, options.dtypes):
        command = [
            sys.executable,
            __file__,
            "--one",
            name,
            dtype,
            "--scale",
            str(options.scale),
            "--rounds",
            str(options.rounds),
        ]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            rows.append({"case": name, "dtype": dtype, "failed": f"exit status {done.returncode}"})
            print(f"{name}, {dtype}: failed", flush=True)
        else:
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            print(line(rows[-1]), flush=True)
            device = rows[-1]["device"]
        if device is None:
            continue
        default = Path(__file__).parent / "results" / f"{re.sub(r'[^a-z0-9]+', '-', device.lower()).strip('-')}.json"
        versions = {"jax": jax.__version__, "keras": keras.__version__}
        write_json(
            options.out or default, {"device": device, **versions, "rounds": options.rounds, "measurements": rows}
        )


if __name__ == "__main__":
    main()
