"""What all transformers must do; each in a small size that has everything: not square, five channels, labels, context,
dropout.
"""

import keras
import numpy as np
import pytest
from calling import call
from keras import ops

from keras_diffusion import networks
from keras_diffusion.networks import HierarchicalMMDiT, HybridSSMAttentionDiT, SimpleDiT, SimpleMMDiT, SimpleUDiT, UViT
from keras_diffusion.networks.ssm_dit import block_kinds

SMALL = {"patch_size": 2, "emb_features": 8, "num_layers": 2, "num_heads": 2}
STAGES = {"base_patch_size": 1, "emb_features": (4, 8), "num_layers": (1, 1), "num_heads": (1, 2)}
SSM = {"ssm_state_dim": 3, "ssm_attention_ratio": "1:1", "use_2d_fusion": True}
HEAD = {"add_residualblock_output": True, "use_self_and_cross": True, "use_projection": True, "norm_inputs": True}
KINDS = {
    "dit": (SimpleDiT, {**SMALL, "patch_order": "hilbert"}),
    "udit": (SimpleUDiT, {**SMALL, "patch_order": "zigzag"}),
    "uvit": (UViT, {**SMALL, **HEAD}),
    "mmdit": (SimpleMMDiT, SMALL),
    "hierarchical_mmdit": (HierarchicalMMDiT, {**STAGES, "patch_order": "hilbert"}),
    "ssm_dit": (HybridSSMAttentionDiT, {**SMALL, **SSM}),
}


def build(kind, **options):
    return networks.get(
        kind, input_shape=(4, 6, 5), **{"num_classes": 4, "context_dim": 6, **KINDS[kind][1], **options}
    )


def randomize(network, seed=0):
    """The layers that start at 0 hide what comes before them: draws every trainable weight anew."""
    rng = np.random.RandomState(seed)
    for weight in network.trainable_weights:
        weight.assign(rng.normal(size=weight.shape) * 0.3 + (1.0 if weight.name in ("gamma", "scale") else 0.0))
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


@pytest.fixture(scope="module", params=list(KINDS))
def network(request):
    return randomize(build(request.param, dropout=0.3, seed=0))


def test_conditions_and_neighbours(network):
    assert type(network) is KINDS[network.name][0]
    inputs = batch(network)
    outputs = call(network, inputs)
    assert outputs.shape == (3, 4, 6, 5) == (3, *network.output_shape[1:])
    for key in ("x", "noise_level", "labels", "context"):
        other = {**inputs, key: batch(network, seed=1)[key] if key != "labels" else (inputs["labels"] + 1) % 5}
        assert np.abs(call(network, other) - outputs).max(axis=(1, 2, 3)).min() > 1e-4, key
        mixed = {name: np.concatenate([value[:1], other[name][1:]]) for name, value in inputs.items()}
        np.testing.assert_allclose(call(network, mixed)[0], outputs[0], atol=1e-5)
    assert np.abs(call(network, inputs, training=True) - outputs).max() > 1e-3


def test_config_file_and_mixed_precision(network, tmp_path):
    inputs, config = batch(network), network.get_config()
    expected = call(network, inputs)
    network.save(tmp_path / "network.keras")
    loaded = keras.models.load_model(tmp_path / "network.keras")
    assert type(loaded) is type(network) and loaded.get_config() == config
    np.testing.assert_array_equal(call(loaded, inputs), expected)
    assert len({w.path for w in network.weights}) == len(network.weights)
    mixed = type(network).from_config({**config, "dtype": "mixed_bfloat16"})
    mixed.set_weights(network.get_weights())
    values = call(mixed, inputs)
    assert keras.backend.standardize_dtype(values.dtype) == "float32"
    error = np.abs(ops.convert_to_numpy(values) - expected)
    assert 0 < error.max() < 0.1 * np.abs(expected).max()


# One trains on every backend; tests/layers runs the blocks of the others on each.
EVERYWHERE = ("uvit",)


