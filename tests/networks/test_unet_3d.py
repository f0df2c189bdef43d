import keras
import numpy as np
import pytest
from calling import call
from keras import ops

import keras_diffusion as kd
from keras_diffusion import networks
from keras_diffusion.layers import (
    Attention,
    ResidualBlock,
    SpatialTransformer,
    TemporalConvolution,
    TemporalTransformer,
)
from keras_diffusion.networks import UNet3D

# Transformers in the middle alone: they are what takes long to compile.
SMALL = {"widths": (4, 8), "num_res_blocks": 1, "num_heads": 2, "norm_groups": 2, "attention": [False, False]}


def randomize(network, seed=0):
    """The layers that start at 0 hide what comes before them: draws every trainable weight anew."""
    rng = np.random.RandomState(seed)
    for weight in network.trainable_weights:
        weight.assign(rng.normal(size=weight.shape) * 0.3 + (1.0 if weight.name == "gamma" else 0.0))
    return network


def batch(network, size=2, seed=0, shape=(3, 4, 6)):
    rng = np.random.RandomState(seed)
    inputs = {
        "x": rng.normal(size=(size, *shape, network.sample_shape[-1])).astype("float32"),
        "noise_level": rng.uniform(1, 999, size).astype("float32"),
        "labels": rng.randint(0, 3, size),
        "context": rng.normal(size=(size, 5, 6)).astype("float32"),
    }
    return {key: inputs[key] for key in ("x", "noise_level", *network.condition_keys)}


def differences(a, b):
    """(B, F): largest difference in each frame."""
    return np.abs(a - b).max(axis=(2, 3, 4))


@pytest.fixture(scope="module")
def conditional():
    """Not square, an odd number of channels, others in the output; a text and classes, dropout."""
    options = {"context_dim": 6, "num_classes": 3, "out_channels": 2, "dropout": 0.3, "flash_attention": False}
    return randomize(UNet3D((3, 4, 6, 5), **options, **SMALL))


@pytest.mark.slow
def test_every_input_changes_every_frame_of_its_own_video(conditional):
    first, second = batch(conditional), batch(conditional, seed=1)
    second["labels"] = (first["labels"] + 1) % 4  # 3: no class
    expected = call(conditional, first)
    assert expected.shape == (2, 3, 4, 6, 2)
    for key in first:
        changed = {**first, key: np.concatenate([first[key][:1], second[key][1:]])}
        difference = differences(call(conditional, changed), expected)
        assert difference[1].min() > 1e-4, key
        assert difference[0].max() <= 1e-5 * np.abs(expected).max(), key


def test_frames_see_each_other(conditional):
    inputs = batch(conditional)
    changed = {**inputs, "x": inputs["x"].copy()}
    changed["x"][:, 2, 1, 1] += 1.0
    assert differences(call(conditional, inputs), call(conditional, changed)).min() > 1e-4


def test_options_reach_the_layers(conditional):
    layers = list(conditional._flatten_layers())
    attentions = [layer for layer in layers if isinstance(layer, Attention)]
    # In the middle: to the frame, to the text, and twice along time.
    assert len(attentions) == 4 and {layer.flash_attention for layer in attentions} == {False}
    assert {layer.dropout for layer in layers if isinstance(layer, (ResidualBlock, TemporalConvolution))} == {0.3}
    every = UNet3D(remat=True, time_norm_epsilon=1e-3, **{**SMALL, "attention": [True, False]})
    layers = list(every._flatten_layers())
    kinds = (ResidualBlock, TemporalConvolution, SpatialTransformer, TemporalTransformer)
    assert [sum(type(layer) is kind for layer in layers) for kind in kinds] == [8, 8, 4, 4]
    assert all(layer.remat for layer in layers if isinstance(layer, kinds))
    assert {layer.norm_epsilon for layer in layers if isinstance(layer, TemporalConvolution)} == {1e-3}
    assert not np.any(ops.convert_to_numpy(every.get_layer("conv_out").kernel))


def test_sizes_are_those_that_the_levels_halve(conditional):
    with pytest.raises(ValueError, match=r"Received: size=\(4, 5\). Sizes that work: \(4, 4\) or \(4, 6\)"):
        conditional(batch(conditional, shape=(3, 4, 5)))
    with pytest.raises(ValueError, match=r"x.shape=\(2, 4, 6, 5\)"):
        conditional({**batch(conditional), "x": np.ones((2, 4, 6, 5), "float32")})


