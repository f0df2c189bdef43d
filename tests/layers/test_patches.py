import keras
import numpy as np
import pytest
from keras import ops

from keras_diffusion.layers.patch_order import PATCH_ORDERS
from keras_diffusion.layers.patch_pyramid import PatchExpanding, PatchMerging
from keras_diffusion.layers.patches import PatchEmbedding, Unpatchify, to_patches
from keras_diffusion.layers.position import LearnedPosition, sincos_position


def image(shape=(2, 6, 8, 3), seed=0):
    return np.random.RandomState(seed).normal(size=shape).astype("float32")


def array(value):
    return ops.convert_to_numpy(value)


def test_embedding_is_a_convolution_with_its_stride():
    layer = PatchEmbedding(2, 5)
    tokens = array(layer(image()))
    convolution = keras.layers.Conv2D(5, 2, strides=2)
    convolution.build((None, None, None, 3))
    convolution.set_weights([array(layer.projection.kernel).reshape(2, 2, 3, 5), array(layer.projection.bias)])
    np.testing.assert_allclose(tokens, array(convolution(image())).reshape(2, 12, 5), atol=1e-5)


@pytest.mark.parametrize("order", PATCH_ORDERS)
def test_unpatchify_undoes_patches(order):
    x = image()
    layer = PatchEmbedding(2, 12, order=order)
    layer.build(x.shape)
    layer.projection.set_weights([np.eye(12), np.zeros(12)])
    np.testing.assert_allclose(array(Unpatchify(2, 3, order)(layer(x), x)), x, atol=1e-6)


def test_unpatchify_lays_images_side_by_side_and_leaves_out_what_follows():
    first, second = image(), image(seed=1)
    tokens = ops.concatenate([to_patches(first, 2), to_patches(second, 2)], axis=-1)
    tokens = ops.pad(tokens, [[0, 0], [0, 3], [0, 0]])
    np.testing.assert_array_equal(array(Unpatchify(2, 3)(tokens, first)), np.concatenate([first, second], axis=-1))
    np.testing.assert_array_equal(array(Unpatchify(2, 3, first_only=True)(tokens, first)), first)


def test_positions_go_along_with_their_patches():
    plain, told = PatchEmbedding(2, 8, order="hilbert"), PatchEmbedding(2, 8, order="hilbert", sincos_position=True)
    zeros = np.zeros((1, 6, 8, 3))
    difference = array(Unpatchify(1, 8, "hilbert")(told(zeros) - plain(zeros), np.zeros((1, 3, 4, 1))))
    np.testing.assert_allclose(difference[0].reshape(12, 8), sincos_position(3, 4, 8), atol=1e-6)
    # ω = 1, 1/100: row 2, column 3
    expected = [f(v) for v in (2.0, 3.0) for f in (np.sin, np.cos)]
    np.testing.assert_allclose(difference[0, 2, 3, ::2], expected, atol=1e-6)


@pytest.mark.parametrize("order", ["raster", "hilbert"])
def test_merging_and_expanding_keep_neighbours_together(order):
    x = image((1, 8, 12, 1))
    embedding = PatchEmbedding(2, 4, order=order)
    embedding.build(x.shape)
    embedding.projection.set_weights([np.eye(4), np.zeros(4)])
    merge, expand = PatchMerging(16, 2, order), PatchExpanding(4, 2, order)
    tokens = embedding(x)
    for layer, shape in ((merge, (1, 24, 4)), (expand, (1, 6, 16))):
        layer.build(shape, x.shape)
        layer.projection.set_weights([np.eye(16), np.zeros(16)])
    back = array(Unpatchify(2, 1, order)(expand(merge(tokens, x), x), x))
    assert back.shape == x.shape
    # Both layers normalize the sixteen pixels of each 4×4 cell: twice is as good as once.
    cells = x.reshape(2, 4, 3, 4).transpose(0, 2, 1, 3).reshape(6, 16)
    cells = (cells - cells.mean(-1, keepdims=True)) / cells.std(-1, keepdims=True)
    np.testing.assert_allclose(back.reshape(2, 4, 3, 4).transpose(0, 2, 1, 3).reshape(6, 16), cells, atol=1e-3)


@pytest.mark.parametrize(
    "call, text",
    [
        (lambda: PatchEmbedding(4, 8)(image()), r"each axis must be a multiple of 4. Received: size=\(6, 8\)"),
        (
            lambda: PatchMerging(8, 2)(np.zeros((1, 12, 4)), image()),
            r"each axis must be a multiple of 4. Received: size=\(6, 8\)",
        ),
        (lambda: PatchEmbedding(2, 6, sincos_position=True)(image()), "multiple of 4 channels. Received: 6"),
        (lambda: LearnedPosition(3)(np.zeros((1, 4, 2))), "The table of positions has 3 rows, .* Received: 4 tokens"),
    ],
)
def test_errors(call, text):
    with pytest.raises(ValueError, match=text):
        call()
