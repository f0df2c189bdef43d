"""The diffusion transformer as diffusers' DiTTransformer2DModel has it: patches of an image, a stack of transformer
blocks, no U.

    tokens = W·patches + P                          P: sines and cosines of row and column
    for each block, with its own e = embed(timestep) + embed(label):
        (b₁, s₁, g₁, b₂, s₂, g₂) = V·act(e)
        tokens ← tokens + g₁·attention(norm(tokens)·(1 + s₁) + b₁)
        tokens ← tokens + g₂·feed_forward(norm(tokens)·(1 + s₂) + b₂)
    out = unpatch(W'·(norm(tokens)·(1 + s) + b)),   (b, s) = V'·act(e of the first block)

"adaLN-Zero": layer norms whose scale, shift and gate follow from the condition; V starts at 0, so that every block
starts as the identity. Unlike in the paper, every block embeds timestep and label anew.

With a learned variance the output has twice the channels, the prediction first; predictors look at that half alone.

Reference: Peebles & Xie, "Scalable diffusion models with transformers", arXiv:2212.09748.
"""

import keras
import numpy as np
from keras import ops

from keras_diffusion.layers import AdaptiveTransformerBlock, LabelEmbedding
from keras_diffusion.layers.options import unbuilt_dense
from keras_diffusion.layers.patches import patch_grid, to_image, to_patches
from keras_diffusion.networks.network import NETWORKS, Network, check_positive_int, sinusoidal_embedding
from keras_diffusion.runtime import limits

_TIMESTEP_DIM = 256


