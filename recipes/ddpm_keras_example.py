"""The Keras example "Denoising Diffusion Probabilistic Model" (A. K. Nain, 2022) on this library, on any backend.

    python recipes/ddpm_keras_example.py                    Oxford flowers, 64×64 (TFDS); one epoch, as in the example
    python recipes/ddpm_keras_example.py --epochs 800       as long as the published checkpoint was trained
    python recipes/ddpm_keras_example.py --data pictures/   your own images
    python recipes/ddpm_keras_example.py --quick            8×8 digits, a small network, seconds

The example's: network, images in [−1, 1] with random flips, batches of 32, 1000 linear betas, ε-prediction with squared
error, Adam with 2e-4, EMA of 0.999, 1000 ancestral steps with x0 clipped to [−1, 1]. Different here: one uniform number
spreads the noise levels of a batch evenly, in continuous t instead of whole timesteps; the EMA warms up.
`checkpoints.load` reads the example's own weights into the same model: `checkpoints.load(path, config={"size":
64}).diffusion_model()`.
"""

import argparse
import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras

import keras_diffusion as kd

TIMESTEPS = 1000
FULL = {
    "widths": (64, 128, 256, 512),
    "has_attention": (False, False, True, True),
    "num_res_blocks": 2,
    "first_conv_channels": 64,
}
QUICK = {"widths": (8, 16), "has_attention": (False, True), "num_res_blocks": 1, "first_conv_channels": 8}


def main(arguments=None):
    """Trains, writes `ddpm.png` and `ddpm.keras` into the folder `--out`, and returns the history of the losses."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", default="oxford_flowers102", help="what data.load takes: a TFDS name, an image folder, a .npz file"
    )
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--out", default=".", help="folder for results")
    parser.add_argument("--quick", action="store_true", help="digits and a small network")
    options = parser.parse_args(arguments)
    keras.utils.set_random_seed(0)

    if options.quick:
        images = kd.data.load("digits", batch_size=128)
    else:
        images = kd.data.load(options.data, image_size=64, batch_size=32, horizontal_flip=True, download=True)
    images = kd.data.without_labels(images)

    model = kd.DiffusionModel(
        kd.networks.DDPMUNet(images.image_shape, **(QUICK if options.quick else FULL)),
        noise_schedule=kd.schedulers.get("linear", timesteps=TIMESTEPS, beta_start=1e-4, beta_end=0.02),
        predictor=kd.predictors.get("epsilon", condition="timestep", timesteps=TIMESTEPS),
        ema=0.999,
    )
    model.compile(optimizer=keras.optimizers.Adam(2e-3 if options.quick else 2e-4))
    history = model.fit(images, epochs=options.epochs)

    samples = model.generate(
        16, num_steps=20 if options.quick else TIMESTEPS, sampler="ddpm", guidance=kd.guidance.StaticThreshold, seed=0
    )
    os.makedirs(options.out, exist_ok=True)
    kd.visualization.save_png(os.path.join(options.out, "ddpm.png"), kd.visualization.image_grid(samples, scale="auto"))
    model.save(os.path.join(options.out, "ddpm.keras"))
    return history.history


if __name__ == "__main__":
    main()
