"""Who sees whom in each form of the block, and what is added to what."""

import keras
import numpy as np
import pytest
from calling import call
from keras import ops

from keras_diffusion.layers import FlaxTransformerBlock, ResidualBlock

X = np.random.RandomState(0).normal(size=(2, 3, 4, 6)).astype("float32")
TEXT = np.random.RandomState(1).normal(size=(2, 3, 5)).astype("float32")


def run(block, x=X, context=None, training=False):
    return call(block, x, training=training) if context is None else call(block, x, context, training=training)


def block_of(**options):
    keras.utils.set_random_seed(0)
    return FlaxTransformerBlock(**{"num_heads": 2, "zero_init": False, **options})


def reach(block, context=None):
    """Positions of sample 0 that change when the position (1, 2) does."""
    changed = X.copy()
    changed[0, 1, 2] += 1.0
    difference = np.abs(run(block, changed, context) - run(block, X, context)).max(axis=-1)
    assert difference[1].max() == 0
    return difference[0] > 1e-5


@pytest.mark.parametrize(
    "over, expected",
    [
        ("all", np.ones((3, 4), bool)),
        ("rows", np.arange(3)[:, None] == [1] * 4),
        ("columns", np.arange(4)[None] == [[2]] * 3),
    ],
)
def test_attention_over(over, expected):
    np.testing.assert_array_equal(reach(block_of(attention_over=over, only_pure_attention=True)), expected)


def test_text_columns():
    """Token w is at every row of column w; the text of three tokens leaves the fourth column alone."""
    block = block_of(attention_over="text_columns", only_pure_attention=True, cross_attention=True)
    values = run(block, X, TEXT)
    projected = ops.convert_to_numpy(block.attention2.to_out(block.attention2.to_v(TEXT)))
    np.testing.assert_allclose(values[:, :, :3] - X[:, :, :3], np.repeat(projected[:, None], 3, axis=1), atol=1e-5)
    np.testing.assert_array_equal(values[:, :, 3], X[:, :, 3])
    longer = run(block, X, np.concatenate([TEXT, TEXT, TEXT], axis=1))
    assert np.isfinite(longer).all()
    np.testing.assert_allclose(longer[:, :, :3], values[:, :, :3], atol=1e-6)


def test_residual_is_the_input_or_its_normalized_copy():
    options = {"only_pure_attention": True, "norm_inputs": True, "zero_init": True}
    np.testing.assert_array_equal(run(block_of(**options)), X)
    normalized = X / np.sqrt((X**2).mean(axis=-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(run(block_of(**options, residual="normalized")), normalized, rtol=1e-5)


def test_steps_of_the_full_block():
    block = block_of(cross_attention=True, use_projection=True, norm_inputs=True, explicitly_add_residual=True)
    names = (
        "norm_in",
        "project_in",
        "norm1",
        "attention1",
        "norm2",
        "attention2",
        "norm3",
        "feed_forward1",
        "feed_forward2",
        "project_out",
    )
    values = run(block, X, TEXT)
    y = block.norm_in(X)
    h = block.project_in(y)
    h = h + block.attention1(block.norm1(h), block.norm1(h))
    h = h + block.attention2(block.norm2(h), ops.convert_to_tensor(TEXT))
    inner = ops.convert_to_numpy(block.feed_forward1(block.norm3(h)))
    linear, gate = inner[..., :24], inner[..., 24:]
    gelu = 0.5 * gate * (1 + np.tanh(np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3)))
    h = h + block.feed_forward2(ops.convert_to_tensor(linear * gelu))
    np.testing.assert_allclose(values, X + ops.convert_to_numpy(block.project_out(h)), atol=1e-5)
    assert all(getattr(block, name) is not None for name in names)
    assert reach(block, TEXT).all()


def test_sequences_and_flat_images_agree():
    block = block_of()
    np.testing.assert_allclose(run(block).reshape(2, 12, 6), run(block, X.reshape(2, 12, 6)), atol=1e-5)


def test_dropout_and_remat():
    block = block_of(dropout=0.5, seed=1, cross_attention=True, remat=True)
    still = run(block, X, TEXT)
    np.testing.assert_array_equal(run(block, X, TEXT), still)
    assert np.abs(run(block, X, TEXT, training=True) - still).max() > 1e-3
    plain = block_of(cross_attention=True)
    plain.build(X.shape, TEXT.shape)
    plain.set_weights(block.get_weights()[: len(plain.get_weights())])
    np.testing.assert_allclose(run(plain, X, TEXT), still, atol=1e-6)


@pytest.mark.parametrize("kind", ["attention", "residual"])
def test_rematerialization_changes_no_gradient(kind):
    if keras.backend.backend() != "jax":
        pytest.skip("training with it is tested on all backends; gradients are compared where they are easy to get")
    import jax

    def gradients(remat):
        layer = (
            block_of(remat=remat)
            if kind == "attention"
            else ResidualBlock(6, norm_groups=2, zero_init=False, remat=remat)
        )
        inputs = (X,) if kind == "attention" else (X, TEXT[:, 0])
        layer.build(*(x.shape for x in inputs))
        rng = np.random.RandomState(2)
        values = [rng.normal(size=v.shape).astype("float32") for v in layer.trainable_variables]
        return jax.jit(jax.grad(lambda v: (layer.stateless_call(v, [], *inputs, training=True)[0] ** 2).sum()))(values)

    for plain, again in zip(gradients(False), gradients(True), strict=True):
        np.testing.assert_allclose(again, plain, rtol=1e-4, atol=1e-4 * np.abs(plain).max())


def test_config_round_trip():
    block = block_of(only_pure_attention=True, attention_over="rows", norm_epsilon=1e-3, dropout=0.1)
    assert FlaxTransformerBlock.from_config(block.get_config()).get_config() == block.get_config()


@pytest.mark.parametrize(
    "options, text",
    [
        ({"residual": "none"}, "`residual` must be one of 'raw', 'normalized'. Received: residual='none'"),
        ({"attention_over": "rows"}, "Rows and columns are for only_pure_attention=True"),
        ({"attention_over": "text_columns", "only_pure_attention": True}, "'text_columns' with a context"),
        ({"use_self_and_cross": False}, "must have something to attend to"),
        ({"dropout": 1.0}, "Received: dropout=1.0"),
    ],
)
def test_block_errors(options, text):
    with pytest.raises(ValueError, match=text):
        FlaxTransformerBlock(**options)


def test_call_errors():
    with pytest.raises(ValueError, match="must be an integer from 1 to the 6 channels. Received: num_heads=7"):
        FlaxTransformerBlock(num_heads=7)(X)
    with pytest.raises(ValueError, match="needs a context"):
        FlaxTransformerBlock(num_heads=2, cross_attention=True)(X)
    with pytest.raises(ValueError, match="Received a context, and cross_attention=False"):
        FlaxTransformerBlock(num_heads=2)(X, TEXT)
