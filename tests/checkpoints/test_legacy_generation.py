"""Checkpoints of the TensorFlow originals draw here what they drew there: the same images from the same noise, in 20
DDIM steps.
"""

from pathlib import Path

import numpy as np
import pytest

import keras_diffusion as kd
from keras_diffusion.guidance import StaticThreshold
from keras_diffusion.layers import Normalizer

CHECKPOINTS = Path(__file__).parents[2] / "legacy_tf" / "checkpoints"
FILES = [
    "ema_weights.h5",
    "ema_model.h5",
    "ema_model.keras",
    "tf_checkpoint",
    "train_checkpoint/ckpt",
    "sharded_checkpoint/model",
    "saved_model",
]
MODELS = ["ddpm", "ddim", "class_conditional"]


def load(name, file, weights="ema"):
    return kd.checkpoints.load(CHECKPOINTS / name / file, weights=weights, verbose=0)


def generate(name, loaded, **options):
    """Images from the stored noise, in the units of the stored images, which were not clipped (DDIM: clipped to [0,
    1]).
    """
    samples = np.load(CHECKPOINTS / name / "samples.npz")
    model = loaded.diffusion_model()
    # The originals take the noise as x_T; `generate` scales it to the noise level of t = 1, a little below 1.
    latents = samples["noise"] / model.noise_schedule.levels(1.0).sigma
    if name == "class_conditional":
        options |= {"conditions": {"labels": samples["labels"]}, "guidance_scale": float(samples["guidance_scale"])}
    images = model.generate(latents=latents, num_steps=20, sampler="ddim", clip=name == "ddim", verbose=0, **options)
    return (images + 1) / 2 if name == "ddim" else images


def stored(name, key):
    return np.load(CHECKPOINTS / name / "samples.npz")[key]


@pytest.mark.parametrize("name", MODELS)
def test_same_images(name):
    for weights in ("ema", "raw"):
        images = generate(name, load(name, "tf_checkpoint", weights))
        np.testing.assert_allclose(images, stored(name, weights), atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ddpm", "class_conditional"])
def test_same_images_when_each_step_clips(name):
    images = generate(name, load(name, "tf_checkpoint"), guidance=StaticThreshold)
    np.testing.assert_allclose(images, stored(name, "ema_clipped"), atol=1e-3)


@pytest.mark.parametrize("name", MODELS)
def test_every_format_holds_the_same_average(name):
    expected = load(name, "tf_checkpoint").network.get_weights()
    for file in FILES:
        for ours, theirs in zip(load(name, file).network.get_weights(), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs, err_msg=file)


def test_a_normalizer_from_elsewhere_takes_the_place_of_the_files():
    loaded = load("ddim", "ema_weights.h5")
    assert loaded.normalizer is None
    loaded.normalizer = Normalizer(stored("ddim", "mean"), stored("ddim", "variance"))
    np.testing.assert_allclose(generate("ddim", loaded), stored("ddim", "ema"), atol=1e-3)


@pytest.mark.slow
def test_guided_digits_do_not_run_off():
    """Drawn as the source draws, clipping predicted images; without that, some become black or white squares."""
    labels = {"labels": list(range(10)) * 4}
    loaded = load("class_conditional", "ema_model.h5")
    assert loaded.sampling == {"sampler": "ddpm", "guidance": "static_threshold"}
    assert any("sampler ddpm, guidance static_threshold" in note for note in loaded.report.notes)
    model = loaded.diffusion_model()
    images = model.generate(conditions=labels, guidance_scale=2.0, seed=0, verbose=0, size=8)
    assert _squares(images) == 0
    assert (
        _squares(
            model.generate(
                conditions=labels, guidance_scale=2.0, seed=0, verbose=0, size=8, guidance="none", sampler="dpmpp_2m"
            )
        )
        > 2
    )
    assert load("ddpm", "ema_model.h5").sampling == loaded.sampling and load("ddim", "ema_model.h5").sampling == {
        "sampler": "ddim"
    }


@pytest.mark.slow
def test_a_converted_preset_is_sampled_as_its_source(tmp_path):
    kd.checkpoints.convert(CHECKPOINTS / "class_conditional" / "ema_model.h5", tmp_path / "preset", verbose=0)
    model = kd.DiffusionModel.from_preset(tmp_path / "preset")
    assert model.sampling_defaults == {"sampler": "ddpm", "guidance": "static_threshold"}


def _squares(images):
    """How many images are black, or white, in nine of ten pixels; no digit of the data is."""
    extremes = [(sign * images > 0.9).mean(axis=(1, 2, 3)) for sign in (-1, 1)]
    return int((np.maximum(*extremes) > 0.9).sum())
