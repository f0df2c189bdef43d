import keras
import numpy as np
import pytest
from calling import call
from keras import ops

import keras_diffusion as kd
from keras_diffusion import networks
from keras_diffusion.networks import FlaxUNet

SMALL = {"widths": (8, 12), "num_res_blocks": 1, "embedding_dim": 16, "norm_groups": 4}
HEADS = {"num_heads": 2}
OLD = {"only_pure_attention": True, "norm_inputs": True, "cross_attention": False, **HEADS}


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
        "noise_level": rng.uniform(-1, 1, size).astype("float32"),
        "context": rng.normal(size=(size, 5, 6)).astype("float32"),
    }
    return {key: inputs[key] for key in ("x", "noise_level", *network.condition_keys)}


@pytest.fixture(scope="module")
def conditional():
    """Not square, an odd number of channels, a text, dropout."""
    return randomize(FlaxUNet((4, 6, 5), context_dim=6, dropout=0.3, attention=(None, HEADS), **SMALL))


def test_starts_at_zero_for_images_of_any_size():
    network = networks.get("flax_unet", input_shape=(None, None, 1), out_channels=2, attention=None, **SMALL)
    assert type(network) is FlaxUNet
    np.testing.assert_array_equal(call(network, batch(network, shape=(4, 6, 1))), np.zeros((3, 4, 6, 2)))
    with pytest.raises(ValueError, match=r"Received: size=\(4, 5\)"):
        network(batch(network, shape=(4, 5, 1)))


@pytest.mark.parametrize("key", ["x", "noise_level", "context"])
def test_every_input_changes_the_output(conditional, key):
    first = batch(conditional)
    second = {**first, key: batch(conditional, seed=1)[key]}
    assert np.abs(call(conditional, first) - call(conditional, second)).max(axis=(1, 2, 3)).min() > 1e-4


def test_samples_do_not_see_their_neighbours(conditional):
    inputs = batch(conditional)
    alone = np.concatenate(
        [call(conditional, {key: value[i : i + 1] for key, value in inputs.items()}) for i in range(3)]
    )
    np.testing.assert_allclose(call(conditional, inputs), alone, atol=2e-5)


def test_a_text_without_use_is_allowed():
    """As in FlaxDiff, whose `Unet` requires one."""
    network = randomize(FlaxUNet((4, 4, 1), attention=None, **SMALL))
    inputs = batch(network)
    assert network.condition_keys == ()
    with_text = network({**inputs, "context": np.ones((3, 5, 6), "float32")})
    np.testing.assert_allclose(ops.convert_to_numpy(with_text), call(network, inputs), atol=1e-5)


def test_dropout_drops_in_training_only(conditional):
    inputs = batch(conditional)
    still = call(conditional, inputs)
    np.testing.assert_array_equal(still, call(conditional, inputs))
    assert np.abs(call(conditional, inputs, training=True) - still).max() > 1e-3


def test_config_and_file_round_trip(conditional, tmp_path):
    copy = FlaxUNet.from_config(conditional.get_config())
    assert copy.get_config() == conditional.get_config()
    assert [w.path for w in copy.weights] == [w.path for w in conditional.weights]
    assert len({w.path for w in copy.weights}) == len(copy.weights)
    conditional.save(tmp_path / "network.keras")
    loaded = keras.models.load_model(tmp_path / "network.keras")
    assert type(loaded) is FlaxUNet and loaded.condition_keys == ("context",)
    inputs = batch(conditional)
    np.testing.assert_array_equal(call(loaded, inputs), call(conditional, inputs))


def test_mixed_precision_is_within_rounding_of_float32(conditional):
    mixed = FlaxUNet.from_config({**conditional.get_config(), "dtype": "mixed_bfloat16"})
    mixed.set_weights(conditional.get_weights())
    values, expected = call(mixed, batch(conditional)), call(conditional, batch(conditional))
    assert values.dtype == np.float32
    error = np.abs(values - expected)
    assert 0 < error.max() < 0.1 * np.abs(expected).max()


