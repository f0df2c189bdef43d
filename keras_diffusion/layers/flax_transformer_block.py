"""The attention block of FlaxDiff's U-Nets, in all the forms it has had.

    y = norm(x)                    with `norm_inputs`, else x
    h = W·y                        with `use_projection`, else y
    h ← h + attention(norm₁ h)               where `use_self_and_cross`
    h ← h + attention(norm₂ h, context)      where there is a context
    h ← h + W₂·(a·gelu(b)), (a, b) = W₁·norm₃ h
    h ← W'·h                       with `use_projection`
    out = h, or x + h              with `explicitly_add_residual`

    only_pure_attention:  h ← attention(h) or attention(h, context) in place of the three steps, and out = x + h

The defaults are the plain block that adds to x itself. `residual="normalized"` adds to y in its place: FlaxDiff does so
since September 2024, and cuts the identity path through its U-Nets with it.

`attention_over` says who sees whom. Before August 2024 only the positions of a row, or of a column, saw each other; and
where a text came in, it was padded with zeros to the image's width and token w was the only key of column w, so that
softmax had nothing to choose:

    "all"            softmax(q·kᵀ/√d)·v over all positions, or over all tokens of the context
    "rows"           over the positions of one row
    "columns"        over the positions of one column
    "text_columns"   v of token w at every position of column w, 0 after the text's end; without queries and keys
"""

from keras import ops

from keras_diffusion.configs.checks import check_choice
from keras_diffusion.configs.registry import serializable
from keras_diffusion.layers.activations import gelu_tanh
from keras_diffusion.layers.dot_product_attention import dot_product_attention
from keras_diffusion.layers.layer import Layer, built, check_context
from keras_diffusion.layers.options import check_dropout, unbuilt_dense
from keras_diffusion.layers.rms_normalization import RMSNormalization

ATTENTION_OVER = ("all", "rows", "columns", "text_columns")
RESIDUALS = ("raw", "normalized")


