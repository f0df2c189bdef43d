"""Bottlenecks: their codes, losses and derivatives."""

import numpy as np
import pytest
from keras import ops

import keras_diffusion as kd
from keras_diffusion.core.autodiff import pullback

MEANS = np.random.default_rng(0).normal(size=(2, 3, 4, 3)).astype("float32") * 2


def numpy(value):
    return ops.convert_to_numpy(value)


@pytest.mark.parametrize("levels", [(8, 5, 3), (2, 4, 7)])
def test_fsq_reaches_all_levels_and_numbers_its_codes(levels):
    bottleneck = kd.layers.FSQBottleneck(levels)
    wide = np.linspace(-8, 8, 4001, dtype="float32").reshape(1, 4001, 1, 1) * np.ones((1, 1, 1, 3), "float32")
    quantized = numpy(bottleneck.discretized(bottleneck.latents(ops.convert_to_tensor(wide))))
    assert [len(np.unique(quantized[..., i])) for i in range(3)] == list(levels)
    grids = np.meshgrid(*(np.unique(quantized[..., i]) for i in range(3)), indexing="ij")
    codes = numpy(bottleneck.codes(ops.convert_to_tensor(np.stack(grids, -1)[None].reshape(1, -1, 1, 3))))
    assert sorted(codes.ravel()) == list(range(np.prod(levels))) and bottleneck.num_codes == np.prod(levels)


@pytest.mark.parametrize("levels", [(8, 5, 3), (2, 4, 7)])
def test_fsq_brings_what_lies_beyond_its_levels_back_to_the_last(levels):
    bottleneck = kd.layers.FSQBottleneck(levels)
    ends = ops.convert_to_tensor(np.float32([-9.0, 9.0]).reshape(1, 2, 1, 1) * np.ones((1, 1, 1, 3), "float32"))
    codes = numpy(bottleneck.codes(bottleneck.discretized(ends)))
    assert codes.ravel().tolist() == [0, bottleneck.num_codes - 1]


def test_vq_takes_the_nearest_code():
    bottleneck = kd.layers.VQBottleneck(10, 3, commitment=0.5)
    book = np.random.default_rng(1).normal(size=(10, 3)).astype("float32")
    bottleneck.codebook.assign(book)
    found = bottleneck(ops.convert_to_tensor(MEANS), ops.zeros_like(MEANS))
    nearest = ((MEANS[..., None, :] - book) ** 2).sum(-1).argmin(-1)
    np.testing.assert_array_equal(numpy(found["codes"]), nearest)
    np.testing.assert_allclose(numpy(found["latents"]), book[nearest], atol=1e-5)
    loss = 1.5 * ((book[nearest] - MEANS) ** 2).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(numpy(found["losses"]["vq"]), loss, rtol=1e-4)


@pytest.mark.parametrize("bottleneck", [kd.layers.VQBottleneck(10, 3), kd.layers.FSQBottleneck((8, 5, 3))])
def test_quantization_counts_as_the_identity_on_the_way_back(bottleneck):
    def of_codes(mean):
        return bottleneck(mean, ops.zeros_like(mean))["latents"], None

    def of_latents(mean):
        return bottleneck.latents(mean), None

    x = ops.convert_to_tensor(MEANS)
    gradients = [pullback(function, x)[2](ops.ones_like(x)) for function in (of_codes, of_latents)]
    np.testing.assert_allclose(*map(numpy, gradients), atol=1e-6)


def test_kl_draws_and_measures():
    mean, log_variance, noise = (ops.full((1, 1, 1, 2), value) for value in (2.0, -1.0, 0.5))
    found = kd.layers.KLBottleneck()(mean, log_variance, noise)
    np.testing.assert_allclose(numpy(found["latents"]), 2.0 + 0.5 * np.exp(-0.5), rtol=1e-5)
    np.testing.assert_allclose(numpy(found["losses"]["kl"]), [4.0 + np.exp(-1.0) - 1.0 + 1.0], rtol=1e-5)


def test_bad_options():
    with pytest.raises(ValueError, match="one for each channel"):
        kd.layers.FSQBottleneck(())
    with pytest.raises(ValueError, match=r"levels\[1\]"):
        kd.layers.FSQBottleneck((3, 1))
    with pytest.raises(ValueError, match="num_codes"):
        kd.layers.VQBottleneck(1)
    with pytest.raises(ValueError, match="Codes come from a bottleneck"):
        kd.networks.QuantizedAutoencoder(kd.networks.AutoencoderKL(widths=(8,)), "kl")
    for scale in (0.0, [1.0, 2.0], "1"):
        with pytest.raises(ValueError, match="scale"):
            kd.networks.QuantizedAutoencoder(kd.networks.AutoencoderKL(widths=(8,)), "fsq", scale=scale)
