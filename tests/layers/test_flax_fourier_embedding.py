import numpy as np
import pytest
from keras import ops

from keras_diffusion.core.jax_random import jax_normal
from keras_diffusion.layers import FlaxFourierEmbedding


@pytest.mark.parametrize("stream", ["original", "partitionable"])
def test_sines_then_cosines_of_the_table(stream):
    layer = FlaxFourierEmbedding(16, stream)
    level = np.array([-1.2, 0.35], "float32")
    angle = 2 * np.pi * level[:, None].astype("float64") * 16 * jax_normal(42, 8, stream)
    expected = np.concatenate([np.sin(angle), np.cos(angle)], axis=-1)
    np.testing.assert_allclose(ops.convert_to_numpy(layer(level)), expected, atol=5e-5)
    assert layer.weights == []
    copy = FlaxFourierEmbedding.from_config(layer.get_config())
    np.testing.assert_array_equal(ops.convert_to_numpy(copy(level)), ops.convert_to_numpy(layer(level)))


def test_flax_fourier_embedding_errors():
    with pytest.raises(ValueError, match="must be an even integer ≥ 2. Received: dim=7"):
        FlaxFourierEmbedding(7)
    with pytest.raises(ValueError, match="Received: stream='new'"):
        FlaxFourierEmbedding(8, "new")
