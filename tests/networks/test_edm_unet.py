import keras
import numpy as np
import pytest
from keras import ops

from keras_diffusion import DiffusionModel, networks
from keras_diffusion.layers import EDMBlock, SmoothDownsample
from keras_diffusion.layers.edm_block import filter_down, filter_up, group_count
from keras_diffusion.networks import EDMUNet
from keras_diffusion.runtime.compile import Compiled, as_tensors

SMALL = {"widths": (8, 12), "base_width": 8, "num_res_blocks": 1, "num_classes": 3}
NCSNPP = {"time_embedding": "fourier", "encoder": "residual", "resample_filter": (1, 3, 3, 1)}
MADE = {
    "ncsnpp": lambda: EDMUNet((None, None, 5), **SMALL, **NCSNPP, out_channels=2, attention=(True, False), dropout=0.1),
    "adm": lambda: EDMUNet((4, 6, 5), **SMALL, architecture="adm", head_dim=4, out_channels=2),
}


def batch(network, seed=0, shape=(4, 6)):
    rng = np.random.RandomState(seed)
    x = rng.normal(size=(2, *shape, network.sample_shape[-1])).astype("float32")
    return {"x": x, "noise_level": rng.uniform(-1.5, 1.0, 2).astype("float32"), "labels": rng.randint(0, 3, 2)}


def call(function, *inputs, **options):
    return ops.convert_to_numpy(function(*inputs, **options))


@pytest.fixture(scope="module", params=list(MADE))
def network(request):
    """An odd number of channels, no square; every weight drawn, as the last layers of branches start at 0."""
    return with_weights(MADE[request.param]())


def with_weights(made):
    rng = np.random.RandomState(0)
    for weight in made.trainable_weights:
        weight.assign(rng.normal(size=weight.shape) * 0.2 + (1.0 if weight.path.endswith("gamma") else 0.0))
    return made


def compiled(network):
    """The network as one program, on arrays."""
    program = Compiled(network)
    return lambda inputs: ops.convert_to_numpy(program(as_tensors(inputs)))


def test_every_input_changes_the_output_of_its_own_row(network):
    first, second, run = batch(network), batch(network, seed=1), compiled(network)
    expected = run(first)
    assert expected.shape == (2, 4, 6, 2)
    for key in first:
        other = {**first, key: second[key] if key != "labels" else (first["labels"] + 1) % 4}
        assert np.abs(expected - run(other)).max(axis=(1, 2, 3)).min() > 1e-4, key
        other[key] = np.concatenate([first[key][:1], other[key][1:]])
        np.testing.assert_allclose(run(other)[0], expected[0], atol=1e-5 * np.abs(expected).max())


