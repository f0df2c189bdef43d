"""What the transformers on patches share: their arguments and checks, their first layers and their last ones.

image ── patches ──┐                                     ┌── norm ── dense (starts at 0) ── image
noise level, label ┼── conditions ──▶  blocks on tokens ─┘
context ───────────┘
"""

import keras

from keras_diffusion.layers import DiTBlock, TimeProjection
from keras_diffusion.layers.activations import gelu_tanh
from keras_diffusion.layers.options import layer_normalization, unbuilt_dense
from keras_diffusion.layers.patch_order import check_patch_order
from keras_diffusion.layers.patches import PatchEmbedding, Unpatchify, patch_grid
from keras_diffusion.networks.network import Network, check_positive_int, noise_embedding

TIME_EMBEDDINGS = ("fourier", "sinusoidal", "flax_partitionable", "flax_original")
_DIT_OPTIONS = ("num_heads", "head_dim", "mlp_ratio", "norm_epsilon", "flash_attention", "dropout", "remat", "seed")


class PatchTransformer(Network):
    """Base class of transformers on patches of images. A subclass's constructor has these arguments, and `graph`.

    Args:
        input_shape: `(H, W, C)`; H and W multiples of `patch_size`, or None for any such size.
        patch_size: side of a patch, in pixels.
        emb_features: size of a token.
        num_layers, num_heads, head_dim: of the blocks.
        patch_order, time_embedding, time_scale, dropout, norm_epsilon, learn_sigma, flaxdiff_compatible and so on:
            see `SimpleDiT`.
    """

    needs_context = False
    even_layers = False
    sizes: tuple[str, ...] = ("emb_features", "num_layers", "num_heads")  # further arguments that are integers ≥ 1
    learn_sigma = False
    sincos_position = False
    patch_repeats = 1  # how often the patches are put in order

    def __init__(self, name, trainable, dtype):
        self.check_patches()
        super().__init__(name, trainable, dtype)

    def check_patches(self, multiple=1):
        """Raises ValueError where the arguments that transformers share cannot be.

        Args:
            multiple: how many patches each axis must be a multiple of.

        Raises:
            ValueError: an `input_shape` that is not (H, W, C) or that patches do not divide; sizes < 1; an unknown
                order of patches; a missing context; an odd number of blocks where half of them go up.
        """
        kind, input_shape = type(self).__name__, self._argument("input_shape")
        if len(input_shape) != 3:
            raise ValueError(
                f"{kind} takes images: `input_shape` must be (H, W, C), without the batch axis. Received: "
                f"input_shape={input_shape}"
            )
        check_positive_int(channels=input_shape[-1], patch_size=self.patch_size)
        check_positive_int(**{name: getattr(self, name) for name in self.sizes})
        patch_grid(input_shape[:2], self.patch_size * multiple)
        check_patch_order(self.patch_order)

        if self.needs_context and self.context_dim is None:
            raise ValueError(
                f"{kind} needs a context (a text, say). Received: context_dim=None. SimpleDiT does without"
            )
        if self.even_layers and self.num_layers % 2:
            raise ValueError(
                "Half of the blocks go down, half go up: `num_layers` must be even. Received: "
                f"num_layers={self.num_layers}"
            )

    def embed_noise_level(self, inputs, hidden, dim=None):
        """The vector of noise level and label: embedding and two or three dense layers.

        In float32 under mixed precision too: the work is small, and rounding would blur neighbouring noise levels.

        Args:
            inputs: the dict of `graph`.
            hidden: size of the first two layers.
            dim: size of the third; None (default) for none.

        Returns:
            Keras tensor `(None, dim)`, or `(None, hidden)` without `dim`.

        Raises:
            ValueError: an unknown time embedding.
        """
        features = dim or hidden
        embedding = noise_embedding(self.time_embedding, features, self.time_scale, TIME_EMBEDDINGS)
        embedding = self.add_label(embedding(inputs["noise_level"]), inputs)
        options = {"activation": gelu_tanh, "name": "time_projection", "dtype": self.wide}
        embedding = TimeProjection(hidden, **options)(embedding)
        return embedding if dim is None else unbuilt_dense(dim, name="time_out", dtype=self.wide)(embedding)

    def embed_context(self, inputs, dim):
        """The mean of the context's vectors, and a dense layer.

        Args:
            inputs: the dict of `graph`, with "context" `(None, M, context_dim)`.
            dim: size of the vector.

        Returns:
            Keras tensor `(None, dim)`.
        """
        return unbuilt_dense(dim, name="context_projection", dtype=self.wide)(self.mean_context(inputs))

    def conditions(self, inputs, dim):
        """The vectors that steer the blocks: of noise level and label, and of the mean context.

        Args:
            inputs: the dict of `graph`.
            dim: their size.

        Returns:
            list of one Keras tensor `(None, dim)`, or of two where the network takes a context.
        """
        time = self.embed_noise_level(inputs, int(dim * self.mlp_ratio), dim)
        return [time] if self.context_dim is None else [time, self.embed_context(inputs, dim)]

    def condition(self, inputs):
        """The sum of `conditions`.

        Args:
            inputs: the dict of `graph`.

        Returns:
            list of one Keras tensor `(None, emb_features)`.
        """
        vectors = self.conditions(inputs, self.emb_features)
        return vectors if len(vectors) == 1 else [keras.layers.Add(name="time_and_context", dtype=self.wide)(vectors)]

    def embed_patches(self, inputs, dim):
        """The image, and "concat" beside it where there is one, as tokens.

        Args:
            inputs: the dict of `graph`.
            dim: size of a token.

        Returns:
            Keras tensor `(None, N, dim)`, N patches in the order `patch_order`.
        """
        options = {"order": self.patch_order, "sincos_position": self.sincos_position, "times": self.patch_repeats}
        layer = PatchEmbedding(self.patch_size, dim, name="patch_embedding", dtype=self.policy, **options)
        return layer(self.seen(inputs))

    def dit_block(self, name, **options):
        """A `DiTBlock` with the network's options.

        Args:
            name: of the layer.
            **options: of `DiTBlock`, in place of the network's.

        Returns:
            `DiTBlock`.
        """
        rotary = self.patch_order == "raster" if self.rotary is None else self.rotary
        return DiTBlock(name=name, **self.passed(*_DIT_OPTIONS, rotary=rotary) | options)

    def to_image(self, tokens, inputs):
        """Tokens as an image: norm, a dense layer that starts at 0, and patches laid out.

        The dense layer works in float32 under mixed precision too: sampling adds up many outputs, and 8 bits would
        show.

        Args:
            tokens: Keras tensor `(None, N, features)`.
            inputs: the dict of `graph`; the size is that of its "x".

        Returns:
            Keras tensor `(None, H, W, channels_out)`, twice the channels with `learn_sigma`.
        """
        tokens = layer_normalization(epsilon=self.norm_epsilon, name="final_norm", dtype=self.policy)(tokens)
        units = self.patch_size**2 * self.channels_out * (2 if self.learn_sigma else 1)
        tokens = unbuilt_dense(units, kernel_initializer="zeros", name="final_proj", dtype=self.wide)(tokens)
        first_only = self.learn_sigma and self.flaxdiff_compatible
        options = {"first_only": first_only, "name": "unpatchify", "dtype": self.wide}
        return Unpatchify(self.patch_size, self.channels_out, self.patch_order, **options)(tokens, inputs["x"])

    def u_shape(self, tokens, block):
        """Half of the blocks, a middle one, and the other half, each of which first receives what its twin gave.

        Args:
            tokens: `(B, N, emb_features)`.
            block: function of tokens and a name → tokens.

        Returns:
            tokens `(B, N, emb_features)`.
        """
        skips = []
        for i in range(self.num_layers // 2):
            tokens = block(tokens, f"down_block_{i}")
            skips.append(tokens)
        tokens = block(tokens, "mid_block")
        for i in range(self.num_layers // 2):
            tokens = self.join(tokens, skips.pop(), f"up_concat_{i}")
            tokens = unbuilt_dense(self.emb_features, name=f"up_dense_{i}", dtype=self.policy)(tokens)
            tokens = block(tokens, f"up_block_{i}")
        return tokens
