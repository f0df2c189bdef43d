import keras
import numpy as np
import pytest
from keras import ops

from keras_diffusion.layers.group_normalization import GroupNormalization


def array(*shape, seed=0):
    return np.random.default_rng(seed).normal(3.0, 2.0, shape).astype("float32")


@pytest.mark.parametrize("shape", [(2, 12), (2, 5, 12), (3, 4, 6, 12), (2, 3, 4, 5, 12)])
@pytest.mark.parametrize("groups", [1, 3, 12])
def test_is_its_formula_for_any_number_of_axes(shape, groups):
    layer = GroupNormalization(groups, epsilon=1e-4)
    layer.build(shape)
    gamma, beta, x = array(12, seed=1), array(12, seed=2), array(*shape)
    layer.set_weights([gamma, beta])
    parts = x.reshape(shape[0], -1, groups, 12 // groups).astype("float64")
    mean, variance = parts.mean((1, 3), keepdims=True), parts.var((1, 3), keepdims=True)
    expected = ((parts - mean) / np.sqrt(variance + 1e-4)).reshape(shape) * gamma + beta
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), expected, atol=2e-5)


def test_without_scale_and_center_as_keras():
    x = array(2, 4, 6, 8)
    options = {"groups": 2, "scale": False, "center": False}
    expected = ops.convert_to_numpy(keras.layers.GroupNormalization(**options)(x))
    np.testing.assert_allclose(ops.convert_to_numpy(GroupNormalization(**options)(x)), expected, atol=1e-5)


def test_a_large_mean_costs_no_precision():
    x = array(2, 8, 8, 4) / 2.0
    shifted = ops.convert_to_numpy(GroupNormalization(2, epsilon=0.0)(x + 1000.0))
    # The input itself is rounded to 2⁻¹⁴ at 1000; a variance as the difference of two means would be off by one in ten.
    np.testing.assert_allclose(shifted, ops.convert_to_numpy(GroupNormalization(2, epsilon=0.0)(x)), atol=2e-3)


def test_statistics_are_float32_under_mixed_precision():
    x = array(2, 16, 16, 8) * 100.0  # squares overflow float16
    half = GroupNormalization(2, dtype="mixed_float16")(ops.cast(x, "float16"))
    assert keras.backend.standardize_dtype(half.dtype) == "float16"
    np.testing.assert_allclose(ops.convert_to_numpy(half), ops.convert_to_numpy(GroupNormalization(2)(x)), atol=5e-3)


def test_other_axes_are_keras_own():
    with pytest.raises(ValueError, match=r"must be the last axis. Received: axis=1"):
        GroupNormalization(2, axis=1).build((2, 8, 4))


def test_config_round_trip():
    layer = GroupNormalization(4, epsilon=1e-6)
    assert GroupNormalization.from_config(layer.get_config()).get_config() == layer.get_config()