@pytest.mark.parametrize(
    "kind", [kind if kind in EVERYWHERE else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
)
def test_starts_at_zero_and_learns(kind):
    keras.utils.set_random_seed(0)
    network = build(kind, remat=True, dropout=0.1, seed=0)
    inputs = batch(network, 8)
    before = [ops.convert_to_numpy(weight).copy() for weight in network.trainable_weights]
    # TensorFlow would spend its time on compiling with XLA.
    network.compile(keras.optimizers.Adam(0.01), "mse", jit_compile=keras.backend.backend() == "jax")
    losses = network.fit(inputs, inputs["x"], batch_size=8, epochs=6, verbose=0).history["loss"]
    np.testing.assert_allclose(losses[0], np.mean(inputs["x"] ** 2), rtol=1e-5)  # of an output that is 0
    assert losses[-1] < 0.98 * losses[0]
    still = [
        w.path
        for w, old in zip(network.trainable_weights, before, strict=True)
        if np.array_equal(ops.convert_to_numpy(w), old)
    ]
    assert still == []


def test_images_of_any_size():
    network = randomize(networks.get("dit", input_shape=(None, None, 1), context_dim=6, **KINDS["dit"][1]))
    for shape in ((4, 6, 1), (8, 2, 1)):
        assert call(network, batch(network, shape=shape)).shape == (3, *shape)
    with pytest.raises(ValueError, match=r"each axis must be a multiple of \d. Received: size=\(4, 5\)"):
        network(batch(network, shape=(4, 5, 1)))


def test_learned_variance():
    network = randomize(SimpleDiT((4, 6, 2), learn_sigma=True, out_channels=3, **SMALL))
    old = SimpleDiT.from_config({**network.get_config(), "flaxdiff_compatible": True})
    old.set_weights(network.get_weights())
    both = call(network, batch(network))
    assert both.shape == (3, 4, 6, 6)
    np.testing.assert_array_equal(call(old, batch(network)), both[..., :3])


def test_heads_need_not_divide_the_width():
    network = SimpleDiT(
        (4, 4, 1), patch_size=2, emb_features=8, num_layers=1, num_heads=3
    )  # three heads of two channels
    assert network.get_layer("dit_block_0").mixer.query.kernel.shape == (8, 6)


def test_repaired_arithmetic_differs_from_the_old_one():
    for kind, options in (("uvit", {"patch_order": "hilbert"}), ("mmdit", {}), ("hierarchical_mmdit", {})):
        network = randomize(build(kind, num_classes=None, **options))
        old = type(network).from_config({**network.get_config(), "flaxdiff_compatible": True})
        old.set_weights(network.get_weights())
        assert np.abs(call(old, batch(network)) - call(network, batch(network))).max() > 1e-3, kind


def test_block_kinds():
    assert block_kinds(5, "3:1", None) == ["ssm", "ssm", "ssm", "attn", "ssm"]
    assert block_kinds(2, "all-ssm", None) == ["ssm"] * 2 and block_kinds(2, "all-attn", None) == ["attn"] * 2
    assert block_kinds(2, "3:1", ["attn", "ssm"]) == ["attn", "ssm"]


@pytest.mark.parametrize(
    "kind, options, text",
    [
        ("dit", {"input_shape": (8, 5)}, r"SimpleDiT takes images: .* Received: input_shape=\(8, 5\)"),
        ("dit", {"input_shape": (8, 7, 1)}, r"each axis must be a multiple of 2. Received: size=\(8, 7\)"),
        (
            "hierarchical_mmdit",
            {"input_shape": (8, 7, 1)},
            r"each axis must be a multiple of 2. Received: size=\(8, 7\)",
        ),
        ("dit", {"patch_order": "spiral"}, "Unknown patch order: 'spiral'"),
        ("dit", {"time_embedding": "learned"}, "Unknown time embedding: 'learned'"),
        ("dit", {"dropout": 1.0}, r"in \[0, 1\). Received: dropout=1.0"),
        ("dit", {"num_layers": 0}, "`num_layers` must be an integer ≥ 1. Received: num_layers=0"),
        ("udit", {"num_layers": 3}, "`num_layers` must be even. Received: num_layers=3"),
        ("uvit", {"input_shape": (None, 8, 1)}, "without `max_tokens`"),
        ("mmdit", {"context_dim": None}, "SimpleMMDiT needs a context"),
        ("hierarchical_mmdit", {"num_heads": (1, 2, 3)}, r"Each stage has one entry .* num_heads=\(1, 2, 3\)"),
        ("ssm_dit", {"ssm_attention_ratio": "3"}, "`ssm_attention_ratio` is 'a:b'.* Received: '3'"),
        ("ssm_dit", {"block_pattern": ["ssm"]}, r"the kind of each of the 2 blocks, .* Received: \['ssm'\]"),
    ],
)
def test_errors(kind, options, text):
    with pytest.raises(ValueError, match=text):
        networks.get(kind, **{"input_shape": (8, 8, 1), "context_dim": 6, **KINDS[kind][1], **options})


@pytest.mark.slow
def test_float16_differs_by_its_rounding(network):
    inputs, config = batch(network), network.get_config()
    half = type(network).from_config({**config, "dtype": "float16"})
    half.set_weights(network.get_weights())
    values = ops.convert_to_numpy(call(half, inputs)).astype("float32")
    assert np.abs(values - call(network, inputs)).max() < 0.1 * np.abs(values).max()
