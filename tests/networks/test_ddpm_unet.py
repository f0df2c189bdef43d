import keras
import numpy as np
import pytest
from calling import call
from keras import ops

from keras_diffusion import DiffusionModel, networks
from keras_diffusion.networks import DDPMUNet

SMALL = {
    "widths": (8, 12),
    "has_attention": (False, True),
    "num_res_blocks": 1,
    "first_conv_channels": 8,
    "norm_groups": 4,
}


def batch(network, size=2, shape=(4, 6), seed=0):
    rng = np.random.RandomState(seed)
    inputs = {
        "x": rng.normal(size=(size, *shape, network.sample_shape[-1])).astype("float32"),
        "noise_level": rng.randint(0, 1000, size).astype("float32"),
        "labels": rng.randint(0, 3, size),
    }
    return {key: inputs[key] for key in ("x", "noise_level", *network.condition_keys)}


@pytest.fixture(scope="module")
def network():
    """Free size, an odd number of channels, labels; every weight drawn, as the last layers of branches start at 0."""
    network = networks.get("ddpm_unet", input_shape=(None, None, 5), num_classes=3, out_channels=2, **SMALL)
    rng = np.random.RandomState(0)
    for weight in network.trainable_weights:
        weight.assign(rng.normal(size=weight.shape) * 0.2 + (1.0 if weight.name == "gamma" else 0.0))
    return network


def test_shapes_and_attributes(network):
    assert type(network) is DDPMUNet
    assert (network.condition_keys, network.null_labels, network.context_dim) == (("labels",), 3, None)
    assert call(network, batch(network)).shape == (2, 4, 6, 2)
    assert call(network, batch(network, shape=(6, 2))).shape == (2, 6, 2, 2)
    with pytest.raises(ValueError, match=r"Sizes that work: \(4, 4\) or \(4, 6\)"):
        network(batch(network, shape=(4, 5)))


def test_every_input_changes_the_output(network):
    first, second = batch(network), batch(network, seed=1)
    for key in first:
        other = {**first, key: second[key] if key != "labels" else (first["labels"] + 1) % 4}
        assert np.abs(call(network, first) - call(network, other)).max(axis=(1, 2, 3)).min() > 1e-3, key


def test_config_and_file_round_trip(network, tmp_path):
    assert DDPMUNet.from_config(network.get_config()).get_config() == network.get_config()
    network.save(tmp_path / "network.keras")
    loaded = keras.models.load_model(tmp_path / "network.keras")
    assert type(loaded) is DDPMUNet
    np.testing.assert_array_equal(call(loaded, batch(network)), call(network, batch(network)))


def test_mixed_precision_is_within_rounding_of_float32(network):
    mixed = DDPMUNet.from_config({**network.get_config(), "dtype": "mixed_bfloat16"})
    mixed.set_weights(network.get_weights())
    assert mixed.get_layer("conv_in").compute_dtype == "bfloat16"
    expected = call(network, batch(network))
    values = call(mixed, batch(network))
    assert keras.backend.standardize_dtype(values.dtype) == "float32"
    assert 0 < np.abs(ops.convert_to_numpy(values) - expected).max() < 0.1 * np.abs(expected).max()


def test_fit_reduces_the_loss():
    keras.utils.set_random_seed(0)
    small = DDPMUNet((4, 4, 1), **{**SMALL, "widths": (8,), "has_attention": (True,)}, num_classes=2)
    model = DiffusionModel(
        small, noise_schedule="linear", predictor={"name": "epsilon", "condition": "timestep"}, seed=0
    )
    model.compile(optimizer=keras.optimizers.Adam(3e-3))
    labels = np.arange(64) % 2
    data = {
        "images": np.where(labels, 0.7, -0.7)[:, None, None, None] * np.ones((64, 4, 4, 1), "float32"),
        "labels": labels,
    }
    losses = model.fit(data, batch_size=32, epochs=6, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize(
    "options, text",
    [
        ({"input_shape": (8, 1)}, r"`input_shape` must be \(H, W, C\).* Received: input_shape=\(8, 1\)"),
        ({"input_shape": (9, 8, 1)}, r"multiple of 2 = .* Received: size=\(9, 8\)"),
        ({"has_attention": (True,)}, r"as many as `widths` \(2\). Received: has_attention=\(True,\)"),
        ({"widths": (8, 0)}, r"Received: widths\[1\]=0"),
        ({"num_res_blocks": 0}, "Received: num_res_blocks=0"),
        ({"num_classes": 0}, "Received: num_classes=0"),
    ],
)
def test_errors(options, text):
    with pytest.raises(ValueError, match=text):
        DDPMUNet(**{"input_shape": (8, 8, 1), **SMALL, **options})
