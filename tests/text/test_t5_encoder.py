"""T5's encoder against transformers, from files in its layout; see golden/t5/write_t5.py."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

import keras_diffusion as kd
from keras_diffusion.text import T5Encoder
from keras_diffusion.text.t5_block import distance_buckets

GOLDEN = Path(__file__).parent.parent / "golden" / "t5"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "io.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def loaded():
    return kd.checkpoints.load(GOLDEN, verbose=0)


def test_numbers_are_those_of_transformers(loaded, golden):
    encoder, tokens = loaded.network, golden["tokens"]
    assert isinstance(encoder, T5Encoder) and not loaded.report.unused
    out = ops.convert_to_numpy(encoder(tokens))
    np.testing.assert_allclose(out, golden["out"], atol=1e-5)
    assert ops.convert_to_numpy(encoder.token_mask(tokens)).sum(axis=1).tolist() == [14, 4]
    short = ops.convert_to_numpy(encoder(tokens[1:, :4]))
    np.testing.assert_allclose(out[1:, :4], short, atol=1e-5, err_msg="padding changes nothing")


def test_half_precision_stays_close(loaded, golden):
    half = T5Encoder.from_config({**loaded.network.get_config(), "dtype": "mixed_bfloat16"})
    half.set_weights(loaded.network.get_weights())
    out = half(golden["tokens"])
    assert keras.backend.standardize_dtype(out.dtype) == "float32"
    np.testing.assert_allclose(ops.convert_to_numpy(out), golden["out"], atol=0.2)


def test_adapters_start_as_nothing(loaded, golden):
    encoder = T5Encoder.from_config(loaded.network.get_config())
    encoder.set_weights(loaded.network.get_weights())
    encoder.enable_lora(2)
    np.testing.assert_allclose(ops.convert_to_numpy(encoder(golden["tokens"])), golden["out"], atol=1e-5)
    assert len(encoder.trainable_weights) == 2 * 2 * 4, "queries, keys, values and outputs of two blocks"


@pytest.mark.slow
def test_export_writes_the_same_tensors(loaded, golden, tmp_path):
    kd.checkpoints.export(loaded.network, tmp_path / "t5")
    again = kd.checkpoints.load(tmp_path / "t5", verbose=0)
    assert again.network.get_config() == {**loaded.network.get_config(), "name": again.network.name}
    np.testing.assert_array_equal(
        ops.convert_to_numpy(again.network(golden["tokens"])), ops.convert_to_numpy(loaded.network(golden["tokens"]))
    )


def test_distances_have_buckets():
    buckets = distance_buckets(300, 32, 128)
    looking_right, looking_left = buckets[0], buckets[-1][::-1]
    assert looking_left[:8].tolist() == list(range(8)) and (looking_right[1:8] == np.arange(17, 24)).all()
    assert looking_left[[8, 11, 12, 15, 16, 127, 128, 299]].tolist() == [8, 8, 9, 9, 10, 15, 15, 15]
    assert (np.diff(looking_left) >= 0).all() and looking_right.max() == 31


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width"),
        ({"num_buckets": 7}, "num_buckets=7"),
        ({"num_buckets": 32, "max_distance": 8}, "max_distance=8"),
        ({"activation": "gelus"}, "gelus"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        T5Encoder(**{"vocabulary_size": 10, "width": 4, "depth": 0, **options})


def test_long_texts_are_refused():
    encoder = T5Encoder(10, 4, depth=0, num_heads=1, head_dim=2, max_length=3)
    with pytest.raises(ValueError, match=r"at most 3 tokens.*\(1, 4\)"):
        encoder(np.zeros((1, 4), "int32"))
