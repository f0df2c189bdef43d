"""The frame of most U-Nets: what every block, the first convolution and every downsampling make is handed across.

    x ─ conv ─┬─ level 0: block × n ─┬─ skips ─ (concat, block) × (n + 1) ─ norm, act, conv ─ out
              │      downsample      │              upsample
              │  level 1: block × n ─┼─ skips ─ (concat, block) × (n + 1)
              │      …               │              …
              └─ middle ─────────────┘

A network of this frame says what a block is, what happens in the middle, and what changes the size.
"""

import keras

from keras_diffusion.layers import Downsample, ResidualBlock, TimeProjection, Upsample
from keras_diffusion.layers.options import convolution, unbuilt_dense
from keras_diffusion.networks.network import Network, check_positive_int, sinusoidal_embedding


class LevelUNet(Network):
    """Base class of U-Nets of this frame: a subclass gives `embed`, `block` and `_middle`.

    The features h are Keras tensors `(None, ..., width)`, the axes between being those of the level.
    """

    concat_name = "up_{i}_{j}_concat"
    center_input = False
    symmetric = False

    def graph(self, inputs):
        given = {**inputs, "embedding": self.embed(inputs)}
        h = self.first(given)
        skips = [h]
        h = self._middle(self._down(h, skips, given), given)
        return self.last(self._up(h, skips, given))

    def embed(self, inputs):
        """The condition vector, which every block receives.

        Args:
            inputs: the dict of `graph`.

        Returns:
            Keras tensor `(None, dim)`.

        Raises:
            ValueError: an unknown time embedding, or sizes that do not fit it.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement embed(inputs)")

    def block(self, h, way, i, j, given):
        """One block: a residual block, and attention where the level has some.

        Args:
            h: features of the level.
            way: "down" or "up".
            i: number of the level, 0 being the finest.
            j: number of the block within it.
            given: the dict of inputs, with the condition vector `(None, dim)` under "embedding".

        Returns:
            features `(None, ..., widths[i])`.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement block(h, way, i, j, given)")

    def _down(self, h, skips, given):
        for i in range(len(self.widths)):
            for j in range(self.blocks_at(i)):
                h = self.block(h, "down", i, j, given)
                skips.append(h)
            if i < len(self.widths) - 1:
                h = self.downsample(h, i, given)
                skips.append(h)
        return h

    def _up(self, h, skips, given):
        for i in reversed(range(len(self.widths))):
            for j in range(self.blocks_at(i) + 1):
                h = self.join(h, skips.pop(), self.concat_name.format(i=i, j=j))
                h = self.block(h, "up", i, j, given)
            if i > 0:
                h = self.upsample(h, i, given)
        return h

    def blocks_at(self, level):
        """The number of blocks of a level on the way down; on the way up there is one more.

        Args:
            level: number of the level, 0 being the finest.

        Returns:
            int.
        """
        return self.num_res_blocks

    def first(self, given):
        """The first convolution.

        Args:
            given: the dict of inputs and "embedding".

        Returns:
            features `(None, ..., widths[0])`.

        Raises:
            ValueError: samples with more than three axes of positions.
        """
        h = self.seen(given)
        if self.center_input:
            h = keras.layers.Rescaling(2.0, -1.0, name="center", dtype=self.wide)(h)
        return convolution(len(self.sample_shape) - 1, self.widths[0], 3, name="conv_in", dtype=self.policy)(h)

    def downsample(self, h, i, given):
        """What leads from a level to the next coarser one.

        Args:
            h: features of level `i`.
            i: number of the level.
            given: the dict of inputs and "embedding".

        Returns:
            features of level i + 1: each axis half as long.
        """
        name = f"down_{i}_downsample"
        return Downsample(self.widths[i], symmetric=self.symmetric, name=name, dtype=self.policy)(h)

    def upsample(self, h, i, given):
        """What leads from a level to the next finer one.

        Args:
            h: features of level `i`.
            i: number of the level.
            given: the dict of inputs and "embedding".

        Returns:
            features of level i − 1: each axis twice as long.
        """
        return Upsample(self.widths[i], name=f"up_{i}_upsample", dtype=self.policy)(h)

    def last(self, h):
        """The end of the network: norm, activation, convolution.

        Args:
            h: features of the finest level.

        Returns:
            Keras tensor `(None, ..., channels_out)`.
        """
        return self.finish(h, ("group", self.norm_groups, self.norm_epsilon), self.activation)

    def residual(self, h, level, name, given, **options):
        """The residual block of a level.

        Args:
            h: features of the level.
            level: its number; −1 is the coarsest, the middle's.
            name: what the names of the layers begin with.
            given: the dict of inputs and "embedding".
            **options: of `ResidualBlock`, in place of the network's.

        Returns:
            features `(None, ..., widths[level])`.
        """
        names = ("norm_groups", "norm_epsilon", "activation", "time_injection", "dropout", "seed")
        block = ResidualBlock(self.widths[level], name=f"{name}_residual", **self.passed(*names, **options))
        return block(h, given["embedding"])

    def embed_in_two_steps(self, embedding, dim):
        """Two dense layers on the embedded noise level, with swish between them.

        Args:
            embedding: Keras tensor `(None, features)`.
            dim: size of the condition vector.

        Returns:
            Keras tensor `(None, dim)`.
        """
        embedding = unbuilt_dense(dim, activation="swish", name="time_dense1", dtype=self.wide)(embedding)
        return unbuilt_dense(dim, name="time_dense2", dtype=self.wide)(embedding)

    def activated(self, embedding, activation, name="act_embedding"):
        """The condition vector behind its activation.

        Args:
            embedding: Keras tensor `(None, dim)`.
            activation: name or function.
            name: of the layer.

        Returns:
            Keras tensor `(None, dim)`.
        """
        return keras.layers.Activation(activation, name=name, dtype=self.wide)(embedding)


