"""Counts what a model of words gets right: `python benchmarks/shapes.py RUN`, two minutes on two cores.

    keras-diffusion train examples/shapes.toml --out runs/shapes
    python benchmarks/shapes.py runs/shapes

For each guidance scale, one picture of each of `n` captions that training never saw is drawn, and read back from its
pixels by `kd.data.check_shapes`. Prints the table of docs/words.md, with two reference lines: real pictures of the same
captions, and real pictures of other captions, which is what a model that does not listen gets. Writes the numbers to
--json and a sheet of pictures to --sheet.
"""

import argparse
import json
import math
import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

import numpy as np

import keras_diffusion as kd

ASPECTS = ("colours", "shapes", "sizes", "positions", "all")
SCALES = (1.0, 2.0, 3.0, 5.0)


def unseen(n, size):
    """Pictures uint8 `(n, size, size, 3)` and captions that training never saw."""
    source = kd.data.Shapes(n, size, held_out=True)
    return source.batch(np.arange(n))["images"], list(source.captions)


def shares(images, captions):
    """{aspect: (share, standard error, number)} of what pictures show of their captions."""
    right = kd.data.check_shapes(images, captions)
    result = {}
    for aspect in ASPECTS:
        share, number = float(right[aspect].mean()), len(right[aspect])
        result[aspect] = (share, math.sqrt(share * (1 - share) / number), number)
    return result


def table(rows):
    """Markdown of {title: shares}."""
    lines = ["| | " + " | ".join(ASPECTS) + " |", "|---|" + "---|" * len(ASPECTS)]
    for title, row in rows.items():
        cells = [f"{100 * share:.1f} ± {100 * error:.1f} %" for share, error, _ in row.values()]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="folder of a training run, or a preset")
    parser.add_argument("--n", type=int, default=500, help="pictures for each guidance scale (default 500)")
    parser.add_argument("--scales", type=float, nargs="+", default=SCALES)
    parser.add_argument("--steps", type=int, default=30, help="sampling steps of DPM-Solver++ (default 30)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sheet", type=Path, help="PNG with the first pictures of each guidance scale")
    options = parser.parse_args()
    model = kd.DiffusionModel.from_preset(options.run)
    real, captions = unseen(options.n, model.sample_shape[0])
    rows = {"real pictures": shares(real, captions), "of other captions": shares(np.roll(real, 1, 0), captions)}
    shown = [real[:8]]
    for scale in options.scales:
        images = model.text_to_image(
            captions, guidance_scale=scale, num_steps=options.steps, sampler="dpmpp_2m", seed=options.seed,
            batch_size=100, dtype="uint8",
        )  # fmt: skip
        rows[f"guidance {scale:g}"] = shares(images, captions)
        shown.append(images[:8])
    numbers = {aspect: number for aspect, (_, _, number) in rows["real pictures"].items()}
    print(table(rows))
    print(f"\nn = {numbers['all']}, {numbers['positions']} with two shapes; ± standard error")
    if options.json:
        options.json.write_text(json.dumps({"n": numbers, "rows": rows}, indent=1) + "\n")
    if options.sheet:
        titles = ["real", *(f"guidance {scale:g}" for scale in options.scales)]
        grid = kd.visualization.image_grid(
            np.concatenate(shown), cols=8, pad=4, scale=2, background=None, titles=titles,
            captions=[*[""] * 8 * (len(shown) - 1), *captions[:8]],
        )  # fmt: skip
        kd.visualization.save_png(options.sheet, grid)


if __name__ == "__main__":
    main()
