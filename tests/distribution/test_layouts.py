import re

import keras
import numpy as np
import pytest

from keras_diffusion import networks
from keras_diffusion.data import Batches
from keras_diffusion.distribution import SplitWeights, layout_map, local_rows, parse, share, split_axis
from keras_diffusion.distribution.layouts import RULES

TOKENS = {"patch_size": 2, "emb_features": 8, "num_layers": 1, "num_heads": 2, "num_classes": 3, "context_dim": 8}
LEVELS = {"widths": (8, 16), "num_res_blocks": 1}
FAMILIES = {
    "dit": {"input_shape": (4, 4, 1), **TOKENS},
    "mmdit": {"input_shape": (4, 4, 1), **TOKENS},
    "uvit": {"input_shape": (4, 4, 1), **TOKENS, "num_layers": 2},
    "udit": {"input_shape": (4, 4, 1), **TOKENS, "num_layers": 2},
    "dit_transformer_2d": {"input_shape": (4, 4, 4), "depth": 1, "num_heads": 2, "head_dim": 8, "num_classes": 3},
    "unet": {"input_shape": (8, 8, 3), **LEVELS, "context_dim": 8, "feed_forward": True},
    "flax_unet": {"input_shape": (8, 8, 3), **LEVELS, "context_dim": 8, "embedding_dim": 16},
    "unet_2d_condition": {
        "input_shape": (8, 8, 4),
        "widths": (32, 64),
        "num_res_blocks": 1,
        "context_dim": 8,
        "num_heads": 2,
    },
}
CONVOLUTIONAL = ("unet", "flax_unet", "unet_2d_condition")


@pytest.fixture(scope="module", params=FAMILIES)
def network(request):
    return request.param, networks.NETWORKS.get({"name": request.param, **FAMILIES[request.param]})


def mesh(shape=(1, 2), names=("batch", "model")):
    return keras.distribution.DeviceMesh(shape, names, np.array([f"cpu:{i}" for i in range(int(np.prod(shape)))]))


def test_every_rule_matches_real_layers(network):
    """Names in networks and patterns here belong together: a layer renamed would silently be copied to every device."""
    name, network = network
    layers = {variable.path.rpartition("/")[0] for variable in network.weights}
    matched = {rule: {layer for layer in layers if pattern.fullmatch(layer)} for rule, pattern in RULES.items()}
    assert matched["columns"] and matched["rows"]
    assert bool(matched["convolutions"]) == (name in CONVOLUTIONAL)
    assert not matched["columns"] & matched["rows"] and not matched["convolutions"] & (
        matched["columns"] | matched["rows"]
    )
    assert len(matched["rows"]) <= len(matched["columns"]), "a split by rows takes what a split by columns made"


def test_attention_and_feed_forward_are_split(network):
    _, network = network
    for variable in network.weights:
        layer, _, kind = variable.path.rpartition("/")
        if kind != "kernel" or not re.search("attention|mlp|feed_forward", layer):
            continue
        axis = split_axis(variable.path, variable.shape, 2)
        if re.search(r"(out|mlp2|feed_forward2)$", layer):
            assert axis == 0, variable.path
        elif re.search(r"(q|k|v|kv|qkv|query|key|value|mlp1|feed_forward1)$", layer):
            assert axis == 1, variable.path


def test_most_of_the_weights_are_split(network):
    _, network = network
    split = sum(np.prod(v.shape) for v in network.weights if split_axis(v.path, v.shape, 2) is not None)
    assert split > 0.35 * network.count_params()


def test_what_does_not_divide_is_copied():
    assert split_axis("conv_in/kernel", (3, 3, 3, 8), 2) == 3
    assert split_axis("conv_in/kernel", (3, 3, 3, 9), 2) is None
    assert split_axis("conv_out/kernel", (3, 3, 8, 4), 2) is None, "the last layer stays whole"
    assert split_axis("middle_attention/out/bias", (8,), 2) is None, "added once, after the sum over devices"
    assert split_axis("middle_attention/qkv/bias", (24,), 2) == 0
    assert split_axis("middle_attention/norm1/gamma", (8,), 2) is None


def test_layout_map_is_what_split_weights_does(network):
    _, network = network
    layouts, rules = layout_map(network, mesh()), SplitWeights(mesh())
    for variable in network.weights:
        written = layouts[variable.path]
        expected = (None,) * len(variable.shape) if written is None else written.axes
        assert rules.get_variable_layout(variable).axes == expected, variable.path
    assert len(layouts) > 4


def test_a_network_without_such_layers_is_an_error():
    with pytest.raises(ValueError, match="Nothing of this network can be split over 2 devices.*Received: MLP"):
        layout_map(networks.MLP((2,), width=8, depth=1), mesh())


def test_a_mesh_needs_the_axis():
    with pytest.raises(ValueError, match="needs an axis 'model'.*Received: axes"):
        SplitWeights(mesh((2,), ("batch",)))


@pytest.mark.parametrize(
    "specification, expected",
    [
        ("data=8", (8, 1)),
        ("data", (8, 1)),
        ("data=4,model=2", (4, 2)),
        ("data, model=2", (4, 2)),
        ("model=8", (1, 8)),
        ("data=2", (2, 1)),
    ],
)
def test_specifications(specification, expected):
    assert parse(specification, 8) == expected


@pytest.mark.parametrize(
    "specification", ["", "data=0", "data=x", "gpus=8", "data=4,data=2", "data,model", "data=8,model=2", "model=3"]
)
def test_specifications_that_are_not_understood(specification):
    with pytest.raises(ValueError, match="Received: "):
        parse(specification, 8)


def test_one_process_reads_all_rows():
    batches = share(Batches(np.zeros((8, 2), "float32"), 4, value_range=None))
    assert batches.rows is None and local_rows(4).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("augmented", [False, True])
def test_processes_read_the_parts_of_one_batch(augmented):
    """Flips and augmentations are drawn for the batch, whoever reads it."""
    rng = np.random.default_rng(0)
    data = {"images": rng.uniform(-1, 1, (12, 4, 4, 1)).astype("float32"), "labels": np.arange(12)}
    augment = (
        (lambda images, rng: np.clip(images + 0.1 * rng.standard_normal(images.shape), -1, 1)) if augmented else None
    )
    whole, first, second = (Batches(data, 6, seed=1, horizontal_flip=True, augment=augment) for _ in range(3))
    first.rows, second.rows = np.array([0, 1, 2]), np.array([3, 4, 5])
    for index in range(2):
        for key in ("images", "labels"):
            parts = np.concatenate([first[index][key], second[index][key]])
            np.testing.assert_array_equal(parts, whole[index][key])
