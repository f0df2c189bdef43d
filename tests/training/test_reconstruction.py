"""The losses of pictures, against the measures of finished pictures."""

import numpy as np
from keras import ops

import keras_diffusion as kd
from keras_diffusion.training.reconstruction import signal_to_noise, structural_similarity

RNG = np.random.default_rng(0)
ORIGINALS = RNG.uniform(-1, 1, (3, 9, 12, 3)).astype("float32")
PICTURES = np.clip(ORIGINALS + RNG.normal(size=ORIGINALS.shape) * 0.2, -1, 1).astype("float32")


def measured(function):
    return ops.convert_to_numpy(function(ops.convert_to_tensor(PICTURES), ops.convert_to_tensor(ORIGINALS)))


def test_they_agree_with_the_metrics_on_the_host():
    np.testing.assert_allclose(measured(structural_similarity), kd.metrics.ssim(PICTURES, ORIGINALS), atol=1e-5)
    np.testing.assert_allclose(measured(signal_to_noise), kd.metrics.psnr(PICTURES, ORIGINALS), atol=1e-4)


def test_losses_are_means_over_a_picture():
    error = (PICTURES - ORIGINALS).astype("float64")
    expected = {"l1": np.abs(error), "l2": error**2}
    for name, values in expected.items():
        found = measured(kd.training.RECONSTRUCTION_LOSSES[name])
        np.testing.assert_allclose(found, values.mean(axis=(1, 2, 3)), rtol=1e-5)
    dissimilar = measured(kd.training.RECONSTRUCTION_LOSSES["ssim"])
    np.testing.assert_allclose(dissimilar, 1 - kd.metrics.ssim(PICTURES, ORIGINALS), atol=1e-5)
