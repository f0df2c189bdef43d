"""The Keras example "Denoising Diffusion Implicit Models" (A. Béres, 2022) on this library, on any backend.

    python recipes/ddim_keras_example.py                    Oxford flowers, 64×64 (TFDS), 50 epochs
    python recipes/ddim_keras_example.py --data pictures/   your own images
    python recipes/ddim_keras_example.py --quick            8×8 digits, a small network, seconds

The example's: network, images normalized to zero mean and unit variance, batches of 64, epochs of five passes, signal
rates from 0.95 to 0.02 along a cosine, ε-prediction, AdamW with 1e-3 and weight decay 1e-4, EMA of 0.999, 20 DDIM
steps. Different here: the loss is the squared error, there the absolute error; it is watched on a held-out part, while
the example measures KID; the EMA warms up; epochs shuffle the whole data set. `checkpoints.load` reads the example's
own weights into the same model, with its normalizer.
"""

import argparse
import math
import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras

import keras_diffusion as kd

FULL = {"widths": (32, 64, 96, 128), "block_depth": 2, "embedding_dims": 32, "embedding_max_frequency": 1000.0}
QUICK = {"widths": (16, 24), "block_depth": 1, "embedding_dims": 8, "embedding_max_frequency": 1000.0}


def log_snr(signal_rate):
    """log(α²/σ²) of a signal rate α, with α² + σ² = 1."""
    return math.log(signal_rate**2 / (1.0 - signal_rate**2))


def main(arguments=None):
    """Trains, writes `ddim.png` and `ddim.keras` into the folder `--out`, and returns the history of the losses."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", default="oxford_flowers102", help="what data.load takes: a TFDS name, an image folder, a .npz file"
    )
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--out", default=".", help="folder for results")
    parser.add_argument("--quick", action="store_true", help="digits and a small network")
    options = parser.parse_args(arguments)
    keras.utils.set_random_seed(0)

    if options.quick:
        train, held_out = (kd.data.load("digits", split, batch_size=64) for split in ("train", "test"))
    elif options.data == "oxford_flowers102":
        splits = ("train[:80%]+validation[:80%]+test[:80%]", "train[80%:]+validation[80%:]+test[80%:]")
        train, held_out = (kd.data.load(options.data, split, image_size=64, download=True) for split in splits)
    else:
        splits = ("train", "validation")
        train, held_out = (
            kd.data.load(options.data, split, image_size=64, validation_fraction=0.2) for split in splits
        )
    train, held_out = kd.data.without_labels(train), kd.data.without_labels(held_out)
    normalizer = kd.layers.Normalizer.from_data(train)  # before an epoch is made of five passes
    if not options.quick:
        train.batches_per_epoch = 5 * len(train)

    model = kd.DiffusionModel(
        kd.networks.ResidualUNet(train.image_shape, **(QUICK if options.quick else FULL)),
        noise_schedule=kd.schedulers.get(
            "cosine", log_snr_min=log_snr(0.02), log_snr_max=log_snr(0.95), spacing="trailing"
        ),
        predictor=kd.predictors.get("epsilon", condition="noise_variance"),
        autoencoder=normalizer,
        ema=0.999,
    )
    model.compile(optimizer=keras.optimizers.AdamW(1e-3, weight_decay=1e-4))
    history = model.fit(train, validation_data=held_out, epochs=options.epochs)

    samples = model.generate(16, num_steps=20, sampler="ddim", seed=0)
    os.makedirs(options.out, exist_ok=True)
    kd.visualization.save_png(os.path.join(options.out, "ddim.png"), kd.visualization.image_grid(samples, scale="auto"))
    model.save(os.path.join(options.out, "ddim.keras"))
    return history.history


if __name__ == "__main__":
    main()
