"""Draws the pictures of the site's start page: `python benchmarks/start.py --out docs/images`, a few seconds.

Both walks are led by exact denoisers: nothing is trained.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

import matplotlib

matplotlib.use("Agg")

import numpy as np

import keras_diffusion as kd
from keras_diffusion.visualization import film_strip, plot_trajectories, save_png

METHODS = {"DDIM, 6 steps": ("ddim", 6), "Heun, 30 steps": ("heun", 30)}
CHOSEN = ((0, 3), (8, 1), (9, 3), (10, 2))  # noises of the film, out of a dozen, each the i-th of a seed


def grid(num_steps):
    """(schedule, levels) of the cosine schedule, even in t."""
    schedule = kd.schedulers.get("cosine")
    return schedule, kd.schedulers.get_spacing("linspace").levels(schedule, num_steps)


def walks():
    """Two methods lead the same noise to five blobs in the plane."""
    angles = np.pi / 2 + 2 * np.pi * np.arange(5) / 5
    centres = 1.6 * np.stack([np.cos(angles), np.sin(angles)], -1)
    denoise = kd.denoisers.MixtureDenoiser(np.full(5, 0.2), centres, np.full(5, 0.15))
    noise = np.random.default_rng(1).standard_normal((40, 2))
    found = {}
    for title, (name, num_steps) in METHODS.items():
        schedule, levels = grid(num_steps)
        _, found[title] = kd.samplers.get(name).sample(
            noise, denoise, levels, schedule=schedule, seed=0, trajectory=True
        )
    return plot_trajectories(found, density=denoise.log_prob, start=noise, limits=(-2.4, 2.4))


def film():
    """Noise becomes emoji: the best denoiser of these pictures, which knows them all by heart."""
    source = kd.data.load("emoji", split="all").source
    denoise = kd.denoisers.DatasetDenoiser(source.arrays["images"] / 127.5 - 1.0)
    schedule, levels = grid(40)
    noise = np.stack([np.random.default_rng(seed).standard_normal((4, 32, 32, 3))[i] for seed, i in CHOSEN])
    _, xs = kd.samplers.get("heun").sample(noise, denoise, levels, schedule=schedule, trajectory=True)
    return film_strip(np.array(xs), steps=(0, 9, 16, 20, 24, 28, 33, 39), scale=2, background=None)


def main():
    """Draws them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    folder = parser.parse_args().out
    walks().savefig(folder / "start-walks.png", dpi=110)
    save_png(folder / "start-film.png", film())


if __name__ == "__main__":
    main()
