"""The attention of every block: queries meet keys, and take from the values.

    out = softmax(q·kᵀ/√d)·v = Σⱼ wⱼ·vⱼ / Σⱼ wⱼ,    wⱼ = exp(q·kⱼ/√d − max)

Keras has a kernel for it on every backend, and JAX on CPUs runs it slowly: the N×M weights of all heads are written to
memory and read again for 1/√d, maximum, exponential, sum and division, at 1024 positions and 16 heads 64 MB each time.
There the sums on the right are computed here. 1/√d is applied to the queries and the division to the result, both much
smaller than the weights; and heads, then queries, are taken in blocks whose weights stay in the cache. Training
computes the weights of a block again on the way back, instead of keeping them all. (Flash attention does both on GPUs:
Dao et al., arXiv:2205.14135.) `benchmarks/attention.py` measures what this saves.
"""

import math

import keras
from keras import ops

from keras_diffusion.layers.attention_recording import record_attention
from keras_diffusion.runtime.hardware import jax_platform

# Weights of a block, 8 MB in float32. A quarter of them takes about as long; twice as many, three times for four heads
# of 1024 positions.
_BLOCK = 2**21
_HIDDEN = -1e30  # the logit of a key that is not seen: finite, as the maximum is subtracted


def dot_product_attention(query, key, value, flash_attention=None, causal=False, name=None, key_mask=None):
    """softmax(q·kᵀ/√d)·v with logits and softmax in float32.

    Args:
        query: `(B, N, heads, d)`.
        key: `(B, M, heads, d)`.
        value: `(B, M, heads, d)`.
        flash_attention: None (default: a fused kernel where Keras finds one), True (fail without one) or False.
        causal: whether position n sees the positions up to n only. Default False.
        name: the path of the layer, for those who look on; see `layers/attention_recording.py`.
        key_mask: booleans `(B, M)`, which keys are seen; at least one of each row. None (default): all of them.

    Returns:
        `(B, N, heads, d)` in the dtype of `query`.

    Raises:
        ValueError: `flash_attention=True` where there is no such kernel.
    """
    record_attention(name, query, key, key_mask)
    dtype = keras.backend.standardize_dtype(query.dtype)
    platform = jax_platform()
    if platform == "cpu" and dtype == "float16":
        # JAX has no product of float16 with float32 sums on CPUs.
        query, key, value = (ops.cast(v, "float32") for v in (query, key, value))
        attended = dot_product_attention(query, key, value, flash_attention, causal, key_mask=key_mask)
        return ops.cast(attended, dtype)
    if platform == "cpu" and not (flash_attention or causal) and dtype != "bfloat16":
        return _blockwise(query, key, value, _BLOCK, key_mask)
    if platform is None and keras.backend.backend() == "tensorflow" and dtype in ("bfloat16", "float16"):
        # Keras rounds q·kᵀ to half precision there before the softmax; JAX's and torch's kernels accumulate in float32.
        query, key, value = (ops.cast(v, "float32") for v in (query, key, value))
    if platform == "tpu":
        # Keras's TPU kernel puts a causal mask wherever no mask is given, and leaves out 1/√d.
        if flash_attention:
            raise ValueError(
                "On TPUs, Keras's flash attention is for causal language models. Received: "
                "flash_attention=True. Use None or False."
            )
        flash_attention = False
    options = {"is_causal": causal, "flash_attention": flash_attention}
    if key_mask is not None:
        # With a row for each query: not every kernel repeats masks by itself.
        shape = (ops.shape(query)[0], 1, ops.shape(query)[1], ops.shape(key)[1])
        options["mask"] = ops.broadcast_to(key_mask[:, None, None, :], shape)
    return ops.cast(ops.dot_product_attention(query, key, value, **options), dtype)


def _blockwise(query, key, value, block, key_mask=None):
    """The sums for `block` weights at a time: one or more heads of the batch, or a part of the queries of one head."""
    # Heads first: they are what blocks are made of. Matrix products want them before the positions.
    query, key, value = (
        ops.transpose(tokens, (2, 0, 1, 3)) for tokens in (query * query.shape[-1] ** -0.5, key, value)
    )
    heads, batch, positions, channels = query.shape
    per_query = batch * key.shape[2]
    at_once = max(h for h in range(1, heads + 1) if heads % h == 0 and (h == 1 or h * positions * per_query <= block))
    parts = math.ceil(positions * per_query / block) if at_once == 1 else 1
    if at_once == heads and parts == 1:
        attended = _weighted_mean(query, key, value, key_mask)
    else:
        weighted_mean = keras.remat(_weighted_mean)
        query, key, value = (ops.reshape(t, (heads // at_once, at_once, *t.shape[1:])) for t in (query, key, value))
        # Queries of zeros fill the last part; what they find is cut off.
        length = math.ceil(positions / parts)
        query = ops.pad(query, [(0, 0)] * 3 + [(0, parts * length - positions), (0, 0)])
        query = ops.reshape(query, (heads // at_once, at_once, batch, parts, length, channels))

        def of_heads(part):
            queries, keys, values = part
            return ops.map(lambda some: weighted_mean(some, keys, values, key_mask), ops.moveaxis(queries, 2, 0))

        attended = ops.moveaxis(ops.map(of_heads, (query, key, value)), 1, 3)  # heads/h, h, B, parts, length, d
        attended = ops.reshape(attended, (heads, batch, parts * length, channels))[:, :, :positions]
    return ops.transpose(attended, (1, 2, 0, 3))


def _weighted_mean(query, key, value, key_mask=None):
    """Σ w·v / Σ w over the last axis but one of `key` and `value`."""
    logits = ops.einsum("...nd,...md->...nm", query, key)  # matmul would have the keys transposed first
    if key_mask is not None:
        logits = ops.where(key_mask[:, None, :], logits, _HIDDEN)
    # Any number may be subtracted, so the gradient need not know that it is the maximum.
    weights = ops.exp(logits - ops.stop_gradient(ops.max(logits, axis=-1, keepdims=True)))
    return ops.matmul(weights, value) / ops.sum(weights, axis=-1, keepdims=True)
