import keras
import numpy as np
import pytest
from keras import ops

from keras_diffusion.layers import NoiseMap


def test_sines_and_cosines_at_every_pixel():
    level = np.array([0.0, 0.1, 0.9], "float32")
    values = ops.convert_to_numpy(NoiseMap(8, max_frequency=100.0)(level, np.zeros((3, 4, 6, 2), "float32")))
    angles = 2 * np.pi * level[:, None] * 100.0 ** (np.arange(4) / 3)
    expected = np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)
    assert values.shape == (3, 4, 6, 8)
    np.testing.assert_allclose(values, np.broadcast_to(expected[:, None, None], values.shape), atol=1e-4)


def test_stays_in_float32_under_mixed_precision():
    layer = NoiseMap(4, dtype=None)
    assert layer.compute_dtype == "float32"
    values = layer(ops.convert_to_tensor([0.999, 1.0], "float32"), ops.zeros((2, 1, 1, 1), "bfloat16"))
    assert np.abs(np.diff(ops.convert_to_numpy(values), axis=0)).max() > 1e-3


def test_config_round_trip():
    layer = NoiseMap(8, max_frequency=50)
    assert NoiseMap.from_config(layer.get_config()).get_config() == layer.get_config()
    assert layer.compute_output_shape((2,), (2, None, None, 3)) == (2, None, None, 8)
    assert keras.saving.get_registered_name(NoiseMap) == "keras_diffusion>NoiseMap"


@pytest.mark.parametrize(
    "options, text", [({"dim": 6.0}, "dim=6.0"), ({"dim": 2}, "dim=2"), ({"dim": 8, "max_frequency": 1}, "must be > 1")]
)
def test_errors(options, text):
    with pytest.raises(ValueError, match=text):
        NoiseMap(**options)
