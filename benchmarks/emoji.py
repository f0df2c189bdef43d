"""Draws a sheet of 40 emoji from words: `python benchmarks/emoji.py RUN --sheet docs/images/emoji.png`, a minute.

    keras-diffusion train examples/emoji.toml --out runs/emoji
    python benchmarks/emoji.py runs/emoji --sheet emoji.png

25 names are of the training data, and 15, marked “new”, are combinations that no emoji has. One picture each, of one
seed: nothing is chosen.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras_diffusion as kd

KNOWN = (
    *("red apple", "green apple", "grinning face", "smiling face with sunglasses", "cat face with tears of joy"),
    *("black cat", "brown heart", "yellow heart", "large blue circle", "large red square"),
    *("large orange diamond", "tangerine", "banana", "cherries", "carrot"),
    *("rocket", "racing car", "bicycle", "full moon symbol", "white flower"),
    *("blue book", "full moon with face", "clock face three oclock", "japan flag", "rainbow flag"),
)
NEW = (
    *("blue apple", "purple apple", "black apple", "red cat", "green cat"),
    *("blue mushroom", "green mushroom", "large black diamond", "large purple diamond", "small red square"),
    *("red rocket", "yellow book", "purple book", "green flower", "cat face with sunglasses"),
)


def main():
    """Draws it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="folder of a training run, or a preset")
    parser.add_argument("--sheet", type=Path, required=True, help="PNG to write")
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--steps", type=int, default=40, help="sampling steps of DPM-Solver++ (default 40)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model = kd.DiffusionModel.from_preset(options.run)
    prompts = [*KNOWN, *NEW]
    images = model.text_to_image(
        prompts, guidance_scale=options.guidance, num_steps=options.steps, sampler="dpmpp_2m", seed=options.seed,
        dtype="uint8",
    )  # fmt: skip
    captions = [*KNOWN, *(f"new: {prompt}" for prompt in NEW)]
    grid = kd.visualization.image_grid(images, cols=10, pad=4, scale=2, background=None, captions=captions)
    kd.visualization.save_png(options.sheet, grid)
    known = set(kd.data.load("emoji", batch_size=1).source.captions)
    unknown = {word for prompt in prompts for word in model.tokenizer.unknown(prompt)}
    print(f"{options.sheet}: {len(prompts)} emoji, {sum(prompt in known for prompt in prompts)} of training names")
    if unknown:
        print(f"words that training never saw: {', '.join(sorted(unknown))}")


if __name__ == "__main__":
    main()
