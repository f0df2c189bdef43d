"""Adapters: of one layer, of every network, and in training. Files are in test_lora_files.py."""

import keras
import numpy as np
import pytest
from calling import call
from keras import ops

import keras_diffusion as kd
from keras_diffusion import networks
from keras_diffusion.layers.adaptable_dense import AdaptableDense
from keras_diffusion.lora.network import adapter_variables, chosen_layers
from keras_diffusion.text import CLIPTextEncoder

RNG = np.random.RandomState(0)
TOKENS = {"patch_size": 2, "emb_features": 8, "num_layers": 2, "num_heads": 2, "context_dim": 4}
# Arguments, and how many dense layers are projections of attention.
NETWORKS = {
    networks.UNet: (
        {"widths": (8,), "num_res_blocks": 1, "attention": (True,), "norm_groups": 4, "context_dim": 4},
        3 * 5,
    ),
    networks.DDPMUNet: (
        {"widths": (8,), "has_attention": (True,), "num_res_blocks": 1, "first_conv_channels": 8},
        4 * 2,
    ),
    networks.UNet2D: (
        {"widths": (8,), "down_types": ("AttnDownBlock2D",), "num_res_blocks": 1, "norm_groups": 4},
        4 * 2,
    ),
    networks.UNet2DCondition: (
        {"widths": (8,), "attention": (True,), "num_res_blocks": 1, "num_heads": 2, "context_dim": 4, "norm_groups": 4},
        4 * 8,
    ),
    networks.FlaxUNet: (
        {"widths": (8,), "attention": [{"num_heads": 2}], "num_res_blocks": 1, "norm_groups": 4, "context_dim": 4},
        3 * 8,
    ),
    networks.SimpleDiT: (TOKENS, 2 * 4),
    networks.SimpleMMDiT: (TOKENS, 2 * 4),
    networks.SimpleUDiT: (TOKENS, 3 * 4),
    networks.UViT: (TOKENS, 3 * 4),
    networks.HybridSSMAttentionDiT: ({**TOKENS, "ssm_attention_ratio": "1:1", "ssm_state_dim": 4}, 4),
    networks.HierarchicalMMDiT: (
        {"base_patch_size": 2, "emb_features": (8, 8), "num_layers": (1, 1), "num_heads": (2, 2), "context_dim": 4},
        3 * 4,
    ),
    networks.EDMUNet: ({"widths": (8,), "attention": (True,), "num_res_blocks": 1}, 3 * 2),
    networks.UNet3D: (
        {"widths": (8,), "attention": (True,), "num_res_blocks": 1, "num_heads": 2, "norm_groups": 2, "context_dim": 4},
        4 * (8 + 8),
    ),
    networks.DiTTransformer2D: ({"patch_size": 2, "depth": 2, "num_heads": 2, "head_dim": 4, "num_classes": 3}, 2 * 4),
}

# What each kind of attention does is seen in these; the others are made of the same blocks.
RUN = (networks.UNet2D, networks.UNet2DCondition, networks.FlaxUNet, networks.SimpleDiT, networks.UViT)
RUN = [pytest.param(cls, id=cls.__name__) for cls in RUN]
RUN += [pytest.param(cls, id=cls.__name__, marks=pytest.mark.slow) for cls in (networks.UNet, networks.DDPMUNet)]


def draw(network, seed=0):
    rng = np.random.RandomState(seed)
    network.set_weights([(w == 1) + 0.3 * rng.normal(size=w.shape) for w in network.get_weights()])
    return network


def batch_of(network):
    known = {
        "x": RNG.normal(size=(2, 4, 4, 1)),
        "noise_level": np.array([3.0, 500.0]),
        "labels": np.array([0, 2]),
        "context": RNG.normal(size=(2, 3, 4)),
    }
    known = {key: value.astype("int32" if key == "labels" else "float32") for key, value in known.items()}
    return {key: known[key] for key in ("x", "noise_level", *network.condition_keys)}


def learn(network, seed=5):
    """Gives B values, as training would."""
    rng = np.random.RandomState(seed)
    for variable in adapter_variables(network)[1::2]:
        variable.assign(0.3 * rng.normal(size=variable.shape))