@pytest.mark.parametrize("remat", [keras.backend.backend() == "jax"])  # a program of its own on JAX alone
def test_training_reduces_the_loss(remat):
    """Every weight moves; and what is forgotten on the way forward is found again on the way back, dropout included."""
    keras.utils.set_random_seed(0)
    network = FlaxUNet((4, 4, 1), context_dim=6, attention=(None, HEADS), dropout=0.1, seed=0, remat=remat, **SMALL)
    model = kd.DiffusionModel(
        randomize(network), predictor="edm", noise_schedule="variance_exploding", seed=0, ema=None
    )
    model.compile(keras.optimizers.Adam(3e-3), run_eagerly=False)
    before = [ops.convert_to_numpy(w).copy() for w in network.trainable_weights]
    rng = np.random.RandomState(0)
    data = {"images": np.tile(np.sign(rng.normal(size=(1, 4, 4, 1))), (64, 1, 1, 1)).astype("float32")}
    data["context"] = rng.normal(size=(64, 5, 6)).astype("float32")
    losses = model.fit(data, batch_size=16, epochs=4, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]
    assert not [
        w.path for w, old in zip(network.trainable_weights, before) if np.array_equal(ops.convert_to_numpy(w), old)
    ]


def test_widths():
    """The way down keeps what comes in, the way up leads to the next level's width, or to FlaxDiff's."""

    def widths(**options):
        network = FlaxUNet(
            (8, 8, 3), widths=(4, 8, 12), num_res_blocks=1, embedding_dim=16, norm_groups=4, attention=None, **options
        )
        names = ("down_0_residual_0", "down_1_residual_0", "down_2_residual_0", "up_0_upsample", "up_1_upsample")
        return [network.get_layer(name).output.shape[-1] for name in names]

    assert widths() == [4, 4, 8, 8, 4]
    assert widths(upsample_widths="flaxdiff") == [4, 4, 8, 4, 12]


@pytest.mark.parametrize(
    "options",
    [
        {
            "time_embedding": "sinusoidal",
            "time_injection": "scale_shift",
            "conv_in_kernel": 7,
            "downsample_kernel": 4,
            "middle_conv": True,
        },
        {
            "separable": True,
            "up_conv": False,
            "num_res_blocks": 2,
            "attention": ({**OLD, "attention_over": "rows"}, None),
        },
        {
            "norm_groups": 0,
            "attention": ({**OLD, "attention_over": "columns"}, None),
            "middle_attention": None,
            "num_middle_res_blocks": 0,
        },
    ],
)
def test_older_forms(options):
    network = randomize(FlaxUNet((4, 6, 3), **{**SMALL, "attention": None, **options}))
    values = call(network, batch(network))
    assert values.shape == (3, 4, 6, 3) and np.isfinite(values).all() and values.std() > 1e-3


def test_one_level():
    network = FlaxUNet((5, 3, 1), widths=(8,), num_res_blocks=1, embedding_dim=16, attention=[HEADS])
    assert call(network, batch(network)).shape == (3, 5, 3, 1)


@pytest.mark.parametrize(
    "options, text",
    [
        ({"input_shape": (8, 3)}, r"`input_shape` must be \(H, W, C\).* Received: input_shape=\(8, 3\)"),
        ({"input_shape": (32, 30, 3)}, r"multiple of 8 = .* Received: size=\(32, 30\)"),
        ({"attention": ({}, None)}, r"as many as `widths` \(4\).* Received: attention="),
        ({"attention": ({"heads": 4}, None, None, None)}, "a dict with some of num_heads, .* Received: {'heads': 4}"),
        ({"time_embedding": "learned"}, "Unknown time embedding: 'learned'"),
        ({"upsample_widths": "old"}, "must be one of next, flaxdiff. Received: upsample_widths='old'"),
        ({"fourier_stream": "new"}, "Received: stream='new'"),
        (
            {"context_dim": 4, "attention": None},
            "this network has none for it. Received: context_dim=4, attention=None",
        ),
        ({"embedding_dim": 15}, "must be an even integer ≥ 2. Received: dim=15"),
    ],
)
def test_flax_unet_errors(options, text):
    with pytest.raises(ValueError, match=text):
        FlaxUNet(**{"input_shape": (32, 32, 3), **options})