def test_config_and_file_round_trip(network, tmp_path):
    network.save(tmp_path / "network.keras")
    loaded = keras.models.load_model(tmp_path / "network.keras")
    assert type(loaded) is EDMUNet and loaded.get_config() == network.get_config()
    for a, b in zip(loaded.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_mixed_precision_is_within_rounding_of_float32():
    network = with_weights(MADE["ncsnpp"]())
    mixed = EDMUNet.from_config({**network.get_config(), "dtype": "mixed_bfloat16"})
    mixed.set_weights(network.get_weights())
    expected, values = compiled(network)(batch(network)), compiled(mixed)(batch(network))
    assert values.dtype == "float32"
    assert 0 < np.abs(values - expected).max() < 0.2 * np.abs(expected).max()


def test_dropout_drops_in_training_alone():
    layer, x, e = (
        EDMBlock(8, dropout=0.5, zero_init=False, seed=0),
        np.ones((2, 4, 6, 8), "float32"),
        np.ones((2, 5), "float32"),
    )
    still = call(layer, x, e)
    np.testing.assert_array_equal(call(layer, x, e, training=False), still)
    assert np.abs(call(layer, x, e, training=True) - still).max() > 0.01


@pytest.mark.slow
def test_fit_reduces_the_loss():
    keras.utils.set_random_seed(0)
    network = EDMUNet((4, 4, 1), **{**SMALL, "widths": (8,), "num_classes": 2}, attention=(False,))
    model = DiffusionModel(network, "variance_exploding", predictor="edm", time_distribution="log_normal_sigma", seed=0)
    model.compile(optimizer=keras.optimizers.Adam(1e-2))
    labels = np.arange(64) % 2
    data = {
        "images": np.where(labels, 0.7, -0.7)[:, None, None, None] * np.ones((64, 4, 4, 1), "float32"),
        "labels": labels,
    }
    losses = model.fit(data, batch_size=32, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]


def test_other_sizes_are_multiples_of_the_resampling(network):
    assert network.compute_output_shape({"x": (2, 8, 2, 5), "noise_level": (2,), "labels": (2,)}) == (2, 8, 2, 2)
    with pytest.raises(ValueError, match=r"Sizes that work: \(4, 4\) or \(4, 6\)"):
        network(batch(network, shape=(4, 5)))


@pytest.mark.parametrize("taps", [(1, 1), (1, 3, 3, 1), (1, 2, 3, 4, 5, 6)])
def test_filters_are_sums_over_taps(taps):
    """Written as in the docstring, for one axis; a constant along the other one."""
    f, side = np.asarray(taps) / np.sum(taps), len(taps) // 2 - 1
    x = np.random.RandomState(0).normal(size=10)
    padded = np.pad(x, len(taps))
    down = [sum(f[k] * padded[len(taps) + 2 * i + k - side] for k in range(len(taps))) for i in range(5)]
    up = [
        sum(2 * f[j + side - 2 * i] * x[i] for i in range(10) if 0 <= j + side - 2 * i < len(taps)) for j in range(20)
    ]
    image = ops.convert_to_tensor(np.tile(x[None, :, None, None], (1, 1, 40, 1)).astype("float32"))
    np.testing.assert_allclose(ops.convert_to_numpy(filter_down(image, taps))[0, :, 10, 0], down, atol=1e-5)
    middle = ops.convert_to_numpy(filter_up(image, taps))[0, :, 40:42, 0]
    np.testing.assert_allclose(middle.mean(axis=1), up, atol=1e-5)


def test_layers_alone():
    x, e = np.random.RandomState(0).normal(size=(2, 4, 6, 8)).astype("float32"), np.ones((2, 5), "float32")
    options = {"resample_filter": (1, 3, 3, 1), "zero_init": False}
    for layer in (
        EDMBlock(8, resample="up", project_resampled=True, **options),
        EDMBlock(8, resample="down", **options),
        SmoothDownsample(6, resample_filter=(1, 3, 3, 1)),
    ):
        inputs = (x, e) if isinstance(layer, EDMBlock) else (x,)
        assert layer(*inputs).shape == layer.compute_output_shape(x.shape)
        copy = type(layer).from_config(layer.get_config())
        copy(*inputs)
        copy.set_weights(layer.get_weights())
        np.testing.assert_array_equal(call(copy, *inputs), call(layer, *inputs))
    assert [group_count(n) for n in (2, 8, 36, 128, 256)] == [1, 2, 9, 32, 32]
    assert EDMBlock(64).norm_groups == 32


@pytest.mark.parametrize(
    "options, text",
    [
        ({"input_shape": (8, 1)}, r"`input_shape` must be \(H, W, C\)"),
        ({"architecture": "ddpm"}, "one of 'song', 'adm'. Received: architecture='ddpm'"),
        ({"architecture": "adm", "encoder": "residual"}, "NCSN\\+\\+'s.*encoder='residual'"),
        ({"attention": (True,)}, r"one entry per level, as many as `widths` \(3\)"),
        ({"resample_filter": (1, 2, 1), "widths": (8,)}, "even number of positive taps"),
        ({"input_shape": (6, 6, 1)}, "Sizes that work"),
    ],
)
def test_errors(options, text):
    with pytest.raises(ValueError, match=text):
        networks.get("edm_unet", **options)
