"""What packed latents save, and whether training on them is training on the pictures (examples/latent.toml's model).

    KERAS_BACKEND=jax python benchmarks/cached_latents.py [--json benchmarks/results/latents.json]

Pictures are PNG files in tar files, as `data pack` writes them, and latents what it writes with --autoencoder. The
rounds train a few steps from each place in turn:

    step       seconds of a step, median and quartiles over the rounds
    ratio      to that from pictures in the same round
    bytes      of a sample's file

Then new models with one seed are trained from each place, and their losses compared, step by step: `difference` is the
largest one, beside the standard deviation of the losses over the steps. Weights of the autoencoder are random, and its
scale is measured.
"""

import argparse
import tempfile
import time
from pathlib import Path

import keras
import numpy as np

import keras_diffusion as kd
from keras_diffusion.runtime.files import write_json

BATCH = 32
#: What is packed, with the options of `data.pack`.
KINDS = {
    "moments": {},
    "means": {"latents": "means"},
    "moments, float16": {"dtype": "float16"},
    "moments, mirrored": {"flip": True},
}


def autoencoder_of(pictures):
    """The autoencoder of examples/autoencoder.toml."""
    keras.utils.set_random_seed(0)
    small = kd.networks.AutoencoderKL((32, 64), 1, latent_channels=3, attention=False, scale=1.0)
    model = kd.AutoencoderModel(small, ema=None)
    model.measure_latents(pictures)
    return model.autoencoder


def model_of(autoencoder):
    """The model of examples/latent.toml."""
    keras.utils.set_random_seed(1)
    network = kd.networks.UNet((16, 16, 3), widths=(64, 128), num_res_blocks=1)
    model = kd.DiffusionModel(network, autoencoder=autoencoder, ema=0.998, seed=0)
    model.compile(keras.optimizers.AdamW(1e-3))
    return model


def places(folder, count):
    """(folders by the name of what is in them, the autoencoder)."""
    images = kd.data.load("shapes", image_size=32, batch_size=count)[0]["images"]
    pictures = kd.data.load({"images": images}, batch_size=BATCH)
    found = {"pictures": kd.data.pack(pictures, folder / "pictures").folder}
    autoencoder = autoencoder_of(pictures)
    for number, (name, options) in enumerate(KINDS.items()):
        start = time.perf_counter()
        found[name] = kd.data.pack(pictures, folder / str(number), autoencoder=autoencoder, **options).folder
        print(f"packed {name}: {time.perf_counter() - start:.1f} s for {count} pictures")
    return found, autoencoder


def batches_from(folder, steps, mirrored):
    """Batches of a folder, epochs of some steps."""
    return kd.data.load(folder, batch_size=BATCH, batches_per_epoch=steps, seed=0, horizontal_flip=mirrored)


def quartiles(values, digits=4):
    """n, and the median with its quartiles."""
    low, middle, high = (round(float(q), digits) for q in np.quantile(values, (0.25, 0.5, 0.75)))
    return {"n": len(values), "median": middle, "quartiles": [low, high]}


def times(folders, autoencoder, steps, rounds):
    """Seconds of a step from each place, in every round."""
    model, seconds = model_of(autoencoder), {name: [] for name in folders}
    data = {name: batches_from(folder, steps, "mirrored" in name) for name, folder in folders.items()}
    for number in range(rounds + 1):
        for name, batches in data.items():
            start = time.perf_counter()
            model.fit(batches, verbose=0)
            if number:  # the first one compiles
                seconds[name].append((time.perf_counter() - start) / steps)
    return seconds


def curve(folder, autoencoder, steps, mirrored):
    """The losses of the first steps of a new model."""
    batches = batches_from(folder, 1, mirrored)  # epochs of one step, whose loss Keras does not average
    return np.array(model_of(autoencoder).fit(batches, epochs=steps, verbose=0).history["loss"])


def row_of(name, folder, seconds, curves):
    """What was measured of a place, a dict."""
    mirrored, latents = "mirrored" in name, kd.data.load(folder, batch_size=1).latents
    ratios = np.array(seconds[name]) / seconds["pictures"]
    row = {"step": quartiles(seconds[name]), "ratio": quartiles(ratios, 3)}
    if latents is not None:
        row["bytes"] = latents.sample_bytes
        expected = curves["pictures", mirrored]
        row["difference"] = float(np.abs(curves[name, mirrored] - expected).max())
        row["spread"] = round(float(expected.std()), 4)
    return row


def measure(steps, rounds, count):
    """A dict for JSON."""
    with tempfile.TemporaryDirectory() as name:
        folders, autoencoder = places(Path(name), count)
        seconds = times(folders, autoencoder, steps, rounds)
        trained = [("pictures", False), ("pictures", True), *((kind, "mirrored" in kind) for kind in KINDS)]
        curves = {(kind, flip): curve(folders[kind], autoencoder, 2 * steps, flip) for kind, flip in trained}
        rows = {kind: row_of(kind, folder, seconds, curves) for kind, folder in folders.items()}
    about = {"backend": keras.backend.backend(), "batch": BATCH, "steps": steps, "loss_steps": 2 * steps}
    return {**about, "pictures": count, "places": rows}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=512)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found = measure(arguments.steps, arguments.rounds, arguments.pictures)
    for name, row in found["places"].items():
        print(name, row)
    if arguments.json:
        write_json(arguments.json, found)


if __name__ == "__main__":
    main()
