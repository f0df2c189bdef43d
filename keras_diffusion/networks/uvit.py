"""U-ViT: everything is a token, also the noise level and the words of the text.

    [patches + positions, noise level, class, text] ── [UViTBlock] × L/2 ── UViTBlock ─ [concat, Dense, UViTBlock] × L/2
                                                             └──────────────── skips ──────────┘
    the patches' tokens ── norm, dense ── patches laid out ── (two convolutions on [x, that])

Repaired, against FlaxDiff's class of that name: keys and values are normalized like queries (`flaxdiff_compatible`
takes them raw), blocks add to what enters once (`explicitly_add_residual` adds it twice), and an order of the patches
is undone as often as it is applied (`flaxdiff_compatible`: applied twice, undone once).

References: Bao et al., "All are worth words: a ViT backbone for diffusion models", arXiv:2209.12152; FlaxDiff,
`models/simple_vit.py`.
"""

import keras

from keras_diffusion.layers import LearnedPosition, UViTBlock
from keras_diffusion.layers.options import convolution, get_activation, layer_normalization, unbuilt_dense
from keras_diffusion.layers.patches import patch_grid
from keras_diffusion.networks.network import MASK_KEY, NETWORKS
from keras_diffusion.networks.transformer import PatchTransformer

_BLOCK_OPTIONS: tuple[str, ...] = ("num_heads", "head_dim", "norm_inputs", "use_projection", "norm_epsilon")
_BLOCK_OPTIONS += ("flash_attention", "dropout", "remat", "seed")


