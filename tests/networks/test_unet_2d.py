import keras
import numpy as np
import pytest
from calling import call
from keras import ops

from keras_diffusion import DiffusionModel, networks
from keras_diffusion.networks import DiTTransformer2D, UNet2D

UNET = {"widths": (8, 12), "num_res_blocks": 1, "head_dim": 4, "norm_groups": 4}
ADM = {"time_injection": "scale_shift", "downsample_type": "resnet", "upsample_type": "resnet", "middle_norm": False}
TIME = {"time_features": 16, "time_scale": 0.25}
DIT = {"depth": 2, "num_heads": 2, "head_dim": 8}
MADE = {
    "ddpm": lambda: UNet2D(
        (None, None, 5), **UNET, num_classes=3, out_channels=2, dropout=0.1, freq_shift=1, symmetric=False
    ),
    "adm": lambda: UNet2D(
        (None, None, 5),
        **UNET,
        **ADM,
        **TIME,
        num_heads=2,
        down_types=("AttnDownBlock2D", "DownBlock2D"),
        num_classes=3,
        out_channels=2,
    ),
    "resnet": lambda: UNet2D(
        (4, 6, 5), **UNET, down_types=("ResnetDownsampleBlock2D", "DownBlock2D"), num_classes=3, out_channels=2
    ),
    "fourier": lambda: UNet2D(
        (4, 6, 5), **UNET, time_embedding="fourier", middle="blocks", num_classes=3, out_channels=2
    ),
    "dit": lambda: DiTTransformer2D((4, 6, 5), **DIT, num_classes=3, out_channels=2, dropout=0.1),
}


def batch(network, seed=0, shape=(4, 6)):
    rng = np.random.RandomState(seed)
    x = rng.normal(size=(2, *shape, network.sample_shape[-1])).astype("float32")
    return {"x": x, "noise_level": rng.uniform(1, 999, 2).astype("float32"), "labels": rng.randint(0, 3, 2)}


@pytest.fixture(scope="module", params=list(MADE))
def network(request):
    """An odd number of channels, no square; every weight drawn, as the last layers of branches start at 0."""
    made = MADE[request.param]()
    rng = np.random.RandomState(0)
    for weight in made.trainable_weights:
        weight.assign(rng.normal(size=weight.shape) * 0.2 + (1.0 if weight.path.endswith("gamma") else 0.0))
    return made


def test_every_input_changes_the_output_of_its_own_row(network):
    first, second = batch(network), batch(network, seed=1)
    expected = call(network, first)
    assert expected.shape == (2, 4, 6, 2)
    for key in first:
        other = {**first, key: second[key] if key != "labels" else (first["labels"] + 1) % 4}
        assert np.abs(expected - call(network, other)).max(axis=(1, 2, 3)).min() > 1e-4, key
        other[key] = np.concatenate([first[key][:1], other[key][1:]])
        np.testing.assert_allclose(call(network, other)[0], expected[0], atol=1e-5 * np.abs(expected).max())


def test_config_and_file_round_trip(network, tmp_path):
    network.save(tmp_path / "network.keras")
    loaded = keras.models.load_model(tmp_path / "network.keras")
    assert type(loaded) is type(network) and loaded.get_config() == network.get_config()
    np.testing.assert_array_equal(call(loaded, batch(network)), call(network, batch(network)))


def test_mixed_precision_is_within_rounding_of_float32(network):
    mixed = type(network).from_config({**network.get_config(), "dtype": "mixed_bfloat16"})
    mixed.set_weights(network.get_weights())
    expected, values = call(network, batch(network)), call(mixed, batch(network))
    assert keras.backend.standardize_dtype(values.dtype) == "float32"
    assert 0 < np.abs(ops.convert_to_numpy(values) - expected).max() < 0.2 * np.abs(expected).max()


def test_dropout_drops_in_training_alone(network):
    inputs = batch(network)
    dropped = np.abs(call(network, inputs, training=True) - call(network, inputs)).max() > 1e-4
    assert dropped == bool(network.get_config()["dropout"])


@pytest.mark.parametrize(
    "network",
    [
        lambda: UNet2D((4, 4, 1), **{**UNET, "widths": (8,)}, num_classes=2, out_channels=2),
        lambda: DiTTransformer2D((4, 4, 1), **{**DIT, "depth": 1}, num_classes=2, out_channels=2),
    ],
)
def test_fit_reduces_the_loss(network):
    """With the channels of a learned variance, which training leaves alone."""
    keras.utils.set_random_seed(0)
    model = DiffusionModel(network(), "linear", predictor={"name": "epsilon", "condition": "timestep"}, seed=0)
    model.compile(optimizer=keras.optimizers.Adam(3e-3))
    labels = np.arange(64) % 2
    data = {
        "images": np.where(labels, 0.7, -0.7)[:, None, None, None] * np.ones((64, 4, 4, 1), "float32"),
        "labels": labels,
    }
    losses = model.fit(data, batch_size=32, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]


def test_a_unet_runs_at_other_sizes_than_it_makes():
    network = UNet2D((4, 6, 5), **UNET, num_classes=3)
    assert call(network, batch(network, shape=(8, 2))).shape == (2, 8, 2, 5)
    with pytest.raises(ValueError, match=r"Sizes that work: \(4, 4\) or \(4, 6\)"):
        network(batch(network, shape=(4, 5)))
    with pytest.raises(ValueError, match=r"found shape=\(2, 4, 6, 3\)"):
        network({**batch(network), "x": np.ones((2, 4, 6, 3), "float32")})


@pytest.mark.slow
def test_rematerialization_changes_no_gradient():
    import jax

    def gradients(made):
        made.set_weights(plain.get_weights())
        inputs = batch(made)

        def loss(values):
            return ops.mean(ops.square(made.stateless_call(values, made.non_trainable_variables, inputs)[0]))

        return jax.jit(jax.grad(loss))([v.value for v in made.trainable_variables])

    small = {**UNET, "widths": (8,), "num_classes": 3}
    plain = UNet2D((4, 6, 5), **small)
    with keras.RematScope(mode="full"):
        scoped = UNet2D((4, 6, 5), **small)
    for a, b in zip(gradients(plain), gradients(scoped), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize(
    "name, options, text",
    [
        ("unet_2d", {"input_shape": (8, 1)}, r"`input_shape` must be \(H, W, C\)"),
        ("unet_2d", {"widths": (8, 8), "down_types": ("DownBlock2D",)}, r"as many as `widths` \(2\)"),
        ("unet_2d", {"widths": (8,), "down_types": ("UpBlock2D",)}, "is one of 'DownBlock2D'"),
        ("unet_2d", {"widths": (8,), "middle": "transformer"}, "Received: middle='transformer'"),
        ("unet_2d", {"widths": (2,), "freq_shift": 1}, "Received: freq_shift=1"),
        (
            "dit_transformer_2d",
            {"input_shape": (8, 7, 4)},
            r"H and W multiples of 2. Received: input_shape=\(8, 7, 4\)",
        ),
        ("dit_transformer_2d", {"num_heads": 1, "head_dim": 6}, "multiple of 4. Received: num_heads=1, head_dim=6"),
    ],
)
def test_errors(name, options, text):
    with pytest.raises(ValueError, match=text):
        networks.get(name, **options)
