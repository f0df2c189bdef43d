"""Diffusion in latents, as users of pictures see it: sizes, masks and films in pixels, decoding in tiles."""

import keras
import numpy as np
import pytest
from PIL import Image

import keras_diffusion as kd
from keras_diffusion.models.arguments import latent_mask_of

F = 4  # pixels per position of latents


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    autoencoder = kd.networks.AutoencoderTiny(4, (1, 1, 1), (1, 1, 1), latent_channels=2)
    network = kd.networks.UNet((None, None, 2), widths=(4, 8), num_res_blocks=1, attention=False)
    return kd.DiffusionModel(network, autoencoder=autoencoder, seed=0, ema=None)


def drawn(*shape):
    return np.random.default_rng(0).uniform(-1.0, 1.0, shape).astype("float32")


def test_masks_have_the_size_of_pictures_or_of_latents(model):
    images, mask = drawn(2, 16, 24, 3), np.zeros((16, 24), "float32")
    mask[:, :12] = 1.0
    options = {"num_steps": 2, "seed": 0, "init": images, "verbose": 0, "clip": False, "num_samples": 2}
    of_pixels = model.generate(mask=mask, **options)
    np.testing.assert_array_equal(of_pixels, model.generate(mask=mask[::F, ::F], **options))
    assert of_pixels.shape == images.shape
    assert np.abs(of_pixels - model.generate(**options)).max() > 1e-4
    started = model.generate(**{**options, "strength": 0.5})  # image to image
    assert started.shape == images.shape and np.abs(started - of_pixels).max() > 1e-4


@pytest.mark.parametrize("shape", [(8, 12), (8, 12, 1), (2, 8, 12), (1, 8, 12, 1)])
def test_a_position_of_latents_is_kept_if_all_its_pixels_are(shape):
    mask = np.ones((8, 12), "float32")
    mask[3, 5] = 0.25
    given = np.broadcast_to(mask if len(shape) < 4 and shape[-1] != 1 else mask[..., None], shape)
    expected = np.ones((2, 3))
    expected[0, 1] = 0.25
    found = latent_mask_of(given, 2, (2, 3, 5), F)
    np.testing.assert_array_equal(found[0, ..., 0], expected)
    assert found.shape[1:] == (2, 3, 1)


def test_a_mask_of_another_size_is_no_mask(model):
    with pytest.raises(ValueError, match=r"of shape \(16, 24, 1\) has one of the shapes.*mask of shape \(15, 24\)"):
        model.generate(init=drawn(1, 16, 24, 3), mask=np.ones((15, 24)), num_steps=2)


@pytest.mark.parametrize(
    "size, text",
    [
        (
            20,
            r"multiples of 8 with this autoencoder and network. Received: size=20. Sizes that work: \(16, 16\) or \(24",
        ),
        ((16, 3), r"Sizes that work: \(16, 8\)$"),
        ((16, 8, 8), r"or 2 of them, multiples of 8 with this autoencoder and network. Received: size=\(16, 8, 8\)$"),
    ],
)
def test_errors_name_the_sizes_that_work(model, size, text):
    with pytest.raises(ValueError, match=text):
        model.generate(1, size=size, num_steps=2)


def test_images_of_a_size_that_does_not_divide(model):
    with pytest.raises(ValueError, match=r"Received: size=\(18, 24\). Sizes that work: \(16, 24\) or \(20, 24\)"):
        model.generate(init=drawn(1, 18, 24, 3), num_steps=2)


def test_samples_are_decoded_in_tiles_where_the_autoencoder_says_so(model):
    options = {"num_steps": 2, "seed": 0, "size": (64, 96), "verbose": 0, "clip": False}
    whole = model.generate(1, **options)
    try:
        model.autoencoder.tile_size, model.autoencoder.tile_overlap = 56, 48
        tiled = model.generate(1, **options)
    finally:
        model.autoencoder.tile_size = model.autoencoder.tile_overlap = None
    assert 0.0 < np.abs(tiled - whole).max() < 5 / 255


@pytest.mark.slow
def test_the_command_line_shows_walks_as_pictures(model, tmp_path):
    from command_line import run

    model.save_to_preset(tmp_path / "preset")
    options = ["--num-samples", 2, "--steps", 3, "--size", 16, "--seed", 0]
    for name, more in (("film.png", ["--film"]), ("walk.gif", []), ("grid.png", ["--tile", 8])):
        result = run("sample", tmp_path / "preset", *options, *more, "--out", tmp_path / name)
        assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "film.png") as film:
        assert film.size[0] > film.size[1] and film.mode == "RGB"
    refused = run("sample", tmp_path / "preset", *options, "--tile", 9, "--out", tmp_path / "other.png")
    assert refused.exit_code != 0 and "--tile is a multiple of 4 with this autoencoder" in " ".join(
        refused.output.split()
    )