class TextUNet(LevelUNet):
    """Base class of U-Nets in the form of Stable Diffusion's: residual blocks for a timestep, transformers for a text.

    A subclass gives `transform`.
    """

    head_dim = None

    def check_text_levels(self):
        """Makes one number per level of each argument that allows one for all.

        Raises:
            ValueError: a list of another length than `widths`, numbers < 1, or heads that do not divide a width.
        """
        levels = len(self.widths)
        self._blocks = per_level("num_res_blocks", self.num_res_blocks, levels)
        self._depths = per_level("transformer_depth", self.transformer_depth, levels)
        self.attention = attention_per_level(self.attention, levels)
        self._heads = heads_per_level(self.widths, self.num_heads, self.head_dim)

    def transform(self, h, level, name, given):
        """The transformer of a level, in which positions see each other and the text.

        Args:
            h: features of the level.
            level: its number; −1 is the coarsest, the middle's.
            name: what the names of the layers begin with.
            given: the dict of inputs, with the text `(None, M, context_dim)` under "context".

        Returns:
            features like `h`.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement transform(h, level, name, given)")

    def blocks_at(self, level):
        return self._blocks[level]

    def embed(self, inputs):
        dim = self.time_dim or 4 * self.widths[0]
        embedding = sinusoidal_embedding(self.widths[0], self.freq_shift, self.cos_first)(inputs["noise_level"])
        # A label comes between the last dense layer and its activation.
        last = "linear" if self.num_classes is not None else None
        options = {"last_activation": last, "name": "time_projection", "dtype": self.wide}
        embedding = TimeProjection(dim, self.activation, **options)(embedding)
        if self.num_classes is None:
            return embedding
        return self.activated(self.add_label(embedding, inputs), self.activation)

    def block(self, h, way, i, j, given):
        name = f"{way}_{i}_{j}"
        h = self.residual(h, i, name, given)
        return self.transform(h, i, name, given) if self.attention[i] else h

    def _middle(self, h, given):
        h = self.transform(self.residual(h, -1, "middle_0", given), -1, "middle", given)
        return self.residual(h, -1, "middle_1", given)


def paired_middle(network, h, given, **options):
    """The middle of U-Nets with `num_middle_res_blocks` pairs of blocks, and attention in the last pair."""
    for j in range(network.num_middle_res_blocks):
        h = network.block_of(h, network.widths[-1], f"middle_{j}_residual_0", given, **options)
        if j == network.num_middle_res_blocks - 1:
            h = network.attend(h, -1, "middle_attention", given)
        h = network.block_of(h, network.widths[-1], f"middle_{j}_residual_1", given, **options)
    return h


def attention_per_level(attention, levels):
    """Whether each level has transformers; None: all but the last."""
    attention = [True] * (levels - 1) + [False] if attention is None else list(attention)
    check_length("attention", attention, levels)
    return attention


def heads_per_level(widths, num_heads, head_dim):
    """Number of heads at each level."""
    if head_dim is not None:
        fits = isinstance(head_dim, int) and head_dim > 0
        heads = [width // head_dim if fits and width % head_dim == 0 else 0 for width in widths]
    else:
        heads = [num_heads] * len(widths) if isinstance(num_heads, int) else list(num_heads)
        check_length("num_heads", heads, len(widths))
    if any(not isinstance(n, int) or n < 1 or width % n for width, n in zip(widths, heads)):
        raise ValueError(
            "Heads cut the channels of a level into equal parts, so their number, and the channels of each, must "
            f"divide its width. Received: widths={tuple(widths)}, num_heads={num_heads}, head_dim={head_dim}"
        )
    return heads


def per_level(name, value, levels):
    """A list of one number per level, of one number or of such a list."""
    one = isinstance(value, int)
    values = [value] * levels if one else list(value)
    check_length(name, values, levels)
    check_positive_int(**{name if one else f"{name}[{i}]": number for i, number in enumerate(values)})
    return values


def check_length(name, values, levels):
    """Raises ValueError unless there is one value per level."""
    if len(values) != levels:
        raise ValueError(
            f"`{name}` needs one entry per level, as many as `widths` ({levels}). Received: {name}={values}"
        )