@NETWORKS.register("uvit")
class UViT(PatchTransformer):
    """Transformer with long skips and the conditions as tokens, for images (H, W, C).

    Args:
        input_shape: `(H, W, C)`; H and W multiples of `patch_size`, or None for any such size.
        patch_size: side of a patch, in pixels. Default 16.
        emb_features: size of a token, even. Default 768.
        num_layers: number of blocks beside the middle one, even. Default 12.
        num_heads: attention heads. Default 12.
        head_dim: channels per head; None (default) for `emb_features` divided by `num_heads`, rounded down.
        num_classes: number of classes, or None (default) for a network without labels.
        context_dim: size of the context's vectors, or None (default). Each is a token.
        out_channels: channels of the output; None (default) for as many as the input.
        patch_order: "raster" (default), "zigzag", "hilbert" or "hilbert_cropped"; see `layers.patch_order`.
        max_tokens: rows of the table of positions; None (default) for as many as `input_shape` has patches.
        use_projection: whether each block has a dense layer before and one behind. Default False.
        use_self_and_cross: whether each block attends twice. Default False.
        norm_inputs: whether each block normalizes what enters, on the identity path too. Default False.
        explicitly_add_residual: whether each block adds what enters once more at its end. Default False; FlaxDiff:
            True.
        add_residualblock_output: whether two convolutions follow, on the image and the output side by side. Default
            False.
        activation: name or function; between these convolutions. Default "swish".
        norm_epsilon: added to the mean square, or variance. Default 1e-5.
        dropout, time_embedding, time_scale, flash_attention, remat, concat_channels, seed: as in `SimpleDiT`.
        flaxdiff_compatible: whether keys, values and the order of patches are FlaxDiff's; see the module. Default
            False.

    Call arguments:
        inputs: dict: "x" `(B, *input_shape)`, "noise_level" `(B,)`, "labels" `(B,)` with `num_classes`, "context" `(B,
            M, D)` with `context_dim`, "concat" `(B, H, W, concat_channels)` with `concat_channels`.
        training: whether dropout drops.

    Returns:
        `(B, H, W, out_channels)`, float32 under mixed precision.

    Raises:
        ValueError: `input_shape` of another rank than 3, or of a size that patches do not divide; sizes < 1;
            `num_layers` odd; neither a size nor `max_tokens`; unknown order, activation or time embedding; `dropout`
            outside [0, 1).

    Example:

    >>> network = UViT((16, 24, 3), patch_size=4, emb_features=32, num_layers=2, num_heads=4)
    >>> network({"x": keras.ops.ones((2, 16, 24, 3)), "noise_level": keras.ops.zeros((2,))}).shape
    (2, 16, 24, 3)

    Reference:
        Bao et al. 2022, arXiv:2209.12152; FlaxDiff, `models/simple_vit.py`.
    """

    even_layers = True

    @property
    def patch_repeats(self):
        """How often the patches are put in order: once, or twice as FlaxDiff does."""
        return 2 if self.flaxdiff_compatible else 1

    def __init__(
        self,
        input_shape,
        patch_size=16,
        emb_features=768,
        num_layers=12,
        num_heads=12,
        head_dim=None,
        num_classes=None,
        context_dim=None,
        out_channels=None,
        patch_order="raster",
        max_tokens=None,
        use_projection=False,
        use_self_and_cross=False,
        norm_inputs=False,
        explicitly_add_residual=False,
        add_residualblock_output=False,
        activation="swish",
        norm_epsilon=1e-5,
        dropout=0.0,
        time_embedding="fourier",
        time_scale=None,
        flash_attention=None,
        remat=False,
        flaxdiff_compatible=False,
        seed=None,
        concat_channels=0,
        name="uvit",
        trainable=True,
        dtype=None,
    ):
        self.activation = get_activation(activation)
        super().__init__(name, trainable, dtype)

    def graph(self, inputs):
        mask = inputs.get(MASK_KEY)
        tokens = self.u_shape(self._tokens(inputs), lambda tokens, name: self._block(tokens, name, mask))
        output = self.to_image(tokens, inputs)
        return self._refined(inputs["x"], output) if self.add_residualblock_output else output

    def _tokens(self, inputs):
        """Patches with their positions, then the noise level and the context's vectors."""
        tokens = self.embed_patches(inputs, self.emb_features)
        tokens = LearnedPosition(self._table_rows(), name="pos_encoding", dtype=self.policy)(tokens)
        time = self.embed_noise_level(inputs, self.emb_features)
        parts = [tokens, keras.layers.Reshape((1, self.emb_features), name="time_token", dtype=self.policy)(time)]
        if "context" in inputs:
            project = unbuilt_dense(self.emb_features, name="context_projection", dtype=self.policy)
            parts.append(project(inputs["context"]))
        return keras.layers.Concatenate(axis=1, name="all_tokens", dtype=self.policy)(parts)

    def _table_rows(self):
        if self.max_tokens is not None:
            return self.max_tokens
        rows, columns = patch_grid(self.sample_shape[:2], self.patch_size)
        if None in (rows, columns):
            raise ValueError(
                f"Each patch has a row in the table of positions. Received: input_shape={self.sample_shape} without "
                "`max_tokens`. Give a size, or `max_tokens`"
            )
        return rows * columns

    def _block(self, tokens, name, context_mask):
        renamed = {"double_attention": self.use_self_and_cross, "outer_residual": self.explicitly_add_residual}
        options = self.passed(*_BLOCK_OPTIONS, raw_keys=self.flaxdiff_compatible, **renamed)
        return UViTBlock(name=name, **options)(tokens, context_mask=context_mask)

    def _refined(self, x, output):
        """Two convolutions on the image and the output side by side."""
        h = self.join(x, output, "image_and_output")
        h = convolution(2, 64, 3, name="final_conv1", dtype=self.policy)(h)
        h = layer_normalization(epsilon=self.norm_epsilon, name="final_norm_conv", dtype=self.policy)(h)
        h = keras.layers.Activation(self.activation, name="final_act", dtype=self.policy)(h)
        options = {"kernel_initializer": "zeros", "name": "final_conv2", "dtype": self.wide}
        return convolution(2, self.channels_out, 3, **options)(h)
