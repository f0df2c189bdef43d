import keras
import numpy as np
import pytest
from calling import call
from keras import ops

from keras_diffusion import networks
from keras_diffusion.networks import MLP


def batch(size=3, seed=0):
    rng = np.random.RandomState(seed)
    return {
        "x": rng.normal(size=(size, 2)).astype("float32"),
        "noise_level": rng.uniform(-2, 2, size).astype("float32"),
        "labels": rng.randint(0, 4, size),
        "context": rng.normal(size=(size, 5, 6)).astype("float32"),
    }


@pytest.fixture(scope="module")
def conditional():
    network = MLP((2,), width=16, depth=2, num_classes=4, context_dim=6, out_channels=3)
    network.get_layer("dense_out").kernel.assign(np.random.RandomState(0).normal(size=(16, 3)))
    return network


def test_shapes_and_attributes(conditional):
    assert call(conditional, batch()).shape == (3, 3)
    assert (conditional.condition_keys, conditional.null_labels) == (("labels", "context"), 4)
    plain = networks.get("mlp")
    values = call(plain, {key: batch()[key] for key in ("x", "noise_level")})
    np.testing.assert_array_equal(values, np.zeros((3, 2)))  # the last layer starts at 0


@pytest.mark.parametrize("key", ["x", "noise_level", "labels", "context"])
def test_every_input_changes_the_output(conditional, key):
    first = batch()
    second = {**first, key: batch(seed=1)[key] if key != "labels" else (first["labels"] + 1) % 5}
    assert np.abs(call(conditional, first) - call(conditional, second)).max(axis=1).min() > 1e-3


def test_config_and_file_round_trip(conditional, tmp_path):
    assert MLP.from_config(conditional.get_config()).get_config() == conditional.get_config()
    conditional.save(tmp_path / "network.keras")
    loaded = keras.models.load_model(tmp_path / "network.keras")
    assert type(loaded) is MLP
    np.testing.assert_array_equal(call(loaded, batch()), call(conditional, batch()))


def test_mixed_precision_is_within_rounding_of_float32(conditional):
    mixed = MLP.from_config({**conditional.get_config(), "dtype": "mixed_bfloat16"})
    mixed.set_weights(conditional.get_weights())
    expected = call(conditional, batch())
    error = np.abs(call(mixed, batch()) - expected)
    assert 0 < error.max() < 0.05 * np.abs(expected).max()


def test_one_step_changes_every_trainable_weight(conditional):
    network = MLP.from_config(conditional.get_config())
    network.set_weights(conditional.get_weights())
    before = [ops.convert_to_numpy(w).copy() for w in network.trainable_weights]
    network.compile(optimizer=keras.optimizers.Adam(0.01), loss="mse")
    network.fit(batch(8), np.random.RandomState(1).normal(size=(8, 3)), batch_size=8, epochs=1, verbose=0)
    assert [
        w.path for w, old in zip(network.trainable_weights, before) if np.array_equal(ops.convert_to_numpy(w), old)
    ] == []


@pytest.mark.parametrize(
    "options, text",
    [
        (
            {"input_shape": (8, 8, 1)},
            r"`input_shape` must be \(features,\). Received: input_shape=\(8, 8, 1\). Use UNet",
        ),
        ({"width": 0}, "`width` must be an integer ≥ 1. Received: width=0"),
        ({"num_classes": 0}, "`num_classes` must be an integer ≥ 1, .* Received: num_classes=0"),
        ({"activation": "swoosh"}, "Unknown activation: 'swoosh'"),
        ({"time_embedding": "learned"}, "Unknown time embedding: 'learned'"),
        ({"embedding_dim": 7}, "`dim` must be an even integer ≥ 2. Received: dim=7"),
    ],
)
def test_errors(options, text):
    with pytest.raises(ValueError, match=text):
        MLP(**options)
