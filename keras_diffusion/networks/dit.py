"""The diffusion transformer: patches of the image as tokens, blocks of attention that the condition steers.

    x ── patches + positions ── [DiTBlock] × layers ── norm, dense ── patches laid out
    e = noise level, class, mean of the context ──┘ (AdaLN-Zero in every block)

No convolutions and no resolutions: all tokens see each other at every depth, so the cost grows with the square of their
number; the patch size sets it.

Positions are given twice: by sines and cosines of row and column, and, in raster order, by rotary embeddings in
attention.

References: Peebles & Xie, "Scalable diffusion models with transformers", arXiv:2212.09748; FlaxDiff,
`models/simple_dit.py`.
"""

from keras_diffusion.networks.network import NETWORKS
from keras_diffusion.networks.transformer import PatchTransformer


@NETWORKS.register("dit")
class SimpleDiT(PatchTransformer):
    """Diffusion transformer with AdaLN-Zero for images (H, W, C).

    Args:
        input_shape: `(H, W, C)`; H and W multiples of `patch_size`, or None for any such size.
        patch_size: side of a patch, in pixels. Default 16.
        emb_features: size of a token; a multiple of 4 with `sincos_position`. Default 768.
        num_layers: number of blocks. Default 12.
        num_heads: attention heads. Default 12.
        head_dim: channels per head; None (default) for `emb_features` divided by `num_heads`, rounded down.
        mlp_ratio: width of the feed-forward steps, in tokens. Default 4.
        num_classes: number of classes, or None (default) for a network without labels.
        context_dim: size of the context's vectors, or None (default). Their mean enters the condition.
        out_channels: channels of the output; None (default) for as many as the input.
        learn_sigma: whether the output has a second image behind the first, in its channels, for a variance. Default
            False.
        patch_order: "raster" (default), "zigzag", "hilbert" or "hilbert_cropped"; see `layers.patch_order`.
        sincos_position: whether sines and cosines of row and column are added to the tokens. Default True.
        rotary: whether attention turns queries and keys by their place in the sequence; None (default): in raster order
            only.
        norm_epsilon: added to the variance. Default 1e-5.
        dropout: share of each branch's output that training sets to 0, in [0, 1). Default 0.
        time_embedding: "fourier" (default) or "sinusoidal"; or "flax_partitionable" or "flax_original" for old weights.
        time_scale: scale of the embedding's frequencies; None (default) fits log(σ/α)/4: 1 for "fourier", 250 for
            "sinusoidal".
        flash_attention: None (default: where Keras finds a fused kernel), True or False.
        remat: whether training computes blocks again on the way back, instead of remembering them: memory for time.
            Default False.
        flaxdiff_compatible: whether the second image of `learn_sigma` is computed and dropped, as FlaxDiff does.
            Default False.
        concat_channels: channels of "concat", what is known beside x; 0 (default) for a network without. Patches are of
            C + concat_channels channels, the output has those of x.
        augmentation_dim: length of the vectors that say how training pictures were changed, such as 9 for
            `data.NonLeaking`; None (default) for a network that is not told.
        seed: int or None; of dropout.

    Call arguments:
        inputs: dict: "x" `(B, *input_shape)`, "noise_level" `(B,)`, "labels" `(B,)` with `num_classes`, "context" `(B,
            M, D)` with `context_dim`, "concat" `(B, H, W, concat_channels)` with `concat_channels`, "augmentation" `(B,
            augmentation_dim)` with `augmentation_dim`.
        training: whether dropout drops.

    Returns:
        `(B, H, W, out_channels)`, with `learn_sigma` 2 × `out_channels`; float32 under mixed precision.

    Raises:
        ValueError: `input_shape` of another rank than 3, or of a size that patches do not divide; sizes < 1; unknown
            order or time embedding; `dropout` outside [0, 1).

    Example:

    >>> network = SimpleDiT((16, 24, 3), patch_size=4, emb_features=32, num_layers=2, num_heads=4)
    >>> network({"x": keras.ops.ones((2, 16, 24, 3)), "noise_level": keras.ops.zeros((2,))}).shape
    (2, 16, 24, 3)

    Reference:
        Peebles & Xie 2022, arXiv:2212.09748.
    """

    default_name = "dit"

    def __init__(
        self,
        input_shape,
        patch_size=16,
        emb_features=768,
        num_layers=12,
        num_heads=12,
        head_dim=None,
        mlp_ratio=4,
        num_classes=None,
        context_dim=None,
        out_channels=None,
        learn_sigma=False,
        patch_order="raster",
        sincos_position=True,
        rotary=None,
        norm_epsilon=1e-5,
        dropout=0.0,
        time_embedding="fourier",
        time_scale=None,
        flash_attention=None,
        remat=False,
        flaxdiff_compatible=False,
        seed=None,
        concat_channels=0,
        augmentation_dim=None,
        name=None,
        trainable=True,
        dtype=None,
    ):
        super().__init__(name or self.default_name, trainable, dtype)

    def graph(self, inputs):
        condition = self.condition(inputs)
        tokens = self.embed_patches(inputs, self.emb_features)
        for i in range(self.num_layers):
            tokens = self.dit_block(f"dit_block_{i}")(tokens, condition)
        return self.to_image(tokens, inputs)
