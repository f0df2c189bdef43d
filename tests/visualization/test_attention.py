import numpy as np
import pytest
from keras import ops

import keras_diffusion as kd
from keras_diffusion.visualization import attention_maps, attention_overlay


def test_maps_of_a_unet():
    network = kd.networks.UNet((8, 8, 1), widths=(8,), num_res_blocks=1, context_dim=4)
    rng = np.random.default_rng(0)
    inputs = {"x": rng.normal(size=(2, 8, 8, 1)), "noise_level": np.ones(2), "context": rng.normal(size=(2, 5, 4))}
    maps = attention_maps(network, inputs)
    blocks = ("down_0_attention", "middle_attention", "up_0_attention")
    shapes = {name: (2, 4, 64, 64) for name in blocks} | {f"{name}/cross": (2, 4, 64, 5) for name in blocks}
    assert {name: weights.shape for name, weights in maps.items()} == shapes
    for weights in maps.values():
        np.testing.assert_allclose(weights.sum(axis=-1), 1.0, rtol=1e-5)
    assert maps["middle_attention/cross"].std(axis=-1).min() > 1e-4  # it prefers some words
    other = attention_maps(network, {**inputs, "context": inputs["context"][:, ::-1]})["middle_attention/cross"]
    np.testing.assert_allclose(other, maps["middle_attention/cross"][..., ::-1], rtol=2e-3, atol=1e-5)


def test_weights_are_those_that_the_layer_uses():
    layer = kd.layers.AttentionBlock(num_heads=2, cross_attention=True, zero_init=False)
    rng = np.random.default_rng(1)
    x, context = (ops.convert_to_tensor(rng.normal(size=s), "float32") for s in ((1, 2, 3, 8), (1, 5, 4)))
    layer(x, context=context)
    maps = attention_maps(lambda inputs, training: layer(**inputs), {"x": x, "context": context})
    own, cross = maps.values()
    tokens = ops.reshape(x, (1, 6, 8))
    tokens = tokens + layer.out(_mixed(own, layer._split(layer.qkv(layer.norm1(tokens)), 3)[2]))
    tokens = tokens + layer.cross_out(_mixed(cross, layer._split(layer.cross_kv(context), 2)[1]))
    np.testing.assert_allclose(
        ops.convert_to_numpy(ops.reshape(tokens, (1, 2, 3, 8))),
        ops.convert_to_numpy(layer(x, context=context)),
        atol=1e-5,
    )


def _mixed(weights, values):
    mixed = ops.einsum("bhnm,bmhd->bnhd", ops.convert_to_tensor(weights), values)
    return ops.reshape(mixed, (*mixed.shape[:2], -1))


def test_maps_of_a_transformer():
    network = kd.networks.get("dit", input_shape=(8, 8, 3), patch_size=4, emb_features=16, num_layers=2, num_heads=2)
    maps = attention_maps(network, {key: np.ones((1, *v.shape[1:])) for key, v in network.input.items()})
    assert len(maps) == 2 and all(weights.shape == (1, 2, 4, 4) for weights in maps.values())


def test_overlay_darkens_what_is_not_attended():
    image = np.full((8, 8, 3), 200, "uint8")
    weights = np.zeros((2, 16, 2))
    weights[:, 5, 0] = 1.0  # the second row and column of 4×4
    picture = attention_overlay(image, weights, scale=1, pad=0, strength=0.5)
    assert picture.shape == (8, 24, 3)
    word = picture[:, 8:16, 0]
    assert (word[2:4, 2:4] == 200).all() and (word == 100).sum() == 60
    assert (picture[:, :8] == 200).all() and (
        picture[:, 16:] == 200
    ).all()  # the picture itself; a map without contrast
    titled = attention_overlay(image, weights, ["cat", "dog"])
    assert titled.shape[0] > 64 and (titled != attention_overlay(image, weights, ["cat", "dig"])).any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda image: attention_overlay(image[None], np.zeros((4, 1))), r"one picture .* shape=\(1, 8, 6, 1\)"),
        (lambda image: attention_overlay(image, np.zeros(4)), r"of one sample. Received: shape=\(4,\)"),
        (lambda image: attention_overlay(image, np.zeros((5, 1))), r"5 positions for a picture 8×6"),
        (lambda image: attention_overlay(image, np.zeros((12, 1)), ["a", "b"]), r"3 column_titles for 2 columns"),
        (lambda image: attention_maps(kd.networks.MLP((2,), width=4, depth=1), _POINTS), r"must have attention.*mlp"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.zeros((8, 6, 1), "uint8"))


_POINTS = {"x": np.zeros((1, 2)), "noise_level": np.ones(1)}
