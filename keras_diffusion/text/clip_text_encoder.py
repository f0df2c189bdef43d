"""CLIP's text encoder: tokens to the context that steers Stable Diffusion.

    h = E[token] + P[position]
    h ← TransformerBlock(h) × depth        causal: a token sees those before it
    context = norm(h)                      one vector per token

                         depth  width  heads  activation
    Stable Diffusion 1      12    768     12  quick_gelu      CLIP ViT-L/14
    Stable Diffusion 2      23   1024     16  gelu            OpenCLIP ViT-H/14 but its last block (KerasCV: gelu_tanh)

Reference: Radford et al., "Learning transferable visual models from natural language supervision", arXiv:2103.00020.
"""

import numpy as np
from keras import ops

from keras_diffusion.configs.checks import check_whole
from keras_diffusion.configs.registry import serializable
from keras_diffusion.layers import TransformerBlock
from keras_diffusion.layers.options import embedding_table, get_activation, layer_normalization
from keras_diffusion.networks.network import wide_dtype
from keras_diffusion.text.text_encoder import TextEncoder, visible_tokens


@serializable
class CLIPTextEncoder(TextEncoder):
    """Causal transformer on tokens. The defaults are those of Stable Diffusion 1.

    Args:
        vocabulary_size: number of tokens. Default 49408.
        max_length: greatest number of tokens in a text. Default 77.
        width: channels. Default 768.
        depth: number of transformer blocks. Default 12.
        num_heads: heads per block; must divide `width`. Default 12.
        activation: of the feed-forward steps. Default "quick_gelu".
        pad_token: the token that fills texts up, where the network is not to see it but the first time (see
            `visible_tokens`). None (default): it sees all tokens, as Stable Diffusion does.
        learned_words: number of tokens behind the vocabulary, which `learn_words` adds. Default 0.

    Call arguments:
        tokens: integers `(B, L)`, L ≤ max_length, as `CLIPTokenizer` makes them.

    Returns:
        `(B, L, width)`, float32 under mixed precision.

    Raises:
        ValueError: heads that do not divide `width`; an unknown activation; more tokens than `max_length`.

    Example:

    >>> encoder = CLIPTextEncoder(vocabulary_size=100, width=32, depth=2, num_heads=2)
    >>> encoder(keras.ops.zeros((2, 77), "int32")).shape
    (2, 77, 32)
    """

    late_arguments = ("pad_token", "learned_words")

    def __init__(
        self,
        vocabulary_size=49408,
        max_length=77,
        width=768,
        depth=12,
        num_heads=12,
        activation="quick_gelu",
        name="clip_text_encoder",
        trainable=True,
        dtype=None,
        pad_token=None,
        learned_words=0,
    ):
        super().__init__(name=name, trainable=trainable, dtype=dtype)
        if num_heads < 1 or width % num_heads:
            raise ValueError(
                "`num_heads` cuts the channels into equal heads and must divide "
                f"`width`. Received: {num_heads=}, {width=}"
            )
        get_activation(activation)
        policy = self.dtype_policy
        self.token_embedding = embedding_table(vocabulary_size, width, name="token_embedding", dtype=policy)
        self.position_embedding = embedding_table(max_length, width, name="position_embedding", dtype=policy)
        options = {
            "cross_attention": False,
            "gated": False,
            "activation": activation,
            "use_bias": True,
            "causal": True,
            "dtype": policy,
        }
        self.blocks = [
            TransformerBlock(num_heads, width // num_heads, name=f"block_{i}", **options) for i in range(depth)
        ]
        self.learned_embedding = None
        self.norm = layer_normalization(epsilon=1e-5, name="norm", dtype=wide_dtype(policy))
        self.token_embedding.build()
        self.position_embedding.build()
        for layer in (*self.blocks, self.norm):
            layer.build((None, None, width))
        self.built = True
        check_whole("learned_words", learned_words, 0)
        if learned_words:
            self.add_words(np.zeros((learned_words, width), "float32"))

    def add_words(self, vectors):
        """Adds tokens behind the vocabulary and those added before.

        Args:
            vectors: their embeddings, floats `(k, width)`.
        """
        before = [] if self.learned_embedding is None else [ops.convert_to_numpy(self.learned_embedding.embeddings)]
        table = np.concatenate([*before, np.asarray(vectors, "float32")])
        self.learned_words = len(table)
        self.learned_embedding = embedding_table(
            len(table), self.width, name="learned_embedding", dtype=self.dtype_policy
        )
        self.learned_embedding.build()
        self.learned_embedding.set_weights([table])
        self._forget_programs()

    def embed(self, tokens):
        """What tokens begin with, before their positions are added.

        Args:
            tokens: integers `(B, L)`, of the vocabulary or of learned words.

        Returns:
            floats `(B, L, width)`.
        """
        if self.learned_embedding is None:
            return self.token_embedding(tokens)
        added = ops.greater_equal(tokens, self.vocabulary_size)
        known = self.token_embedding(ops.where(added, 0, tokens))
        learned = self.learned_embedding(ops.where(added, tokens - self.vocabulary_size, 0))
        return ops.where(added[..., None], learned, known)

    def call(self, tokens):
        length = tokens.shape[1]
        if length is not None and length > self.max_length:
            raise ValueError(
                f"A text has at most {self.max_length} tokens. Received: tokens of shape {tuple(tokens.shape)}"
            )
        h = self.embed(tokens) + self.position_embedding(ops.arange(length, dtype="int32"))
        for block in self.blocks:
            h = block(h)
        return self.norm(h)

    def token_mask(self, tokens):
        return None if self.pad_token is None else visible_tokens(tokens, self.pad_token)
