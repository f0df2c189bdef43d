"""Padding that is hidden might as well not be there: networks, and the layers in which a context enters."""

import numpy as np
import pytest
from keras import ops

from keras_diffusion import networks
from keras_diffusion.layers import AttentionBlock, PerFrame, SpatialTransformer
from keras_diffusion.layers.dot_product_attention import _blockwise, dot_product_attention

_DIT = {"input_shape": (4, 6, 3), "patch_size": 2, "emb_features": 8, "num_layers": 2, "num_heads": 2}
_UNET = {"widths": (4,), "num_res_blocks": 1, "num_heads": 2}
KINDS = {
    "mlp": {"input_shape": (3,), "width": 8, "depth": 1},
    "dit": _DIT,
    "uvit": {**_DIT, "use_self_and_cross": True, "remat": True},
}
UNETS = {
    "unet": ({"input_shape": (2, 4, 3), "attention": True, **_UNET}, AttentionBlock),
    "unet_2d_condition": ({"input_shape": (2, 4, 3), "attention": [True], **_UNET}, SpatialTransformer),
    "unet_3d": ({"input_shape": (2, 2, 4, 3), "attention": [True], **_UNET}, PerFrame),
}
LAYERS = {
    "attention_block": lambda: AttentionBlock(2, cross_attention=True, zero_init=False),
    "per_frame": lambda: PerFrame(SpatialTransformer(2, 2, name="inner")),
}
CONTEXT = np.random.RandomState(0).normal(size=(2, 5, 6)).astype("float32")
MASK = np.array([[True, True, True, False, False]] * 2)


def make(kind):
    network = networks.get(kind, context_dim=6, **KINDS[kind])
    rng = np.random.RandomState(1)
    for weight in network.trainable_weights:
        weight.assign(rng.normal(size=weight.shape) * 0.3 + (weight.name in ("gamma", "scale")))
    return network


@pytest.mark.parametrize("kind", KINDS)
def test_hidden_padding_is_as_if_it_were_not_there(kind):
    network = make(kind)
    x = np.random.RandomState(2).normal(size=(2, *network.sample_shape)).astype("float32")

    def output(training=False, **conditions):
        inputs = {"x": x, "noise_level": np.array([0.5, 2.0], "float32"), **conditions}
        return ops.convert_to_numpy(network(inputs, training=training))

    short, whole = output(context=CONTEXT[:, :3]), output(context=CONTEXT)
    hidden = output(context=CONTEXT, context_mask=MASK, training=kind == "uvit")  # also where blocks are recomputed
    np.testing.assert_allclose(hidden, short, atol=2e-5 * np.abs(short).max())
    assert np.abs(whole - hidden).max() > 1e-3
    nothing = output(context=CONTEXT, context_mask=np.zeros_like(MASK))
    np.testing.assert_array_equal(nothing, whole, err_msg="a row that hides all shows all")


@pytest.mark.parametrize("kind", LAYERS)
def test_layers_of_unets_hide_padding(kind):
    layer = LAYERS[kind]()
    x = np.random.RandomState(2).normal(size=(2, 2, 2, 4)[: 3 if kind == "attention_block" else 4]).astype("float32")
    x = x[:, None] if kind == "per_frame" else x
    name = "condition" if kind == "per_frame" else "context"
    short = ops.convert_to_numpy(layer(x, **{name: CONTEXT[:, :3]}))
    whole = ops.convert_to_numpy(layer(x, **{name: CONTEXT}))
    hidden = ops.convert_to_numpy(layer(x, **{name: CONTEXT, f"{name}_mask": MASK}))
    np.testing.assert_allclose(hidden, short, atol=1e-5)
    assert np.abs(whole - hidden).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("kind", UNETS)
def test_every_attention_of_a_unet_has_the_mask(kind):
    options, block = UNETS[kind]
    network = networks.get(kind, context_dim=6, **options)
    takes = [node.operation for node in network.get_layer("context")._outbound_nodes]
    hides = [node.operation for node in network.get_layer("context_mask")._outbound_nodes]
    assert takes and takes == hides and all(isinstance(layer, block) for layer in takes)


def test_the_kernel_of_attention_hides_keys_in_every_layout():
    rng = np.random.RandomState(0)
    query, key, value = (rng.normal(size=(2, length, 2, 3)).astype("float32") for length in (7, 5, 5))
    right = dot_product_attention(query, key[:, :3], value[:, :3])
    np.testing.assert_allclose(dot_product_attention(query, key, value, key_mask=MASK), right, atol=1e-6)
    tensors = [ops.convert_to_tensor(array) for array in (query, key, value)]
    for block in (1, 60, 80, 1000):  # a part of the queries of a head, one head, two heads, all at once
        found = _blockwise(*tensors, block, ops.convert_to_tensor(MASK))
        np.testing.assert_allclose(found, right, atol=1e-6, err_msg=f"{block=}")


def test_masks_are_checked():
    network = make("mlp")
    inputs = {"x": np.zeros((2, 3)), "noise_level": np.zeros(2), "context": CONTEXT}
    with pytest.raises(ValueError, match=r"context_mask.shape=\(2, 4\), context.shape=\(2, 5, 6\)"):
        network({**inputs, "context_mask": MASK[:, :4]})
    without = networks.MLP((3,), width=8, depth=1)
    assert network.takes_context_mask and not without.takes_context_mask
    with pytest.raises(ValueError, match="takes a dict with the keys x, noise_level"):
        without({"x": inputs["x"], "noise_level": inputs["noise_level"], "context_mask": MASK})
