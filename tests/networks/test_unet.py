import keras
import numpy as np
import pytest
from calling import call
from keras import ops

from keras_diffusion import networks
from keras_diffusion.networks import UNet

SMALL = {"widths": (8, 16), "num_res_blocks": 1, "num_heads": 2}


def randomize(network, seed=0):
    """The layers that start at 0 hide what comes before them: draws every trainable weight anew."""
    rng = np.random.RandomState(seed)
    for weight in network.trainable_weights:
        weight.assign(rng.normal(size=weight.shape) * 0.2 + (1.0 if weight.name in ("gamma", "scale") else 0.0))
    return network


def batch(network, size=3, seed=0, shape=None):
    rng = np.random.RandomState(seed)
    inputs = {
        "x": rng.normal(size=(size, *(shape or network.sample_shape))).astype("float32"),
        "noise_level": rng.uniform(-2, 2, size).astype("float32"),
        "labels": rng.randint(0, 4, size),
        "context": rng.normal(size=(size, 5, 6)).astype("float32"),
    }
    return {key: inputs[key] for key in ("x", "noise_level", *network.condition_keys)}


@pytest.fixture(scope="module")
def conditional():
    """Everything at once: 2-D, not square, labels, context, dropout."""
    network = UNet((4, 6, 2), num_classes=4, context_dim=6, dropout=0.3, feed_forward=True, **SMALL)
    return randomize(network)


@pytest.mark.parametrize("shape", [(8, 2), (4, 6, 3), (6, 2, 4)])
def test_output_has_the_shape_of_the_input(shape):
    network = UNet(shape, **SMALL)
    assert call(network, batch(network)).shape == (3, *shape) == (3, *network.output_shape[1:])


def test_out_channels_and_options():
    network = UNet(
        (8, 3), out_channels=6, norm="rms", time_embedding="sinusoidal", time_injection="add", head_dim=4, **SMALL
    )
    values = call(randomize(network), batch(network))
    assert values.shape == (3, 8, 6) and np.isfinite(values).all()


def test_pooled_context_is_the_mean_of_what_is_seen():
    network = randomize(UNet((4, 4, 1), context_dim=6, pooled_context=True, **SMALL))
    inputs = batch(network)
    inputs["context_mask"] = np.arange(inputs["context"].shape[1]) < np.ones((len(inputs["context"]), 1))
    given = dict(inputs)
    seen = call(network, given)
    for layer in network.layers:  # without attention the context can only act through its mean
        if layer.name.endswith("attention"):
            layer.set_weights([np.zeros_like(w) for w in layer.get_weights()])
    pooled = call(network, given)
    hidden = given["context"].copy()
    hidden[:, 1:] += 1.0
    np.testing.assert_array_equal(call(network, {**given, "context": hidden}), pooled)
    assert np.abs(call(network, {**given, "context": given["context"] + 1.0}) - pooled).max() > 1e-3
    assert np.abs(pooled - seen).max() > 1e-3
    assert network.get_config()["pooled_context"] and "pooled_context" not in UNet((8, 1), **SMALL).get_config()


def test_free_size():
    network = UNet((None, None, 1), **SMALL)
    assert call(network, batch(network, shape=(4, 6, 1))).shape == (3, 4, 6, 1)
    with pytest.raises(ValueError, match=r"Received: size=\(4, 5\). Sizes that work: \(4, 4\) or \(4, 6\)"):
        network(batch(network, shape=(4, 5, 1)))


def test_starts_at_zero():
    network = networks.get("unet", input_shape=(4, 4, 1), **SMALL)
    assert type(network) is UNet
    np.testing.assert_array_equal(call(network, batch(network)), np.zeros((3, 4, 4, 1)))


def test_number_of_parameters_of_the_default():
    assert UNet((32, 32, 3)).count_params() == 51_767_107


def test_attention_auto_is_the_coarser_half():
    def with_attention(**options):
        network = UNet((8, 1), widths=(8, 8, 8, 8), num_res_blocks=1, **options)
        return [i for i in range(4) if any(layer.name == f"down_{i}_attention" for layer in network.layers)]

    assert with_attention() == [2, 3]
    assert with_attention(attention=False) == []
    assert with_attention(attention=(True, None, {"num_heads": 2}, False)) == [0, 2]


def test_attention_options_of_one_level():
    network = UNet((8, 1), widths=(8, 8), head_dim=2, attention=(True, {"num_heads": 2, "feed_forward": True}))
    blocks = [network.get_layer(f"down_{i}_attention") for i in (0, 1)]
    assert [block.heads for block in blocks] == [4, 2]
    assert [block.feed_forward for block in blocks] == [False, True]


def test_attributes(conditional):
    assert conditional.condition_keys == ("labels", "context")
    assert (conditional.num_classes, conditional.null_labels, conditional.context_dim) == (4, 4, 6)
    assert conditional.sample_shape == (4, 6, 2)
    plain = UNet((8, 1), **SMALL)
    assert (plain.condition_keys, plain.null_labels) == ((), None)


@pytest.mark.parametrize("key", ["x", "noise_level", "labels", "context"])
def test_every_input_changes_the_output(conditional, key):
    first = batch(conditional)
    second = {**first, key: batch(conditional, seed=1)[key] if key != "labels" else (first["labels"] + 1) % 5}
    difference = np.abs(call(conditional, first) - call(conditional, second)).max(axis=(1, 2, 3))
    assert difference.min() > 1e-3


def test_no_class_differs_from_every_class(conditional):
    inputs = batch(conditional, 1)
    outputs = [call(conditional, {**inputs, "labels": np.array([label])}) for label in range(5)]
    assert min(np.abs(outputs[4] - outputs[i]).max() for i in range(4)) > 1e-3


