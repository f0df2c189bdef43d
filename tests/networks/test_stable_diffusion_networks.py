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