@serializable
class FlaxTransformerBlock(Layer):
    """Self-attention, cross-attention and a gated feed-forward step on an image, or one attention alone.

    Args:
        num_heads: number of heads. Default 4.
        head_dim: channels per head; None (default) for the channels divided by `num_heads`, rounded down.
        cross_attention: whether the block takes a `context`. Default False.
        use_self_and_cross: whether there is self-attention beside the cross-attention; without a context it must be.
            Default True.
        only_pure_attention: one attention, to the context if there is one, and no inner normalization or feed-forward.
            Default False.
        use_projection: whether a dense layer leads in and one out. Default False.
        norm_inputs: whether the input is normalized once more before everything. Default False.
        explicitly_add_residual: whether the input is added once more at the end. Default False.
        residual: what is added at the end: "raw" (default), the input, or "normalized", its normalized copy.
        attention_over: "all" (default), "rows", "columns" or "text_columns"; all but the first are for images and
            `only_pure_attention`.
        norm_epsilon: of all normalizations (by the root mean square). Default 1e-5.
        flash_attention: None (default: use a fused kernel where Keras finds one), True (fail without one), or False.
        zero_init: whether the last layer of every branch starts at 0. Default True.
        dropout: share of each attention's and feed-forward's output that training sets to 0, in [0, 1). Default 0.
        seed: int or None; of dropout.
        remat: whether training computes the block again on the way back. Default False.

    Call arguments:
        x: `(B, L, C)` or `(B, H, W, C)`.
        context: `(B, M, D)`, with `cross_attention` only.
        training: whether dropout drops.

    Returns:
        shaped like `x`.

    Raises:
        ValueError: unknown option; more heads than channels; nothing to attend to; a context missing or not expected.

    Example:

    >>> FlaxTransformerBlock(num_heads=2)(keras.ops.ones((8, 4, 6, 32))).shape
    (8, 4, 6, 32)
    """

    def __init__(
        self,
        num_heads=4,
        head_dim=None,
        cross_attention=False,
        use_self_and_cross=True,
        only_pure_attention=False,
        use_projection=False,
        norm_inputs=False,
        explicitly_add_residual=False,
        residual="raw",
        attention_over="all",
        norm_epsilon=1e-5,
        flash_attention=None,
        zero_init=True,
        dropout=0.0,
        seed=None,
        remat=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        for name, value, known in (
            ("residual", residual, RESIDUALS),
            ("attention_over", attention_over, ATTENTION_OVER),
        ):
            check_choice(name, value, known, f"`{name}` must be one of {', '.join(map(repr, known))}")
        if attention_over != "all" and (
            not only_pure_attention or cross_attention != (attention_over == "text_columns")
        ):
            raise ValueError(
                "Rows and columns are for only_pure_attention=True, 'text_columns' with a context and the others "
                "without. Received: "
                f"attention_over={attention_over!r}, only_pure_attention={only_pure_attention}, "
                f"cross_attention={cross_attention}"
            )
        if not (cross_attention or use_self_and_cross):
            raise ValueError(
                "A block must have something to attend to. Received: cross_attention=False, use_self_and_cross=False. "
                "Pass use_self_and_cross=True, or a context"
            )
        check_dropout(dropout)
        self.seed_generator = self._dropout_generator()

    def build(self, x_shape, context_shape=None):
        check_context(self, context_shape)
        channels = x_shape[-1]
        head_dim = self.head_dim
        if head_dim is None:
            if not isinstance(self.num_heads, int) or not 1 <= self.num_heads <= channels:
                raise ValueError(
                    f"`num_heads` must be an integer from 1 to the {channels} channels. Received: "
                    f"num_heads={self.num_heads!r}"
                )
            head_dim = channels // self.num_heads
        inner = self.num_heads * head_dim if self.use_projection else channels
        context_dim = context_shape[-1] if self.cross_attention else inner

        last = {"kernel_initializer": "zeros" if self.zero_init else "glorot_uniform"}

        def attention(name, key_dim):
            options = {"name": name, "dtype": self.dtype_policy, **last}
            layer = _Attention(self.num_heads, head_dim, inner, self.attention_over, self.flash_attention, **options)
            return built(layer, (None, None, inner), (None, None, key_dim))

        self.norm_in = self._norm("norm_in", channels) if self.norm_inputs else None
        self.project_in = self._projection(inner, channels, "project_in")
        self.attention1 = self.attention2 = self.norm1 = self.norm2 = None
        if self.use_self_and_cross and not (self.only_pure_attention and self.cross_attention):
            self.norm1 = None if self.only_pure_attention else self._norm("norm1", inner)
            self.attention1 = attention("attention1", inner)
        if self.cross_attention:
            self.norm2 = None if self.only_pure_attention else self._norm("norm2", inner)
            self.attention2 = attention("attention2", context_dim)
        if not self.only_pure_attention:
            self.norm3 = self._norm("norm3", inner)
            self.feed_forward1 = self._dense(8 * inner, inner, "feed_forward1")
            self.feed_forward2 = self._dense(inner, 4 * inner, "feed_forward2", **last)
        self.project_out = self._projection(channels, inner, "project_out", **last)

    def call(self, x, context=None, training=False):
        check_context(self, context)
        tensors = [x] if context is None else [x, context]
        run = self._run if context is not None else lambda x, *masks: self._run(x, None, *masks)
        channels = x.shape[-1] if self.project_in is None else self.project_in.units
        branches = 1 if self.only_pure_attention else 1 + (self.attention1 is not None) + (self.attention2 is not None)
        masks = self._dropout_masks(branches, (*ops.shape(x)[:-1], channels), training)
        return self._recomputed(run, training)(*tensors, *masks)

    def _run(self, x, context, *masks):
        masks = list(masks)

        def dropped(branch):
            return branch * masks.pop(0) if masks else branch

        y = x if self.norm_in is None else self.norm_in(x)
        h = y if self.project_in is None else self.project_in(y)
        if self.only_pure_attention:
            h = dropped(self.attention1(h, h) if self.attention2 is None else self.attention2(h, context))
        else:
            if self.attention1 is not None:
                normalized = self.norm1(h)
                h = h + dropped(self.attention1(normalized, normalized))
            if self.attention2 is not None:
                h = h + dropped(self.attention2(self.norm2(h), context))
            linear, gate = ops.split(self.feed_forward1(self.norm3(h)), 2, axis=-1)
            h = h + dropped(self.feed_forward2(linear * gelu_tanh(gate)))
        h = h if self.project_out is None else self.project_out(h)
        if not (self.only_pure_attention or self.explicitly_add_residual):
            return h
        return (x if self.residual == "raw" else y) + h

    def _projection(self, units, inputs, name, **options):
        return self._dense(units, inputs, name, use_bias=False, **options) if self.use_projection else None

    def _norm(self, name, channels):
        norm = RMSNormalization(epsilon=self.norm_epsilon, name=name, dtype=self.dtype_policy)
        return built(norm, (None, None, channels))


class _Attention(Layer):
    """Attention of an image or a sequence to itself or a context, without biases."""

    def __init__(self, num_heads, head_dim, units, over, flash_attention, kernel_initializer, **kwargs):
        super().__init__(**kwargs)
        inner = num_heads * head_dim
        options = {"use_bias": False, "dtype": self.dtype_policy}
        self.to_q = self.to_k = None
        if over != "text_columns":
            self.to_q = unbuilt_dense(inner, name="to_q", **options)
            self.to_k = unbuilt_dense(inner, name="to_k", **options)
        self.to_v = unbuilt_dense(inner, name="to_v", **options)
        self.to_out = unbuilt_dense(units, kernel_initializer=kernel_initializer, name="to_out", **options)

    def build(self, x_shape, keys_shape):
        for layer, shape in ((self.to_q, x_shape), (self.to_k, keys_shape), (self.to_v, keys_shape)):
            if layer is not None:
                layer.build(shape)
        self.to_out.build((None, None, self.num_heads * self.head_dim))

    def call(self, x, keys):
        if self.over == "text_columns":
            return self._text_columns(x, self.to_out(self.to_v(keys)))
        query, key, value = self.to_q(x), self.to_k(keys), self.to_v(keys)
        if self.over == "columns":
            query, key, value = (ops.swapaxes(part, 1, 2) for part in (query, key, value))
        shape = ops.shape(query)
        query, key, value = (self._heads(part) for part in (query, key, value))
        attended = dot_product_attention(query, key, value, self.flash_attention, name=self.path)
        attended = ops.reshape(attended, shape)
        return self.to_out(ops.swapaxes(attended, 1, 2) if self.over == "columns" else attended)

    def attention_projections(self):
        """Dict of the dense layers that make queries, keys, values and the output; see `lora.network`."""
        names = ("to_q", "to_k", "to_v", "to_out")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def _heads(self, x):
        """`(…, C)` as `(sequences, positions, heads, d)`."""
        batch, width = ops.shape(x)[0], ops.shape(x)[-2]
        lead = (batch, -1) if self.over == "all" else (-1, width)
        return ops.reshape(x, (*lead, self.num_heads, self.head_dim))

    def _text_columns(self, x, tokens):
        """Token w in column w: `(B, 1, W, C)`, which adds to `(B, H, W, C)`."""
        columns = ops.arange(ops.shape(x)[2])
        length = ops.shape(tokens)[1]
        present = ops.cast(columns < length, tokens.dtype)
        return (ops.take(tokens, ops.minimum(columns, length - 1), axis=1) * present[:, None])[:, None]
