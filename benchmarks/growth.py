"""How the time of sampling and of a training step grows: with steps, batch and resolution.

    KERAS_BACKEND=jax python benchmarks/growth.py [--out docs/images/growth.png] [--json benchmarks/results/growth.json]

A U-Net of 2 million weights. Each number is the median of three runs after one that compiles.
"""

import argparse
import json
import time
from pathlib import Path

import keras
import numpy as np

import keras_diffusion as kd

STEPS, BATCHES, SIZES = (10, 25, 50, 100, 200), (1, 2, 4, 8, 16, 32), (16, 32, 48, 64, 96)


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


def median(run):
    run()  # compiles
    times = []
    for _ in range(3):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def draw(results, path):
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    for panel, (title, curves) in zip(panels, results["curves"].items(), strict=True):
        for name, points in curves.items():
            x, y = np.array(points).T
            panel.plot(x, y, "o-", label=name)
        x, y = np.array(next(iter(curves.values()))).T
        power = 2 if "side" in title else 1
        panel.plot(x, y[-1] * (x / x[-1]) ** power, ":", color="grey", label="area" if power == 2 else "proportional")
        panel.set(xscale="log", yscale="log", xlabel=title, ylabel="seconds")
        panel.set_xticks(x, [f"{v:g}" for v in x])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
        panel.legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/images/growth.png"))
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/growth.json"))
    options = parser.parse_args()
    middle = model_of(32)
    curves = {
        "steps of sampling (batch 8, 32×32)": {"generate": [(n, sampling(middle, 8, n)) for n in STEPS]},
        "batch (32×32)": {
            "generate, 10 steps": [(n, sampling(middle, n, 10)) for n in BATCHES],
            "training step": [(n, training(middle, n)) for n in BATCHES],
        },
    }
    models = {size: model_of(size) for size in SIZES}
    curves["side of the images (batch 4)"] = {
        "generate, 10 steps": [(size, sampling(model, 4, 10)) for size, model in models.items()],
        "training step": [(size, training(model, 4)) for size, model in models.items()],
    }
    results = {"backend": keras.backend.backend(), "parameters": middle.network.count_params(), "curves": curves}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    draw(results, options.out)
    for title, lines in curves.items():
        for name, points in lines.items():
            print(f"{title}, {name}: " + ", ".join(f"{x:g}: {y:.3f} s" for x, y in points), flush=True)


if __name__ == "__main__":
    main()