@NETWORKS.register("dit_transformer_2d")
class DiTTransformer2D(Network):
    """DiT for timesteps and labels. The defaults are those of DiT-XL/2.

    Args:
        input_shape: `(H, W, C)`, H and W multiples of `patch_size`. Default (32, 32, 4).
        patch_size: side of the patches. Default 2.
        depth: number of blocks. Default 28.
        num_heads: default 16.
        head_dim: channels per head; a token has num_heads·head_dim channels. Default 72.
        num_classes: number of classes; label `num_classes` means "no class". Default 1000.
        out_channels: channels of the output; None (default) for as many as the input, 2·C with a learned variance.
        base_size: number of rows (and of columns) of patches that positions count to, whatever the size; None (default)
            counts the patches that there are.
        activation: of feed-forward steps. Default "gelu_tanh".
        use_bias: whether queries, keys and values have a bias. Default True.
        norm_epsilon: of the norm before feed-forward steps; the others have 1e-6. Default 1e-5, as diffusers has it.
        dropout: after attention and in feed-forward steps, in [0, 1). Default 0.
        flash_attention: None (default: where Keras finds a fused kernel), True or False.
        seed: int or None; of dropout.

    Call arguments:
        inputs: dict: "x" `(B, H, W, C)`, "noise_level" `(B,)` timesteps, "labels" `(B,)`.

    Returns:
        `(B, H, W, out_channels)`, float32 under mixed precision.

    Raises:
        ValueError: a size that is not known or that patches do not divide; a number of channels per token that is no
            multiple of 4.

    Example:

    >>> network = DiTTransformer2D((8, 12, 4), depth=2, num_heads=2, head_dim=16, num_classes=10)
    >>> x, labels = keras.ops.ones((2, 8, 12, 4)), keras.ops.array([3, 10])
    >>> network({"x": x, "noise_level": keras.ops.array([0.0, 999.0]), "labels": labels}).shape
    (2, 8, 12, 4)

    Reference:
        Peebles & Xie 2022, arXiv:2212.09748; diffusers' `DiTTransformer2DModel`.
    """

    def __init__(
        self,
        input_shape=(32, 32, 4),
        patch_size=2,
        depth=28,
        num_heads=16,
        head_dim=72,
        num_classes=1000,
        out_channels=None,
        base_size=None,
        activation="gelu_tanh",
        use_bias=True,
        norm_epsilon=1e-5,
        dropout=0.0,
        flash_attention=None,
        seed=None,
        name="dit_transformer_2d",
        trainable=True,
        dtype=None,
    ):
        check_positive_int(
            patch_size=patch_size, depth=depth, num_heads=num_heads, head_dim=head_dim, num_classes=num_classes
        )
        if len(input_shape) != 3 or any(not isinstance(n, int) or n < 1 or n % patch_size for n in input_shape[:-1]):
            raise ValueError(
                f"Patches of {patch_size} × {patch_size} must fill the image: `input_shape` is (H, W, C) with H and W "
                f"multiples of {patch_size}. Received: input_shape={tuple(input_shape)}"
            )
        if num_heads * head_dim % 4:
            raise ValueError(
                "Positions are sines and cosines of row and column: num_heads·head_dim must be a multiple of 4. "
                f"Received: num_heads={num_heads}, head_dim={head_dim}"
            )
        self.size_multiple = patch_size
        super().__init__(name, trainable, dtype)

    def graph(self, inputs):
        width, size = self.num_heads * self.head_dim, self.patch_size
        rows, columns = patch_grid(self.sample_shape[:2], size)
        tokens = unbuilt_dense(width, name="patch_embedding", dtype=self.policy)(to_patches(inputs["x"], size))
        positions = patch_positions(rows, columns, width, self.base_size).astype(self.wide)
        tokens = tokens + ops.cast(ops.convert_to_tensor(positions, self.wide), tokens.dtype)
        time = sinusoidal_embedding(_TIMESTEP_DIM, 1, cos_first=True)(inputs["noise_level"])
        embeddings = []
        for i in range(self.depth):
            embeddings.append(self._embed(time, inputs["labels"], width, f"block_{i}"))
            tokens = self._block(f"block_{i}")(tokens, embeddings[-1])
        tokens = self._modulated(tokens, embeddings[0], width)
        tokens = self._from_zeros(size * size * self.channels_out, "project_out")(tokens)
        return to_image(tokens, rows, columns, size)

    def _embed(self, time, labels, width, name):
        """The condition vector of a block."""
        time = unbuilt_dense(width, name=f"{name}_time_dense1", dtype=self.wide, activation="swish")(time)
        time = unbuilt_dense(width, name=f"{name}_time_dense2", dtype=self.wide)(time)
        label = LabelEmbedding(self.num_classes, width, name=f"{name}_label_embedding", dtype=self.wide)(labels)
        return keras.layers.Activation("swish", name=f"{name}_act_embedding", dtype=self.wide)(time + label)

    def _block(self, name):
        names = (
            "num_heads",
            "head_dim",
            "activation",
            "use_bias",
            "norm_epsilon",
            "dropout",
            "flash_attention",
            "seed",
        )
        return AdaptiveTransformerBlock(name=name, **self.passed(*names))

    def _modulated(self, tokens, embedding, width):
        """The last norm, whose scale and shift follow the first block's condition vector."""
        modulation = self._from_zeros(2 * width, "modulation_out")(embedding)
        shift, scale = ops.split(modulation[:, None], 2, axis=-1)
        options = {"center": False, "scale": False, "name": "norm_out", "dtype": self.wide}
        return keras.layers.LayerNormalization(epsilon=1e-6, **options)(tokens) * (1.0 + scale) + shift

    def _from_zeros(self, units, name):
        return unbuilt_dense(units, kernel_initializer="zeros", name=name, dtype=self.wide)


def patch_positions(rows, columns, width, base_size=None):
    """Sines and cosines of the positions of patches: a half for the column, a half for the row.

    Args:
        rows, columns: number of patches along each axis.
        width: size of a vector, a multiple of 4.
        base_size: what positions run up to along each axis; None (default) for the number of patches.

    Returns:
        float64 array `(rows·columns, width)`.
    """
    limits.check(rows * columns * width, "table_values", "The number of values in a table of positions")
    frequencies = 10000.0 ** (-np.arange(width // 4) / (width // 4))

    def waves(count):
        angles = np.outer(np.arange(count) * ((base_size or count) / count), frequencies)
        return np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)

    column, row = np.broadcast_arrays(waves(columns)[None, :], waves(rows)[:, None])
    return np.concatenate([column, row], axis=-1).reshape(rows * columns, width)
