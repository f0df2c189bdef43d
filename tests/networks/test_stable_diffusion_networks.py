"""`UNet2DCondition` and `AutoencoderKL`; their numbers are held to KerasCV's in checkpoints/test_keras_cv_family.py."""

import keras
import numpy as np
import pytest
from calling import call
from keras import ops

from keras_diffusion.layers.initializers import zero_kernels
from keras_diffusion.networks import AutoencoderKL, UNet2DCondition

SMALL = {"widths": (8, 16), "num_res_blocks": 1, "num_heads": 2, "context_dim": 6, "norm_groups": 4}


def unet(**options):
    with zero_kernels():
        network = UNet2DCondition(**{**SMALL, **options})
    return drawn(network)


def drawn(network):
    rng = np.random.RandomState(0)
    for weight in network.weights:
        if len(weight.shape) > 1:
            weight.assign(rng.standard_normal(weight.shape) / np.sqrt(np.prod(weight.shape[:-1])))
    return network


def inputs(size=(4, 6)):
    rng = np.random.RandomState(1)
    x, context = rng.standard_normal((2, *size, 4)), rng.standard_normal((2, 3, 6))
    return {
        "x": x.astype("float32"),
        "noise_level": np.array([0.0, 999.0], "float32"),
        "context": context.astype("float32"),
    }


@pytest.mark.slow
def test_config_and_file_round_trip(tmp_path):
    network = unet(
        head_dim=4, transformer_depth=2, attention=(False, True), out_channels=3, feed_forward_activation="gelu_tanh"
    )
    network.save(tmp_path / "unet.keras")
    again = keras.saving.load_model(tmp_path / "unet.keras")
    assert again.get_config() == network.get_config()
    expected = call(network, inputs())
    assert expected.shape == (2, 4, 6, 3)
    np.testing.assert_allclose(call(again, inputs()), expected, atol=1e-6)


def test_autoencoder_file_round_trip(tmp_path):
    autoencoder = drawn(AutoencoderKL(widths=(4, 8), num_res_blocks=1, norm_groups=2, halves=("decoder",)))
    autoencoder.save(tmp_path / "autoencoder.keras")
    again = keras.saving.load_model(tmp_path / "autoencoder.keras")
    latents = np.ones((1, 2, 3, 4), "float32")
    decoded = ops.convert_to_numpy(autoencoder.decode(latents))
    assert decoded.shape == (1, 4, 6, 3)
    np.testing.assert_allclose(ops.convert_to_numpy(again.decode(latents)), decoded, atol=1e-6)


def test_errors():
    with pytest.raises(ValueError, match=r"must divide its width. Received: widths=\(8, 16\), num_heads=3"):
        unet(num_heads=3)
    with pytest.raises(ValueError, match=r"`attention` needs one entry per level.*Received: attention=\[True\]"):
        unet(attention=[True])
    with pytest.raises(ValueError, match=r"Sizes that work: \(4, 6\) or \(6, 6\)"):
        UNet2DCondition((5, 6, 4), **SMALL)
    with pytest.raises(ValueError, match="has no encoder: it was built with halves=.*'decoder'"):
        AutoencoderKL(widths=(4,), num_res_blocks=1, halves=("decoder",)).encode(np.ones((1, 4, 4, 3)))
    with pytest.raises(ValueError, match="Received: halves=.*'middle'"):
        AutoencoderKL(halves=("middle",))


def small_autoencoder(**options):
    return drawn(
        AutoencoderKL(**{"widths": (4, 8), "num_res_blocks": 1, "norm_groups": 2, "latent_channels": 3, **options})
    )


def test_each_channel_of_latents_has_its_own_scale_and_shift(tmp_path):
    scale, shift = [0.5, 2.0, 4.0], [1.0, -1.0, 0.25]
    plain, scaled = small_autoencoder(scale=1.0), small_autoencoder(scale=scale, shift=np.array(shift))
    images = np.random.RandomState(0).uniform(-1.0, 1.0, (2, 4, 6, 3)).astype("float32")
    means = ops.convert_to_numpy(plain.encode(images))
    latents = ops.convert_to_numpy(scaled.encode(images))
    np.testing.assert_allclose(latents, np.array(scale) * (means - np.array(shift)), atol=1e-5)
    back = ops.convert_to_numpy(plain.decode(means))
    np.testing.assert_allclose(ops.convert_to_numpy(scaled.decode(latents)), back, atol=1e-5)
    scaled.save(tmp_path / "autoencoder.keras")
    again = keras.saving.load_model(tmp_path / "autoencoder.keras")
    assert again.get_config()["scale"] == scale and again.get_config()["shift"] == shift
    np.testing.assert_array_equal(ops.convert_to_numpy(again.encode(images)), latents)
    scaled.set_scaling(1.0)
    assert scaled.get_config() == {**plain.get_config(), "name": scaled.name}
    np.testing.assert_array_equal(ops.convert_to_numpy(scaled.encode(images)), means)


def test_latents_are_drawn_about_their_mean():
    autoencoder = small_autoencoder(scale=[0.5, 2.0, 4.0], shift=0.5)
    images = np.random.RandomState(0).uniform(-1.0, 1.0, (2, 4, 6, 3)).astype("float32")
    noise = np.random.RandomState(1).standard_normal((2, 2, 3, 3)).astype("float32")
    std = np.exp(0.5 * ops.convert_to_numpy(autoencoder.moments(images)[1]))
    mean, drawn_ones = (ops.convert_to_numpy(autoencoder.sample(images, z)) for z in (0.0 * noise, noise))
    np.testing.assert_allclose(mean, ops.convert_to_numpy(autoencoder.encode(images)), atol=1e-6)
    np.testing.assert_allclose(drawn_ones - mean, np.array([0.5, 2.0, 4.0]) * std * noise, atol=1e-5)


@pytest.mark.parametrize(
    "options, text",
    [
        ({"scale": [1.0, 2.0]}, r"one for each of the 3 channels of latents. Received: scale=\[1.0, 2.0\], 2 of them"),
        ({"scale": 0.0}, "`scale` must be a finite number > 0"),
        ({"scale": [1.0, -1.0, 1.0]}, r"`scale\[1\]` must be a finite number > 0. Received: scale\[1\]=-1.0"),
        ({"shift": [0.0, float("nan"), 0.0]}, r"`shift\[1\]` must be a finite number"),
        ({"shift": "0"}, "`shift` must be a finite number"),
    ],
)
def test_scales_are_checked(options, text):
    with pytest.raises(ValueError, match=text):
        small_autoencoder(**options)