def test_samples_do_not_see_their_neighbours(conditional):
    inputs = batch(conditional)
    together = call(conditional, inputs)
    alone = np.concatenate(
        [call(conditional, {key: value[i : i + 1] for key, value in inputs.items()}) for i in range(3)]
    )
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_dropout_drops_in_training_only(conditional):
    inputs = batch(conditional)
    still = call(conditional, inputs, training=False)
    np.testing.assert_array_equal(still, call(conditional, inputs, training=False))
    assert np.abs(call(conditional, inputs, training=True) - still).max() > 1e-3


def test_config_and_file_round_trip(conditional, tmp_path):
    copy = UNet.from_config(conditional.get_config())
    assert copy.get_config() == conditional.get_config()
    assert [w.path for w in copy.weights] == [w.path for w in conditional.weights]
    assert len({w.path for w in copy.weights}) == len(copy.weights)
    conditional.save(tmp_path / "network.keras")
    loaded = keras.models.load_model(tmp_path / "network.keras")
    assert type(loaded) is UNet and loaded.condition_keys == conditional.condition_keys
    inputs = batch(conditional)
    np.testing.assert_array_equal(call(loaded, inputs), call(conditional, inputs))


def test_mixed_precision_is_within_rounding_of_float32(conditional):
    mixed = UNet.from_config({**conditional.get_config(), "dtype": "mixed_bfloat16"})
    mixed.set_weights(conditional.get_weights())
    inputs = batch(conditional)
    values, expected = call(mixed, inputs), call(conditional, inputs)
    assert keras.backend.standardize_dtype(values.dtype) == "float32"
    assert mixed.get_layer("down_1_residual_0").conv1.compute_dtype == "bfloat16"
    assert UNet.from_config(mixed.get_config()).get_layer("conv_in").compute_dtype == "bfloat16"
    error = np.abs(ops.convert_to_numpy(values) - expected)
    assert 0 < error.max() < 0.05 * np.abs(expected).max()


@pytest.mark.slow
def test_one_step_changes_every_trainable_weight():
    network = randomize(UNet((4, 4, 2), num_classes=4, context_dim=6, feed_forward=True, **SMALL))
    inputs = batch(network, 8)
    before = [ops.convert_to_numpy(w).copy() for w in network.trainable_weights]
    frequencies = ops.convert_to_numpy(network.get_layer("time_embedding").frequencies).copy()
    network.compile(optimizer=keras.optimizers.Adam(0.01), loss="mse")
    network.fit(inputs, np.random.RandomState(1).normal(size=(8, 4, 4, 2)), batch_size=8, epochs=1, verbose=0)
    still = [
        w.path for w, old in zip(network.trainable_weights, before) if np.array_equal(ops.convert_to_numpy(w), old)
    ]
    assert still == []
    np.testing.assert_array_equal(ops.convert_to_numpy(network.get_layer("time_embedding").frequencies), frequencies)


@pytest.mark.parametrize(
    "options, text",
    [
        (
            {"input_shape": (8,)},
            r"`input_shape` must be \(L, C\) or \(H, W, C\).* Received: input_shape=\(8,\). Use MLP",
        ),
        (
            {"input_shape": (32, 30, 3)},
            r"multiple of 8 = .* Received: size=\(32, 30\). Sizes that work: \(32, 24\) or \(32, 32\)",
        ),
        ({"attention": (True, False)}, r"as many as `widths` \(4\).* Received: attention=\(True, False\)"),
        (
            {"attention": (True, False, 4, False)},
            "An entry of `attention` is True, False, None, or a dict .* Received: 4",
        ),
        ({"attention": ({"heads": 4}, None, None, None)}, "dict with some of num_heads, .* Received: {'heads': 4}"),
        ({"norm": "batch"}, "Unknown norm: 'batch'. Known norms: group, rms."),
        ({"activation": "swoosh"}, "Unknown activation: 'swoosh'"),
        ({"time_embedding": "learned"}, "Unknown time embedding: 'learned'. Known ones: fourier, sinusoidal."),
        ({"time_injection": "film"}, "Unknown time injection: 'film'"),
        ({"num_heads": 3}, "`num_heads` must divide 256. Received: num_heads=3"),
        ({"dropout": 1.0}, r"in \[0, 1\). Received: dropout=1.0"),
        ({"num_classes": 0}, "`num_classes` must be an integer ≥ 1, .* Received: num_classes=0"),
        ({"context_dim": 0}, "`context_dim` must be an integer ≥ 1, .* Received: context_dim=0"),
        ({"context_dim": 4, "attention": False}, "this network has none. Received: context_dim=4, attention=False"),
        ({"pooled_context": True}, "`pooled_context` needs a context to pool: .* Received: .* context_dim=None"),
        ({"widths": (64, 0)}, r"`widths\[1\]` must be an integer ≥ 1. Received: widths\[1\]=0"),
        ({"num_res_blocks": 0}, "`num_res_blocks` must be an integer ≥ 1. Received: num_res_blocks=0"),
    ],
)
def test_errors(options, text):
    with pytest.raises(ValueError, match=text):
        UNet(**{"input_shape": (32, 32, 3), **options})


@pytest.mark.parametrize(
    "change, text",
    [
        ({"labels": np.zeros(3, int)}, "keys x, noise_level, no more and no less. Received: .*'labels'"),
        ({"x": np.zeros((3, 8, 2), "float32")}, r"`x` must be \(B, 8, 1\).* Received: x.shape=\(3, 8, 2\)"),
    ],
)
def test_call_errors(change, text):
    network = UNet((8, 1), **SMALL)
    with pytest.raises(ValueError, match=text):
        network({**batch(network), **change})