def test_every_network_that_may_have_attention_is_here():
    autoencoders = {networks.AutoencoderKL, networks.AutoencoderTiny, networks.QuantizedAutoencoder}
    without = {networks.MLP, networks.ResidualUNet, networks.PatchDiscriminator, networks.Network} | autoencoders
    assert {*NETWORKS} | without == {
        value for value in vars(networks).values() if isinstance(value, type) and issubclass(value, keras.Model)
    }


@pytest.mark.slow
@pytest.mark.parametrize("cls", NETWORKS, ids=lambda cls: cls.__name__)
def test_every_network_gets_adapters(cls):
    arguments, count = NETWORKS[cls]
    network = cls((3, 4, 4, 1) if cls is networks.UNet3D else (4, 4, 1), **arguments)
    config, trainable = network.get_config(), [w.path for w in network.trainable_weights]
    network.enable_lora(2, alpha=3)
    assert len(network.adapters) == count and set(network.adapters.values()) == {(2, 3)}
    assert list(map(id, network.trainable_weights)) == list(map(id, adapter_variables(network)))
    assert len({w.path for w in network.weights}) == len(network.weights)
    assert all(not np.any(b) for b in map(ops.convert_to_numpy, adapter_variables(network)[1::2]))
    copy = cls.from_config(network.get_config())
    assert copy.adapters == network.adapters and len(copy.trainable_weights) == 2 * count
    network.remove_lora()
    assert network.get_config() == config and [w.path for w in network.trainable_weights] == trainable


@pytest.mark.parametrize("cls", RUN)
def test_outputs(cls):
    arguments, count = NETWORKS[cls]
    network = draw(cls((4, 4, 1), **arguments))
    batch, kernels = batch_of(network), network.get_weights()
    before = call(network, batch)
    network.enable_lora(2, alpha=3)
    np.testing.assert_array_equal(call(network, batch), before)
    learn(network)
    adapted = call(network, batch)
    assert np.abs(adapted - before).max() > 1e-3
    network.merge_lora()
    np.testing.assert_allclose(call(network, batch), adapted, atol=1e-5 * np.abs(adapted).max())
    assert not network.adapters
    changed = sum(not np.array_equal(a, b) for a, b in zip(network.get_weights(), kernels, strict=True))
    assert changed == count
    network.set_weights(kernels)
    network.enable_lora(1)
    learn(network)
    network.remove_lora()
    np.testing.assert_array_equal(call(network, batch), before)


def test_text_encoder_and_autoencoder():
    encoder = draw(CLIPTextEncoder(12, 5, width=8, depth=2, num_heads=2))
    tokens = np.array([[1, 2, 3]])
    before = encoder.predict_on_batch(tokens)
    encoder.enable_lora(2)
    learn(encoder)
    adapted = encoder.predict_on_batch(tokens)
    assert len(encoder.adapters) == 8 and np.abs(adapted - before).max() > 1e-3
    encoder.merge_lora()
    np.testing.assert_allclose(encoder.predict_on_batch(tokens), adapted, atol=1e-5)
    autoencoder = networks.AutoencoderKL(widths=(8,), num_res_blocks=1, norm_groups=4)
    autoencoder.enable_lora(2)
    assert sorted(autoencoder.adapters) == [
        f"{half}/middle_attention/{name}" for half in ("decoder", "encoder") for name in ("out", "qkv")
    ]
    assert networks.AutoencoderKL.from_config(autoencoder.get_config()).adapters == autoencoder.adapters


def test_one_layer_is_its_formula():
    layer = AdaptableDense(3, activation="relu")
    layer.build((None, 4))
    layer.enable_lora(2, lora_alpha=5)
    x, values = RNG.normal(size=(6, 4)).astype("float32"), [0.5 * RNG.normal(size=w.shape) for w in layer.weights]
    assert np.abs(layer.get_weights()[2]).max() <= 0.5 and np.ptp(layer.get_weights()[2]) > 0.1  # A within ±1/√4
    layer.set_weights(values)
    w, bias, a, b = values
    np.testing.assert_allclose(call(layer, x), np.maximum(x @ (w + 2.5 * a @ b) + bias, 0), atol=1e-5)
    assert [v.name for v in layer.trainable_variables] == ["bias", "lora_kernel_a", "lora_kernel_b"]
    copy = AdaptableDense.from_config(layer.get_config())
    copy.build((None, 4))
    assert (copy.lora_rank, copy.lora_alpha) == (2, 5)


