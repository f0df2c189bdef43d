"""Whether what augmentation does to training pictures appears in samples, if the network is told of it and if not.

    KERAS_BACKEND=jax python benchmarks/leaking.py [--seeds 3]

The pictures are ramps of 8×8 pixels from dark on the left to bright on the right, of several strengths, so that the
direction of a sample is an angle: 0° is upright. `NonLeaking(0.5)` mirrors and turns most of them. Prints one JSON line
per seed and network: the share of 256 samples, and of the training pictures, within 15° of upright.
"""

import argparse
import json

import keras
import numpy as np

import keras_diffusion as kd

SIDE, STEPS, SAMPLES, NEAR = 8, 600, 256, 15


def ramps(rng, n=1024):
    """Pictures `(n, 8, 8, 1)`."""
    across = np.linspace(-1, 1, SIDE)[None, None, :, None] * np.ones((1, SIDE, 1, 1))
    return (across * rng.uniform(0.5, 1, (n, 1, 1, 1))).astype("float32")


def upright(images):
    """The share of pictures whose direction is within 15° of that of the ramps."""
    places = np.linspace(-1, 1, SIDE)
    x, y = (np.tensordot(images[..., 0].mean(axis), places, 1) for axis in (1, 2))
    return float((np.abs(np.degrees(np.arctan2(y, x))) < NEAR).mean())


def measure(seed, told):
    """Trains a transformer and looks at its samples; returns a dict of shares."""
    keras.utils.set_random_seed(seed)
    change = kd.data.NonLeaking(0.5)
    augment = change if told else lambda images, rng: change(images, rng)[0]
    images = {"images": ramps(np.random.default_rng(seed))}
    data = kd.data.Batches(images, 64, seed=seed, augment=augment, batches_per_epoch=STEPS)
    sizes = {"patch_size": 2, "emb_features": 32, "num_layers": 2, "num_heads": 2}
    network = kd.networks.SimpleDiT((SIDE, SIDE, 1), augmentation_dim=change.dim if told else None, **sizes)
    model = kd.DiffusionModel(network, ema=0.98, seed=seed)
    model.compile(keras.optimizers.Adam(2e-3))
    model.fit(data, verbose=0)
    trained_on = np.concatenate([data[i]["images"] for i in range(16)])
    return {"samples": upright(model.generate(SAMPLES, num_steps=30, seed=seed)), "training": upright(trained_on)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    for seed in range(parser.parse_args().seeds):
        for told in (True, False):
            print(json.dumps({"seed": seed, "told": told, **measure(seed, told)}), flush=True)


if __name__ == "__main__":
    main()
