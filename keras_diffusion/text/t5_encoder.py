"""T5's encoder: tokens to the context that steers PixArt, Stable Diffusion 3, Flux and other models.

    h = E[token]
    h ← T5Block(h, b) × depth              b: of the distance between two tokens, the same in all blocks; padding: −∞
    context = norm(h)

                      width  depth  heads  head_dim  hidden_dim
    T5 1.1 small        512      8      6        64        1024
    T5 1.1 base         768     12     12        64        2048
    T5 1.1 large       1024     24     16        64        2816
    T5 1.1 xl          2048     24     32        64        5120
    T5 1.1 xxl         4096     24     64        64       10240

References: Raffel et al., arXiv:1910.10683; gates: Shazeer, "GLU variants improve transformer", arXiv:2002.05202.
"""

from keras import ops

from keras_diffusion.configs.checks import check_whole
from keras_diffusion.configs.registry import serializable
from keras_diffusion.layers.options import embedding_table, get_activation
from keras_diffusion.layers.rms_normalization import RMSNormalization
from keras_diffusion.networks.network import wide_dtype
from keras_diffusion.text.t5_block import T5Block, distance_buckets
from keras_diffusion.text.text_encoder import TextEncoder

_HIDDEN = -1e30  # finite: a row in which all is hidden stays a number


@serializable
class T5Encoder(TextEncoder):
    """The encoder of T5. The defaults are those of T5 1.1 small. `checkpoints.load(folder).network` reads weights of
    `transformers`.

    Args:
        vocabulary_size: number of tokens. Default 32128.
        width: channels. Default 512.
        depth: number of blocks. Default 8.
        num_heads: heads per block. Default 6.
        head_dim: channels per head. Default 64.
        hidden_dim: channels within the feed-forward steps. Default 1024.
        num_buckets: kinds of distances between tokens, even and ≥ 4. Default 32.
        max_distance: from here on distances are alike. Default 128.
        gated: whether feed-forward steps are gated (T5 1.1), or not (T5). Default True.
        activation: of the feed-forward steps. Default "gelu_tanh"; T5 has "relu".
        norm_epsilon: of the norms. Default 1e-6.
        pad_token: the token that fills texts up, which nothing sees. Default 0.
        max_length: greatest number of tokens in a text, or None (default) for any: memory grows with its square.

    Call arguments:
        tokens: integers `(B, L)`, ending with T5's end token 1 and filled up with `pad_token`.

    Returns:
        `(B, L, width)`, float32 under mixed precision.

    Raises:
        ValueError: sizes < 1; an odd number of buckets, or a `max_distance` within those that are told apart exactly;
            an unknown activation; more tokens than `max_length`.

    Example:

    >>> encoder = T5Encoder(vocabulary_size=100, width=32, depth=2, num_heads=2, head_dim=8, hidden_dim=48)
    >>> tokens = keras.ops.array([[5, 7, 1, 0], [9, 1, 0, 0]])
    >>> encoder(tokens).shape
    (2, 4, 32)
    >>> encoder.token_mask(tokens)
    Array([[ True,  True,  True, False],
           [ True,  True, False, False]], dtype=bool)
    """

    def __init__(
        self,
        vocabulary_size=32128,
        width=512,
        depth=8,
        num_heads=6,
        head_dim=64,
        hidden_dim=1024,
        num_buckets=32,
        max_distance=128,
        gated=True,
        activation="gelu_tanh",
        norm_epsilon=1e-6,
        pad_token=0,
        max_length=None,
        name="t5_encoder",
        trainable=True,
        dtype=None,
    ):
        super().__init__(name=name, trainable=trainable, dtype=dtype)
        for size in ("vocabulary_size", "width", "num_heads", "head_dim", "hidden_dim"):
            check_whole(size, getattr(self, size), 1)
        check_whole("depth", depth, 0)
        if num_buckets < 4 or num_buckets % 2 or max_distance <= num_buckets // 4:
            raise ValueError(
                "Half of the buckets are for tokens before, half for those behind, and half of each tell distances "
                "apart exactly: `num_buckets` is even and ≥ 4, `max_distance` above a quarter of it. Received: "
                f"{num_buckets=}, {max_distance=}"
            )
        get_activation(activation)
        policy, wide = self.dtype_policy, wide_dtype(self.dtype_policy)
        self.token_embedding = embedding_table(vocabulary_size, width, name="token_embedding", dtype=policy)
        self.distance_bias = embedding_table(num_buckets, num_heads, name="distance_bias", dtype=wide)
        sizes = (num_heads, head_dim, hidden_dim, gated, activation, norm_epsilon)
        self.blocks = [T5Block(*sizes, name=f"block_{i}", dtype=policy) for i in range(depth)]
        self.norm = RMSNormalization(epsilon=norm_epsilon, name="norm", dtype=wide)
        self.token_embedding.build()
        self.distance_bias.build()
        for layer in (*self.blocks, self.norm):
            layer.build((None, None, width))
        self.built = True

    def call(self, tokens):
        length = tokens.shape[1]
        if length is None or (self.max_length is not None and length > self.max_length):
            raise ValueError(
                f"A text has at most {self.max_length} tokens, and a known number. Received: tokens of shape "
                f"{tuple(tokens.shape)}"
            )
        h = ops.cast(self.token_embedding(tokens), self.norm.compute_dtype)
        buckets = ops.convert_to_tensor(distance_buckets(length, self.num_buckets, self.max_distance))
        bias = ops.transpose(self.distance_bias(buckets), (2, 0, 1))[None]
        hidden = ops.cast(ops.logical_not(self.token_mask(tokens)), bias.dtype)
        bias = bias + _HIDDEN * hidden[:, None, None, :]
        for block in self.blocks:
            h = block(h, bias)
        return self.norm(h)

    def token_mask(self, tokens):
        return ops.not_equal(tokens, self.pad_token)
