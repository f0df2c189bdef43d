"""How the time of sampling and of a training step grows: with steps, batch, resolution and devices.

    KERAS_BACKEND=jax python benchmarks/growth.py [--out docs/images/growth.png] [--json benchmarks/results/growth.json]
    python benchmarks/growth.py --redraw    # the picture alone, of the times that the file holds

A U-Net of 2 million weights. Each number is the median of three runs after one that compiles. Devices, on JAX alone,
are virtual ones of the same CPU, and share one batch: beyond the number of its cores, what they add is the cost of
working together.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
from turns import in_turns

import keras_diffusion as kd
from keras_diffusion.runtime.files import write_json

STEPS, BATCHES, SIZES, DEVICES = (10, 25, 50, 100, 200), (1, 2, 4, 8, 16, 32), (16, 32, 48, 64, 96), (1, 2, 4, 8)
_BATCH = 16  # that devices share


def model_of(size):
    network = kd.networks.UNet((size, size, 3), widths=(32, 64, 96), attention=(False, False, True), num_heads=4)
    model = kd.DiffusionModel(network, seed=0)
    model.compile(keras.optimizers.Adam(1e-4))
    return model


def sampling(model, batch, steps):
    """Seconds of one run of `generate`."""
    return median(lambda: model.generate(batch, num_steps=steps, sampler="dpmpp_2m", seed=0, verbose=0))


def training(model, batch, steps=5):
    """Seconds of a training step."""
    images = np.zeros((steps * batch, *model.sample_shape), "float32")
    return median(lambda: model.fit(images, batch_size=batch, verbose=0)) / steps


def on_devices(count):
    """Seconds of sampling and of a training step on `count` devices, measured in a process that has them."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}"
    environment = {**os.environ, "XLA_FLAGS": flags, "KERAS_BACKEND": "jax"}
    command = [sys.executable, __file__, "--devices", str(count)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def share_a_batch(count):
    """What `on_devices` starts: prints the two numbers."""
    with kd.distribution.make(f"data={count}").scope():
        model = model_of(32)
        print(json.dumps([sampling(model, _BATCH, 10), training(model, _BATCH)]))


def median(run):
    run()  # compiles
    return float(np.median(in_turns({"run": run}, 3)["run"]))


def draw(results, path):
    """The curves of all panels, and beside each how time would grow if it were only that."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    with matplotlib.rc_context(kd.visualization.STYLE):
        panels = len(results["curves"])
        figure, grid = pyplot.subplots(1, panels, figsize=(3.6 * panels, 3.2), layout="constrained")
        for axes, (curve, measured) in zip(grid, results["curves"].items(), strict=True):
            _draw_curve(axes, curve, measured)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110)


def _draw_curve(axes, curve, measured):
    power, meaning = GROWTH[curve]
    for name, points in measured["lines"].items():
        axes.plot(*zip(*points, strict=True), "o-", label=name)
    x, y = np.array(next(iter(measured["lines"].values()))).T
    anchor = 0 if power == 0 else -1
    axes.plot(x, y[anchor] * (x / x[anchor]) ** power, ":", color=kd.visualization.STYLE["text.color"], label=meaning)
    axes.set(xscale="log", yscale="log" if power else "linear", xlabel=measured["title"], ylabel="seconds")
    if not power:
        axes.set_ylim(bottom=0)
    axes.set_xticks(x, [f"{v:g}" for v in x])
    axes.minorticks_off()
    axes.legend(fontsize=8)


def over_steps():
    model = model_of(32)
    return "steps of sampling (batch 8, 32×32)", {"generate": [(n, sampling(model, 8, n)) for n in STEPS]}


def over_batch():
    model = model_of(32)
    return "batch (32×32)", {
        "generate, 10 steps": [(n, sampling(model, n, 10)) for n in BATCHES],
        "training step": [(n, training(model, n)) for n in BATCHES],
    }


def over_side():
    models = {size: model_of(size) for size in SIZES}
    return "side of the images (batch 4)", {
        "generate, 10 steps": [(size, sampling(model, 4, 10)) for size, model in models.items()],
        "training step": [(size, training(model, 4)) for size, model in models.items()],
    }


def over_devices():
    sampled, trained = zip(*(on_devices(count) for count in DEVICES), strict=True)
    return f"virtual devices (batch {_BATCH}, 32×32)", {
        "generate, 10 steps": list(zip(DEVICES, sampled, strict=True)),
        "training step": list(zip(DEVICES, trained, strict=True)),
    }


CURVES = {"steps": over_steps, "batch": over_batch, "side": over_side, "devices": over_devices}
GROWTH = {
    "steps": (1, "proportional"),
    "batch": (1, "proportional"),
    "side": (2, "area"),
    "devices": (0, "the same"),
}  # power, in words


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/images/growth.png"))
    parser.add_argument(
        "--json", type=Path, default=Path("benchmarks/results/growth.json"), help="curves are put into it"
    )
    parser.add_argument("--curves", nargs="+", choices=list(CURVES))
    parser.add_argument("--redraw", action="store_true", help="only draw what --json holds")
    parser.add_argument("--devices", type=int, help=argparse.SUPPRESS)  # for `on_devices`
    options = parser.parse_args()
    if options.devices:
        share_a_batch(options.devices)
        return
    if options.redraw:
        draw(json.loads(options.json.read_text(encoding="utf-8")), options.out)
        return
    backend = keras.backend.backend()
    results = {"backend": backend, "parameters": model_of(32).network.count_params(), "curves": {}}
    if options.json.exists():
        results = json.loads(options.json.read_text(encoding="utf-8"))
    if results["backend"] != backend:
        parser.error(
            f"{options.json} holds curves of {results['backend']}. Received: "
            f"KERAS_BACKEND={backend}. Name another file with --json"
        )
    for name in options.curves or (name for name in CURVES if backend == "jax" or name != "devices"):
        title, lines = CURVES[name]()
        results["curves"][name] = {"title": title, "lines": lines}
        write_json(options.json, results)
        for line, points in lines.items():
            print(f"{title}, {line}: " + ", ".join(f"{x:g}: {y:.3f} s" for x, y in points), flush=True)
    draw(results, options.out)


if __name__ == "__main__":
    main()