def test_small_changes_survive_half_precision():
    """An adapter that changes W by less than bfloat16 can tell."""
    layer = AdaptableDense(4, use_bias=False, dtype="mixed_bfloat16")
    layer.build((None, 4))
    layer.enable_lora(1)
    layer.set_weights([np.eye(4), np.array([[0.0], [0], [0], [1]]), np.array([[1e-3, 0, 0, 0]])])
    x = np.array([[0.0, 0, 0, 1]], "float32")
    assert keras.backend.standardize_dtype(layer(x).dtype) == "bfloat16"
    np.testing.assert_allclose(ops.convert_to_numpy(ops.cast(layer(x), "float32"))[0], [1e-3, 0, 0, 1], rtol=1e-2)


def test_targets():
    network = networks.UNet2DCondition((4, 4, 1), **NETWORKS[networks.UNet2DCondition][0])
    attention, dense = chosen_layers(network, "attention"), chosen_layers(network, "dense")
    assert set(attention) < set(dense) and {"time_projection/dense1"} <= set(dense) - set(attention)
    values = chosen_layers(network, ["to_q", "attention2/to_v"])
    assert len(values) == 4 * 3 and all(path.endswith(("/to_q", "attention2/to_v")) for path in values)
    with pytest.raises(ValueError, match=r"No dense layer of the name q\. Names in this network: .*to_q"):
        network.enable_lora(2, target=["q"])
    with pytest.raises(
        ValueError, match=r"`target` is one of 'attention', 'dense', or a list .*Received: target='to_q'"
    ):
        network.enable_lora(2, target="to_q")
    with pytest.raises(ValueError, match="no layers to adapt. Received: target='attention'.*target='dense'"):
        networks.MLP((2,), width=4, depth=1).enable_lora(2)
    for rank in (0, 2.0, True):
        with pytest.raises(ValueError, match=r"`rank` .*an integer ≥ 1. Received: rank="):
            network.enable_lora(rank)
    with pytest.raises(ValueError, match="`alpha` .* is a number > 0. Received: 0"):
        network.enable_lora(2, alpha=0)
    with pytest.raises(ValueError, match="Adapters are for dense layers of the network. Received: conv_in"):
        network.add_adapters({"conv_in": (2, 2)})
    with pytest.raises(ValueError, match="This network has no adapters. Call enable_lora"):
        network.merge_lora()
    assert not network.adapters and all(w.trainable for w in network.weights)  # nothing of what failed was half done
    network.enable_lora(2)
    with pytest.raises(
        ValueError, match=r"takes adapters once. Received one that has 32. Call merge_lora\(\) .* or remove_lora\(\)"
    ):
        network.enable_lora(2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model whose adapters have been trained: model, data, file, weights before and after, losses, samples."""
    keras.utils.set_random_seed(0)
    network = draw(networks.SimpleDiT((4, 4, 1), num_classes=3, **{**TOKENS, "context_dim": None, "num_layers": 1}))
    model = kd.DiffusionModel(network, seed=0, ema=0.5)
    model.compile(keras.optimizers.Adam(0.02))
    data = {"images": np.full((16, 4, 4, 1), 0.5, "float32"), "labels": np.arange(16) % 3}
    found = {
        "trainable": len(model.trainable_variables),
        "made_before": model.generate(2, num_steps=2, seed=0),
        "average_before": model.average.network.get_weights(),
    }
    model.enable_lora(2, alpha=8)
    found |= {"made_at_first": model.generate(2, num_steps=2, seed=0), "before": network.get_weights()}
    losses = model.fit(data, epochs=12, batch_size=8, verbose=0).history["loss"]
    path = tmp_path_factory.mktemp("lora") / "model.keras"
    model.save(path)
    made = model.generate(2, num_steps=2, seed=0)
    return {
        "model": model,
        "data": data,
        "path": path,
        "losses": losses,
        "made": made,
        "after": network.get_weights(),
        **found,
    }


def test_training_moves_adapters_alone(trained):
    network = trained["model"].network
    np.testing.assert_array_equal(trained["made_at_first"], trained["made_before"])
    assert np.abs(trained["made"] - trained["made_before"]).max() > 1e-3
    assert np.mean(trained["losses"][-3:]) < 0.9 * np.mean(trained["losses"][:3])
    moved = {
        w.path
        for w, a, b in zip(network.weights, trained["before"], trained["after"], strict=True)
        if not np.array_equal(a, b)
    }
    assert moved == {w.path for w in adapter_variables(network)}
    assert len(trained["model"].optimizer.variables) < 3 * len(moved)


def test_the_average_is_of_the_adapters(trained):
    model = trained["model"]
    average = model.average.network
    assert average.adapters == model.network.adapters and not average.trainable_variables
    kernels = [w for w in average.weights if not w.name.startswith("lora_")]
    for now, before in zip(kernels, trained["average_before"], strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(now), before)
    for a, b in zip(adapter_variables(average), adapter_variables(model.network), strict=True):
        gap = np.abs(ops.convert_to_numpy(a) - ops.convert_to_numpy(b)).max()
        assert 0 < gap < 0.1


def test_saving_goes_on_where_it_was(trained, difference):
    model, loaded = trained["model"], keras.saving.load_model(trained["path"])
    assert difference(model, loaded) == 0 and loaded.network.adapters == model.network.adapters
    np.testing.assert_array_equal(loaded.generate(2, num_steps=2, seed=0), trained["made"])
    assert {v.path.rsplit("/", 1)[-1] for v in loaded.trainable_variables} == {"lora_kernel_a", "lora_kernel_b"}
    before = loaded.network.get_weights()
    loaded.fit(trained["data"], epochs=1, batch_size=8, verbose=0)
    moved = sum(not np.array_equal(a, b) for a, b in zip(before, loaded.network.get_weights(), strict=True))
    assert moved == len(loaded.trainable_variables)


@pytest.mark.slow
def test_merging_and_removing_in_a_model(trained, tmp_path):
    model = keras.saving.load_model(trained["path"], compile=False)
    model.merge_lora()
    np.testing.assert_allclose(model.generate(2, num_steps=2, seed=0), trained["made"], atol=1e-5)
    assert not model.network.adapters and not model.average.network.adapters
    assert len(model.trainable_variables) == trained["trainable"] and not model.average.network.trainable_variables
    model.save_weights(tmp_path / "merged.weights.h5")
    other = kd.DiffusionModel.from_config(trained["model"].get_config())
    other.load_weights(tmp_path / "merged.weights.h5")  # what was saved without adapters: they start anew
    np.testing.assert_allclose(other.generate(2, num_steps=2, seed=0), trained["made"], atol=1e-5)
    assert all(np.abs(a).max() > 0 for a in map(ops.convert_to_numpy, adapter_variables(other.network)[::2]))
    other.remove_lora()
    assert not other.network.adapters and not other.average.network.adapters
    other.save_weights(tmp_path / "plain.weights.h5")
    trained["model"].save_weights(tmp_path / "adapted.weights.h5")
    with pytest.raises(ValueError, match=r"The file has adapters, and this layer has none.*Call enable_lora\(rank=2\)"):
        other.load_weights(tmp_path / "adapted.weights.h5")


def test_mixed_precision():
    network = draw(networks.MLP((8,), width=8, depth=1))
    network.enable_lora(2, target="dense")
    learn(network)
    mixed = networks.MLP.from_config({**network.get_config(), "dtype": "mixed_bfloat16"})
    mixed.set_weights(network.get_weights())
    assert {keras.backend.standardize_dtype(v.dtype) for v in adapter_variables(mixed)} == {"float32"}
    batch = {"x": RNG.normal(size=(4, 8)).astype("float32"), "noise_level": np.linspace(-1, 1, 4).astype("float32")}
    expected = call(network, batch)
    assert 0 < np.abs(call(mixed, batch) - expected).max() < 0.1 * np.abs(expected).max()
    adapted = call(mixed, batch)
    mixed.merge_lora()
    np.testing.assert_allclose(call(mixed, batch), adapted, atol=0.05 * np.abs(adapted).max())  # bfloat16 has 8 bits


def test_networks_of_others_are_refused():
    inputs = {"x": keras.Input((2,), name="x"), "noise_level": keras.Input((), name="noise_level")}
    model = kd.DiffusionModel(keras.Model(inputs, keras.layers.Dense(2)(inputs["x"])), ema=None)
    with pytest.raises(ValueError, match="Adapters are for the networks of this library.*Received: a Functional"):
        model.enable_lora(2)
