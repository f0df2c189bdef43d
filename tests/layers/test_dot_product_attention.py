import keras
import numpy as np
import pytest
from keras import ops

from keras_diffusion.core.autodiff import pullback
from keras_diffusion.layers import dot_product_attention as module
from keras_diffusion.layers.dot_product_attention import dot_product_attention


def heads(batch, positions, heads, channels, seed=0):
    return np.random.default_rng(seed).normal(size=(batch, positions, heads, channels)).astype("float32")


def exact(query, key, value, causal=False):
    logits = np.einsum("bnhd,bmhd->bhnm", query, key) / np.sqrt(query.shape[-1])
    if causal:
        logits = np.where(np.tril(np.ones(logits.shape[-2:], bool)), logits, -np.inf)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return np.einsum("bhnm,bmhd->bnhd", weights / weights.sum(-1, keepdims=True), value)


@pytest.mark.parametrize("causal", [False, True])
def test_is_its_formula(causal):
    query, key, value = heads(2, 7, 3, 4), heads(2, 7, 3, 4, 1), heads(2, 7, 3, 4, 2)
    attended = dot_product_attention(*map(ops.convert_to_tensor, (query, key, value)), causal=causal)
    np.testing.assert_allclose(ops.convert_to_numpy(attended), exact(query, key, value, causal), atol=1e-6)


# 2·23·9 weights a head: all at once, three heads, one head, a third of its queries (7.67, so that the last part is
# filled up), one query.
@pytest.mark.slow  # only JAX goes this way
@pytest.mark.parametrize("block", [10_000, 1300, 420, 138, 1])
def test_blocks_do_not_change_the_result_nor_the_gradient(block):
    query, key, value = (ops.convert_to_tensor(heads(2, n, 6, 4, i)) for i, n in enumerate((23, 9, 9)))
    expected = exact(*map(ops.convert_to_numpy, (query, key, value)))
    np.testing.assert_allclose(ops.convert_to_numpy(module._blockwise(query, key, value, block)), expected, atol=1e-6)

    def gradient(function):
        y, _, vjp = pullback(lambda keys: (function(query, keys, value), None), key)
        return ops.convert_to_numpy(vjp(y))

    blockwise = gradient(lambda *qkv: module._blockwise(*qkv, block))
    np.testing.assert_allclose(blockwise, gradient(ops.dot_product_attention), atol=1e-5)


def test_large_logits_do_not_overflow():
    query = 100 * heads(1, 5, 1, 4)
    attended = ops.convert_to_numpy(dot_product_attention(*[ops.convert_to_tensor(query)] * 3))
    np.testing.assert_allclose(attended, exact(query.astype("float64"), query, query), rtol=1e-5)


@pytest.mark.slow
def test_weights_of_all_heads_are_never_held_at_once():
    import jax

    def peak(positions):
        tensor = jax.ShapeDtypeStruct((1, positions, 8, 8), "float32")
        gradient = jax.jit(jax.grad(lambda x: dot_product_attention(x, x, x).sum()))
        return gradient.lower(tensor).compile().memory_analysis().temp_size_in_bytes

    # Eight heads of 4096² weights are 512 MB, and of 2048² they are 128 MB.
    assert peak(4096) < 100e6 and peak(4096) < 2.5 * peak(2048)


def test_softmax_is_float32_under_mixed_precision():
    # Logits around ±100: rounded to bfloat16 they are off by up to 0.25, and the weights by a quarter.
    query, key, value = (ops.cast(8.0 * heads(1, 16, 1, 4, i), "bfloat16") for i in range(3))
    attended = dot_product_attention(query, key, value)
    assert keras.backend.standardize_dtype(attended.dtype) == "bfloat16"
    expected = exact(*(ops.convert_to_numpy(ops.cast(v, "float32")).astype("float64") for v in (query, key, value)))
    assert np.abs(ops.convert_to_numpy(ops.cast(attended, "float32")) - expected).max() < 2**-7 * np.abs(expected).max()


@pytest.mark.parametrize("causal", [False, True])
def test_float16_runs_everywhere(causal):
    query, key, value = (ops.cast(heads(1, 6, 2, 4, i), "float16") for i in range(3))
    attended = dot_product_attention(query, key, value, causal=causal)
    assert keras.backend.standardize_dtype(attended.dtype) == "float16"
    wide = dot_product_attention(*(ops.cast(v, "float32") for v in (query, key, value)), causal=causal)
    np.testing.assert_allclose(ops.convert_to_numpy(attended).astype("float32"), ops.convert_to_numpy(wide), atol=5e-3)


def test_flash_attention_is_off_on_tpus(monkeypatch):
    monkeypatch.setattr(module, "jax_platform", lambda: "tpu")
    seen = []
    monkeypatch.setattr(
        module.ops, "dot_product_attention", lambda q, k, v, **options: seen.append(options["flash_attention"]) or q
    )
    tensor = ops.ones((1, 2, 1, 4))
    dot_product_attention(tensor, tensor, tensor)
    assert seen == [False]
    with pytest.raises(ValueError, match=r"Received: flash_attention=True\. Use None or False"):
        dot_product_attention(tensor, tensor, tensor, flash_attention=True)
