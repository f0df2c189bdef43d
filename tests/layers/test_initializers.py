"""First values of weights: their distribution, and that a seed means the same weights everywhere."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_diffusion.layers.initializers import (
    GlorotUniform,
    Ones,
    RandomNormal,
    RandomUniform,
    Zeros,
    first_kernel,
    zero_kernels,
)


def draw(initializer, shape, dtype="float32"):
    value = initializer(shape, dtype)
    assert keras.backend.standardize_dtype(value.dtype) == dtype
    return ops.convert_to_numpy(ops.cast(value, "float32"))


@pytest.mark.parametrize("shape", [(300, 500), (3, 3, 40, 60), (5, 80, 30)])
def test_glorot_is_uniform_with_the_limit_of_keras(shape):
    ours, keras_own = draw(GlorotUniform(seed=1), shape), draw(keras.initializers.GlorotUniform(seed=1), shape)
    assert np.abs(ours).max() == pytest.approx(np.abs(keras_own).max(), rel=2e-3)
    assert (
        ours.std() == pytest.approx(np.abs(ours).max() / np.sqrt(3), rel=2e-2) and abs(ours.mean()) < 0.02 * ours.std()
    )


def test_normal_and_uniform():
    normal, uniform = draw(RandomNormal(0.3, seed=2), (200, 500)), draw(RandomUniform(-1.0, 3.0, seed=2), (200, 500))
    assert normal.std() == pytest.approx(0.3, rel=1e-2) and (np.abs(normal) < 0.3).mean() == pytest.approx(
        0.6827, abs=5e-3
    )
    assert uniform.min() >= -1.0 and uniform.max() <= 3.0 and uniform.mean() == pytest.approx(1.0, abs=1e-2)


def test_a_seed_means_the_same_weights_on_every_backend():
    # Whole networks are compared in tests/crossing.
    expected = np.float32([[0.7630271, -1.0149482], [-0.7852068, -0.64467996]])
    np.testing.assert_allclose(draw(GlorotUniform(seed=3), (2, 2)), expected, rtol=1e-6)


def test_seeds_and_configs():
    keras.utils.set_random_seed(0)
    first, second = GlorotUniform(), GlorotUniform()
    assert not np.array_equal(draw(first, (3, 3)), draw(second, (3, 3)))
    keras.utils.set_random_seed(0)
    np.testing.assert_array_equal(draw(GlorotUniform(), (3, 3)), draw(first, (3, 3)))
    for initializer in (GlorotUniform(seed=4), RandomNormal(0.2, seed=4), RandomUniform(-2.0, 2.0, seed=4)):
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(initializer))
        np.testing.assert_array_equal(draw(again, (3, 3)), draw(initializer, (3, 3)))


def test_zeros_and_ones():
    for initializer, value in ((Zeros(), 0.0), (Ones(), 1.0)):
        for dtype in ("float32", "bfloat16"):
            np.testing.assert_array_equal(draw(initializer, (2, 3), dtype), np.full((2, 3), value))
        assert type(keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(initializer))) is type(
            initializer
        )


def test_other_dtypes():
    draw(GlorotUniform(seed=0), (2, 3), "bfloat16")
    draw(RandomNormal(seed=0), (2, 3), "float16")


def test_zeros_where_weights_are_read_from_a_file():
    with zero_kernels():
        assert isinstance(first_kernel(), Zeros)
    assert isinstance(first_kernel(), GlorotUniform) and first_kernel("he_normal") == "he_normal"
