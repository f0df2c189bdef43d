import numpy as np
import pytest
from calling import call
from keras import ops

from keras_diffusion.layers import AttentionBlock


def array(*shape, seed=0):
    return np.random.RandomState(seed).normal(size=shape).astype("float32")


def reference_attention(query, key, value):
    logits = np.einsum("bnhd,bmhd->bhnm", query, key) / np.sqrt(query.shape[-1])
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return np.einsum("bhnm,bmhd->bnhd", weights / weights.sum(-1, keepdims=True), value)


def test_equals_attention_written_out():
    layer = AttentionBlock(num_heads=2, norm_groups=1, zero_init=False)
    x = array(2, 3, 4, 8)
    values = call(layer, x)
    tokens = x.reshape(2, 12, 8)
    mean, variance = tokens.mean((1, 2), keepdims=True), tokens.var((1, 2), keepdims=True)
    qkv = ((tokens - mean) / np.sqrt(variance + 1e-5)) @ ops.convert_to_numpy(layer.qkv.kernel)
    query, key, value = (part.reshape(2, 12, 2, 4) for part in np.split(qkv, 3, axis=-1))
    attended = reference_attention(query, key, value).reshape(2, 12, 8) @ ops.convert_to_numpy(layer.out.kernel)
    np.testing.assert_allclose(values, x + attended.reshape(x.shape), atol=1e-5)  # + x itself, not its normalized copy


@pytest.mark.parametrize("size", [(6,), (4, 6)])
def test_every_position_sees_every_other(size):
    layer = AttentionBlock(num_heads=2, zero_init=False, norm="rms")
    x = array(1, *size, 8)
    changed = x.copy()
    changed[(0,) + (0,) * len(size)] += 1.0
    difference = np.abs(call(layer, x) - call(layer, changed)).max(-1)
    assert difference.shape == (1, *size) and difference.min() > 1e-6


def test_context_changes_the_output_whatever_its_length():
    layer = AttentionBlock(num_heads=2, cross_attention=True, feed_forward=True, zero_init=False)
    x = array(2, 3, 4, 8)
    first, second = call(layer, x, context=array(2, 5, 6)), call(layer, x, context=array(2, 7, 6))
    assert first.shape == x.shape and np.abs(first - second).max() > 0.01


def test_zero_init_starts_as_the_identity():
    x = array(2, 3, 4, 8)
    layer = AttentionBlock(cross_attention=True, feed_forward=True)
    np.testing.assert_array_equal(call(layer, x, context=array(2, 5, 6)), x)


def test_head_dim_sets_the_number_of_heads():
    layer = AttentionBlock(head_dim=2)
    layer(array(1, 4, 8))
    assert (layer.heads, layer.channels_per_head) == (4, 2)


def test_mixed_precision_is_within_rounding_of_float32():
    x = array(2, 3, 4, 8)
    wide = AttentionBlock(num_heads=2, feed_forward=True, zero_init=False)
    half = AttentionBlock(num_heads=2, feed_forward=True, zero_init=False, dtype="mixed_bfloat16")
    expected, _ = call(wide, x), call(half, x)
    half.set_weights(wide.get_weights())
    values = call(half, x)
    assert values.dtype.name == "bfloat16"
    np.testing.assert_allclose(values.astype("float32"), expected, atol=0.05)


def test_config_round_trip():
    layer = AttentionBlock(2, 4, True, True, "rms", 4, 1e-4, "relu", False, False)
    assert AttentionBlock.from_config(layer.get_config()).get_config() == layer.get_config()


@pytest.mark.parametrize(
    "make, text",
    [
        (
            lambda: AttentionBlock(num_heads=3)(array(1, 4, 8)),
            "`num_heads` must divide 8. Received: num_heads=3. Values that work: 1, 2, 4, 8",
        ),
        (lambda: AttentionBlock(head_dim=5)(array(1, 4, 8)), "`head_dim` must divide 8. Received: head_dim=5"),
        (lambda: AttentionBlock(norm="batch"), "Unknown norm: 'batch'"),
        (lambda: AttentionBlock(cross_attention=True)(array(1, 4, 8)), "needs a context .* Received: context=None"),
        (
            lambda: AttentionBlock()(array(1, 4, 8), context=array(1, 2, 3)),
            "Received a context, and cross_attention=False",
        ),
    ],
)
def test_errors(make, text):
    with pytest.raises(ValueError, match=text):
        make()
