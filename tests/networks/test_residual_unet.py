import keras
import numpy as np
import pytest
from calling import call
from keras import ops

from keras_diffusion import DiffusionModel, networks
from keras_diffusion.layers import Normalizer
from keras_diffusion.networks import ResidualUNet

SMALL = {"widths": (6, 10), "block_depth": 1, "embedding_dims": 4, "embedding_max_frequency": 50.0}


def batch(network, size=2, shape=(4, 6), seed=0):
    rng = np.random.RandomState(seed)
    x = rng.normal(size=(size, *shape, network.sample_shape[-1])).astype("float32")
    return {"x": x, "noise_level": rng.uniform(0, 1, size).astype("float32")}


@pytest.fixture(scope="module")
def network():
    """Free size, an odd number of channels; every weight and statistic drawn, as the last layer starts at 0."""
    network = networks.get("residual_unet", input_shape=(None, None, 5), out_channels=2, **SMALL)
    rng = np.random.RandomState(0)
    for weight in network.weights:
        weight.assign(
            rng.uniform(0.5, 2.0, weight.shape) if "variance" in weight.name else rng.normal(size=weight.shape) * 0.2
        )
    return network


def test_shapes_and_attributes(network):
    assert type(network) is ResidualUNet
    assert (network.condition_keys, network.num_classes, network.context_dim) == ((), None, None)
    assert call(network, batch(network)).shape == (2, 4, 6, 2)
    with pytest.raises(ValueError, match=r"Sizes that work: \(4, 4\) or \(4, 6\)"):
        network(batch(network, shape=(4, 5)))


@pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="JAX compiles an initializer for every shape: half a minute"
)
def test_the_examples_size():
    network = ResidualUNet((64, 64, 3))
    trainable = sum(int(np.prod(w.shape)) for w in network.trainable_weights)
    assert (trainable, network.count_params() - trainable) == (1_950_627, 2_880)


def test_every_input_changes_the_output(network):
    first, second = batch(network), batch(network, seed=1)
    for key in first:
        difference = np.abs(call(network, first) - call(network, {**first, key: second[key]}))
        assert difference.max(axis=(1, 2, 3)).min() > 1e-3, key


def test_training_normalizes_by_the_batch_and_moves_the_statistics(network):
    copy = ResidualUNet.from_config(network.get_config())
    copy.set_weights(network.get_weights())
    still = call(copy, batch(copy), training=False)
    statistics = [ops.convert_to_numpy(w) for w in copy.non_trainable_weights]
    assert np.abs(ops.convert_to_numpy(copy(batch(copy), training=True)) - still).max() > 1e-3
    assert all(np.any(ops.convert_to_numpy(w) != old) for w, old in zip(copy.non_trainable_weights, statistics))


def test_config_and_file_round_trip(network, tmp_path):
    assert ResidualUNet.from_config(network.get_config()).get_config() == network.get_config()
    network.save(tmp_path / "network.keras")
    loaded = keras.models.load_model(tmp_path / "network.keras")
    assert type(loaded) is ResidualUNet
    np.testing.assert_array_equal(call(loaded, batch(network)), call(network, batch(network)))


def test_mixed_precision_is_within_rounding_of_float32(network):
    mixed = ResidualUNet.from_config({**network.get_config(), "dtype": "mixed_bfloat16"})
    mixed.set_weights(network.get_weights())
    assert mixed.get_layer("conv_in").compute_dtype == "bfloat16"
    expected = call(network, batch(network))
    values = call(mixed, batch(network))
    assert keras.backend.standardize_dtype(values.dtype) == "float32"
    assert 0 < np.abs(ops.convert_to_numpy(values) - expected).max() < 0.1 * np.abs(expected).max()
    assert np.isfinite(call(mixed, batch(network), training=True)).all()


def test_fit_reduces_the_loss_and_averages_the_statistics_too():
    keras.utils.set_random_seed(0)
    images = np.sign(np.random.RandomState(0).normal(size=(64, 1, 1, 1))).astype("float32") * np.full(
        (64, 4, 4, 1), 0.7, "float32"
    )
    model = DiffusionModel(
        ResidualUNet((4, 4, 1), **SMALL),
        noise_schedule={"name": "cosine", "log_snr_min": -7.8, "log_snr_max": 2.2, "spacing": "trailing"},
        predictor={"name": "epsilon", "condition": "noise_variance"},
        autoencoder=Normalizer.from_data(images),
        ema=0.9,
        seed=0,
    )
    model.compile(optimizer=keras.optimizers.Adam(1e-2))
    losses = model.fit(images, batch_size=16, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]
    trained, averaged = (
        [ops.convert_to_numpy(w) for w in network.weights if w.name == "moving_variance"]
        for network in (model.network, model.average.network)
    )
    # They have left their beginning, 1, on the way to those of training, and lag behind them.
    assert len(averaged) == len(trained) == 3
    assert all(np.all(a > 0) and np.any(a != 1) and np.any(a != t) for a, t in zip(averaged, trained))
    samples = model.generate(2, num_steps=3, sampler="ddim", seed=0)
    assert samples.shape == (2, 4, 4, 1) and np.isfinite(samples).all() and np.abs(samples).max() <= 1


@pytest.mark.parametrize(
    "options, text",
    [
        ({"input_shape": (8,)}, r"`input_shape` must be \(H, W, C\).* Received: input_shape=\(8,\)"),
        ({"input_shape": (8, 9, 1)}, r"multiple of 2 = .* Received: size=\(8, 9\)"),
        ({"block_depth": 0}, "Received: block_depth=0"),
        ({"widths": ()}, "Received: levels=0"),
        ({"embedding_dims": 5}, "Received: dim=5"),
    ],
)
def test_errors(options, text):
    with pytest.raises(ValueError, match=text):
        ResidualUNet(**{"input_shape": (8, 8, 1), **SMALL, **options})
