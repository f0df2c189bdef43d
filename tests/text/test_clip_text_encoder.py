import keras
import numpy as np
import pytest
from keras import ops

from keras_diffusion.text import CLIPTextEncoder

SMALL = {"vocabulary_size": 20, "max_length": 7, "width": 16, "depth": 2, "num_heads": 2}


@pytest.fixture(scope="module")
def encoder():
    keras.utils.set_random_seed(0)
    return CLIPTextEncoder(**SMALL)


def test_a_token_sees_only_those_before_it(encoder):
    tokens = np.arange(7, dtype="int32")[None]
    changed = tokens.copy()
    changed[0, 4] = 15
    difference = np.abs(ops.convert_to_numpy(encoder(tokens)) - ops.convert_to_numpy(encoder(changed))).max(axis=(0, 2))
    assert np.all(difference[:4] == 0) and np.all(difference[4:] > 1e-5)


def test_file_round_trip(encoder, tmp_path):
    encoder.save(tmp_path / "encoder.keras")
    again = keras.saving.load_model(tmp_path / "encoder.keras")
    tokens = np.ones((2, 5), "int32")
    np.testing.assert_array_equal(ops.convert_to_numpy(again(tokens)), ops.convert_to_numpy(encoder(tokens)))


def test_number_of_weights_of_stable_diffusion_1():
    width, depth = 768, 12
    block = 4 * (width * width + width) + 8 * width * width + 5 * width + 4 * width
    assert (49408 + 77) * width + depth * block + 2 * width == 123_060_480
    small = sum(np.prod(w.shape) for w in CLIPTextEncoder(**SMALL).weights)
    assert small == (20 + 7) * 16 + 2 * (4 * (256 + 16) + 8 * 256 + 5 * 16 + 4 * 16) + 2 * 16


def test_errors(encoder):
    with pytest.raises(ValueError, match="num_heads=3, width=16"):
        CLIPTextEncoder(**{**SMALL, "num_heads": 3})
    with pytest.raises(ValueError, match="Unknown activation: 'quickgelu'"):
        CLIPTextEncoder(**SMALL, activation="quickgelu")
    with pytest.raises(ValueError, match=r"at most 7 tokens. Received: tokens of shape \(1, 8\)"):
        encoder(np.zeros((1, 8), "int32"))