def test_config_and_file_round_trip(conditional, tmp_path):
    copy = networks.get("unet_3d", **conditional.get_config())
    assert type(copy) is UNet3D and copy.get_config() == conditional.get_config()
    assert [w.path for w in copy.weights] == [w.path for w in conditional.weights]
    assert len({w.path for w in copy.weights}) == len(copy.weights)
    conditional.save(tmp_path / "network.keras")
    loaded = keras.models.load_model(tmp_path / "network.keras")
    assert type(loaded) is UNet3D and loaded.condition_keys == ("labels", "context")
    np.testing.assert_array_equal(call(loaded, batch(conditional)), call(conditional, batch(conditional)))


def test_mixed_precision_is_within_rounding_of_float32(conditional):
    mixed = UNet3D.from_config({**conditional.get_config(), "dtype": "mixed_bfloat16"})
    mixed.set_weights(conditional.get_weights())
    values, expected = call(mixed, batch(conditional)), call(conditional, batch(conditional))
    assert values.dtype == np.float32
    assert 0 < np.abs(values - expected).max() < 0.2 * np.abs(expected).max()


def model_of_videos():
    """A model of a context that takes videos of any size, every weight drawn anew, and data for it."""
    keras.utils.set_random_seed(0)
    options = {**SMALL, "widths": (4,), "attention": [False]}
    network = UNet3D((None, None, None, 1), context_dim=6, dropout=0.1, seed=0, remat=True, **options)
    model = kd.DiffusionModel(
        randomize(network), "linear", predictor={"name": "epsilon", "condition": "timestep"}, seed=0, ema=None
    )
    rng = np.random.RandomState(0)
    data = {"images": np.tile(np.sign(rng.normal(size=(1, 2, 2, 4, 1))), (64, 1, 1, 1, 1)).astype("float32")}
    data["context"] = rng.normal(size=(64, 5, 6)).astype("float32")
    return model, data


@pytest.mark.slow
def test_training_reduces_the_loss():
    """Every weight moves; and what is forgotten on the way forward is found again on the way back, dropout included."""
    model, data = model_of_videos()
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9))
    weights = model.network.trainable_weights
    before = [ops.convert_to_numpy(w).copy() for w in weights]
    losses = model.fit(data, batch_size=16, epochs=5, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]
    assert not [w.path for w, old in zip(weights, before) if np.array_equal(ops.convert_to_numpy(w), old)]


def test_a_network_of_any_size_takes_videos_of_any_size():
    network = model_of_videos()[0].network
    for shape in ((3, 1, 2), (2, 2, 4)):
        output = call(network, batch(network, shape=shape))
        assert output.shape == (2, *shape, 1) and np.isfinite(output).all()


@pytest.mark.slow  # what generation adds to this does not depend on the backend's networks
def test_videos_of_any_size_come_out():
    model, data = model_of_videos()
    told = {
        "conditions": {"context": data["context"][0]},
        "num_steps": 2,
        "guidance_scale": 2.0,
        "seed": 0,
        "verbose": 0,
    }
    videos = model.generate(2, size=(3, 1, 2), **told)
    assert videos.shape == (2, 3, 1, 2, 1) and np.isfinite(videos).all() and np.abs(videos).max() <= 1
    with pytest.raises(ValueError, match="`size` is an int, or 3 of them"):
        model.generate(2, size=(1, 2), **told)


@pytest.mark.parametrize(
    "options, text",
    [
        ({"input_shape": (8, 8, 3)}, r"`input_shape` must be \(F, H, W, C\).* Received: input_shape=\(8, 8, 3\)"),
        ({"input_shape": (3, 8, 7, 3)}, r"multiple of 2 = .* Received: size=\(8, 7\)"),
        ({"num_heads": 3}, r"must divide its width. Received: widths=\(4, 8\), num_heads=3"),
        ({"attention": [True]}, r"`attention` needs one entry per level.*Received: attention=\[True\]"),
        ({"num_res_blocks": 0}, "Received: num_res_blocks=0"),
        ({"context_dim": 0}, "Received: context_dim=0"),
        ({"dropout": 1.0}, "Received: dropout=1.0"),
    ],
)
def test_unet_3d_errors(options, text):
    with pytest.raises(ValueError, match=text):
        UNet3D(**{"input_shape": (3, 8, 8, 3), **SMALL, **options})
