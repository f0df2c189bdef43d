import keras
import numpy as np
import pytest
from calling import call
from keras import ops

from keras_diffusion.layers import Downsample, ResidualBlock, Upsample, resampling
from keras_diffusion.layers.resampling import convolve_in_phases, convolve_repeated
from keras_diffusion.runtime.hardware import jax_platform


def array(*shape, seed=0):
    return np.random.RandomState(seed).normal(size=shape).astype("float32")


@pytest.mark.parametrize("size", [(6,), (4, 6)])
@pytest.mark.parametrize("time_injection", ["add", "scale_shift"])
@pytest.mark.parametrize("norm", ["group", "rms"])
def test_shape_and_effect_of_the_embedding(size, time_injection, norm):
    layer = ResidualBlock(12, norm=norm, time_injection=time_injection, zero_init=False)
    x = array(2, *size, 8)
    first, second = call(layer, x, array(2, 5)), call(layer, x, array(2, 5, seed=1))
    assert first.shape == (2, *size, 12) == layer.compute_output_shape((2, *size, 8), (2, 5))
    assert np.abs(first - second).max() > 0.01


def test_zero_init_starts_as_the_identity():
    x = array(2, 4, 4, 8)
    np.testing.assert_array_equal(call(ResidualBlock(8), x, array(2, 5)), x)


def test_shortcut_exists_only_where_the_channels_change():
    same, other = ResidualBlock(8), ResidualBlock(16)
    same(array(1, 4, 4, 8), array(1, 5))
    other(array(1, 4, 4, 8), array(1, 5))
    assert same.shortcut is None and other.shortcut.kernel.shape == (1, 1, 8, 16)


def test_scale_shift_acts_on_the_normalized_activation():
    layer = ResidualBlock(8, time_injection="scale_shift", zero_init=False, norm_groups=1)
    x, e = array(1, 4, 4, 8), array(1, 5)
    layer(x, e)
    layer.time_projection.kernel.assign(np.zeros((5, 16)))
    layer.time_projection.bias.assign(np.concatenate([-np.ones(8), np.full(8, 2.0)]))  # scale 1 − 1 = 0, shift 2
    constant = ops.convert_to_numpy(layer.conv2(keras.activations.swish(2.0 * ops.ones((1, 4, 4, 8)))))
    np.testing.assert_allclose(call(layer, x, e), x + constant, atol=1e-5)


def test_dropout_drops_in_training_only():
    layer = ResidualBlock(8, dropout=0.5, zero_init=False, seed=1)
    x, e = array(2, 4, 4, 8), array(2, 5)
    still = call(layer, x, e, training=False)
    np.testing.assert_array_equal(still, call(layer, x, e))
    first, second = (ops.convert_to_numpy(layer(x, e, training=True)) for _ in range(2))
    assert np.abs(first - still).max() > 0.01 and np.abs(first - second).max() > 0.01


@pytest.mark.parametrize("norm", ["group", "rms"])
def test_norm_statistics_are_float32_under_mixed_precision(norm):
    # 64 · 64 positions: summed up in bfloat16 the variance would stop growing at a few hundred.
    layer = ResidualBlock(8, norm=norm, dtype="mixed_bfloat16")
    x = np.asarray(np.round(16 * (3.0 + array(1, 64, 64, 8))) / 16, "float32")  # exact in bfloat16
    layer(x, array(1, 5))
    values = ops.convert_to_numpy(ops.cast(layer.norm1(ops.cast(x, "bfloat16")), "float32"))
    axis = (1, 2) if norm == "group" else -1
    mean = x.mean(axis, keepdims=True) if norm == "group" else 0.0
    expected = (x - mean) / np.sqrt(((x - mean) ** 2).mean(axis, keepdims=True) + 1e-5)
    np.testing.assert_allclose(values, expected, rtol=2**-8, atol=2e-3)


def test_groups_that_do_not_divide_fall_to_the_common_divisor():
    layer = ResidualBlock(12, norm_groups=8)
    layer(array(1, 4, 18), array(1, 5))
    assert (layer.norm1.groups, layer.norm2.groups) == (2, 4)


@pytest.mark.parametrize("size", [(6,), (4, 6)])
def test_resampling_halves_and_doubles(size):
    x = array(2, *size, 3)
    assert call(Downsample(5), x).shape == (2, *(n // 2 for n in size), 5)
    assert call(Upsample(5), x).shape == (2, *(2 * n for n in size), 5)


def test_upsampling_repeats_before_the_convolution():
    layer = Upsample(2, kernel_size=1)
    x = array(1, 3, 2)
    layer(x)
    layer.conv.kernel.assign(np.eye(2)[None])
    np.testing.assert_allclose(call(layer, x), np.repeat(x, 2, axis=1), rtol=1e-6)


@pytest.mark.parametrize("size", [(5,), (4, 6), (9, 8), (2, 3, 4)])
def test_phases_are_the_convolution_of_what_is_repeated(size):
    x, kernel = array(2, *size, 3), array(*(3,) * len(size), 3, 5)
    expected = ops.convert_to_numpy(convolve_repeated(x, kernel))
    assert expected.shape == (2, *(2 * n for n in size), 5)
    found = ops.convert_to_numpy(convolve_in_phases(x, kernel))
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    layer = Upsample(5)
    layer(x)
    layer.conv.kernel.assign(kernel)
    layer.conv.bias.assign(np.arange(5.0))
    np.testing.assert_allclose(call(layer, x), expected + np.arange(5), atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    "size, kernel_size, dtype, in_phases",
    [
        ((9, 8), 3, "float32", True),
        ((4, 6), 3, "float32", False),
        ((9, 8), 5, "float32", False),
        ((9, 8), 3, "mixed_bfloat16", False),
    ],
)
def test_jax_on_cpus_convolves_large_images_in_phases(size, kernel_size, dtype, in_phases, monkeypatch):
    used = []
    for name in ("convolve_in_phases", "convolve_repeated"):
        original = getattr(resampling, name)
        monkeypatch.setattr(
            resampling, name, lambda x, kernel, name=name, original=original: used.append(name) or original(x, kernel)
        )
    Upsample(5, kernel_size, dtype=dtype)(array(2, *size, 3))
    assert used == ["convolve_in_phases" if in_phases and jax_platform() == "cpu" else "convolve_repeated"]


@pytest.mark.parametrize(
    "layer",
    [
        ResidualBlock(8, 5, "rms", 4, 1e-4, "gelu", "scale_shift", 0.1, False, 3),
        Downsample(8, 5),
        Upsample(8, 5),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_config_round_trip(layer):
    copy = type(layer).from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: ResidualBlock(8, norm="batch"), "Unknown norm: 'batch'. Known norms: group, rms."),
        (
            lambda: ResidualBlock(8, time_injection="film"),
            "Unknown time injection: 'film'. Known ones: add, scale_shift.",
        ),
        (lambda: ResidualBlock(8, dropout=1.0), r"in \[0, 1\). Received: dropout=1.0"),
        (lambda: ResidualBlock(8, activation="swoosh"), "Unknown activation: 'swoosh'"),
        (lambda: Downsample(8)(np.zeros((1, 4, 4, 4, 4, 2))), "Received: 4 spatial axes"),
    ],
)
def test_errors(make, text):
    with pytest.raises(ValueError, match=text):
        make()
