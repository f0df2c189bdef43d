"""A diffusion transformer in the shape of a U: what the first half of the blocks makes, the second half gets to see
again.

    x ── patches + positions ── [DiTBlock] × L/2 ── DiTBlock ── [concat skip, Dense, DiTBlock] × L/2 ── norm, dense ── patches laid out
                                       └──────────────── skips ───────────┘
    e = noise level, class, mean of the context, in every block (AdaLN-Zero)

All blocks work on the same tokens: it is a U in its connections only. The long ones bring what a late block needs of
the fine structure past the middle.

References: Bao et al., "All are worth words: a ViT backbone for diffusion models", arXiv:2209.12152 (the skips);
Peebles & Xie, "Scalable diffusion models with transformers", arXiv:2212.09748 (the blocks); FlaxDiff,
`models/simple_vit.py`.
"""

import keras

from keras_diffusion.layers.dit_block import DiTBlock
from keras_diffusion.networks.network import Network, networks, wide_dtype
from keras_diffusion.networks.transformer import (
    begin,
    check_even,
    embed_context,
    embed_noise_level,
    embed_patches,
    finish,
    u_shape,
)


@networks.register("udit")
class SimpleUDiT(Network):
    """Diffusion transformer with AdaLN-Zero and long skips, for images (H, W, C).

    Args:
        input_shape: `(H, W, C)`; H and W multiples of `patch_size`, or None for any such size.
        patch_size: side of a patch, in pixels. Default 16.
        emb_features: size of a token; a multiple of 4 with `sincos_position`. Default 768.
        num_layers: number of blocks beside the middle one, even. Default 12.
        num_heads: attention heads. Default 12.
        head_dim: channels per head; None (default) for `emb_features` divided by `num_heads`, rounded down.
        mlp_ratio: width of the feed-forward steps, in tokens. Default 4.
        num_classes: number of classes, or None (default) for a network without labels.
        context_dim: size of the context's vectors, or None (default). Their mean enters the condition.
        out_channels: channels of the output; None (default) for as many as the input.
        learn_sigma: whether the output has a second image behind the first, in its channels, for a variance. Default
            False.
        patch_order: "raster" (default), "zigzag", "hilbert" or "hilbert_cropped"; see `layers.patch_order`.
        sincos_position: whether sines and cosines of row and column are added to the tokens. Default True; FlaxDiff:
            False.
        rotary: whether attention turns queries and keys by their place in the sequence; None (default): in raster order
            only; FlaxDiff: True.
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
        seed: int or None; of dropout.

    Call arguments:
        inputs: dict: "x" `(B, *input_shape)`, "noise_level" `(B,)`, "labels" `(B,)` with `num_classes`, "context" `(B,
            M, D)` with `context_dim`, "concat" `(B, H, W, concat_channels)` with `concat_channels`.
        training: whether dropout drops.

    Returns:
        `(B, H, W, out_channels)`, with `learn_sigma` 2 × `out_channels`; float32 under mixed precision.

    Raises:
        ValueError: `input_shape` of another rank than 3, or of a size that patches do not divide; sizes < 1;
            `num_layers` odd; unknown order or time embedding; `dropout` outside [0, 1).

    Example:

    >>> network = SimpleUDiT((16, 24, 3), patch_size=4, emb_features=32, num_layers=2, num_heads=4)
    >>> network({"x": keras.ops.ones((2, 16, 24, 3)), "noise_level": keras.ops.zeros((2,))}).shape
    (2, 16, 24, 3)
    """

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
        name="udit",
        trainable=True,
        dtype=None,
    ):
        policy = keras.dtype_policies.get(dtype)
        sizes = {"emb_features": emb_features, "num_layers": num_layers, "num_heads": num_heads}
        sizes["concat_channels"] = concat_channels
        inputs = begin(
            "SimpleUDiT", input_shape, patch_size, patch_order, dropout, num_classes, context_dim, policy, **sizes
        )
        check_even(num_layers)
        hidden = int(emb_features * mlp_ratio)
        condition = embed_noise_level(
            inputs, emb_features, hidden, emb_features, time_embedding, time_scale, num_classes, policy
        )
        if context_dim is not None:
            add = keras.layers.Add(name="time_and_context", dtype=wide_dtype(policy))
            condition = add([condition, embed_context(inputs, emb_features, policy)])
        tokens = embed_patches(
            inputs, patch_size, emb_features, policy, order=patch_order, sincos_position=sincos_position
        )
        options = {
            "num_heads": num_heads,
            "head_dim": head_dim,
            "mlp_ratio": mlp_ratio,
            "rotary": patch_order == "raster" if rotary is None else rotary,
            "norm_epsilon": norm_epsilon,
            "flash_attention": flash_attention,
            "dropout": dropout,
            "remat": remat,
            "seed": seed,
        }

        def block(tokens, name):
            return DiTBlock(**options, name=name, dtype=policy)(tokens, [condition])

        tokens = u_shape(tokens, num_layers, block, emb_features, policy)
        channels = input_shape[-1] if out_channels is None else out_channels
        output = finish(
            tokens, inputs, patch_size, channels, patch_order, learn_sigma, flaxdiff_compatible, norm_epsilon, policy
        )

        arguments = {
            "input_shape": list(input_shape),
            "patch_size": patch_size,
            "emb_features": emb_features,
            "num_layers": num_layers,
            "num_heads": num_heads,
            "head_dim": head_dim,
            "mlp_ratio": mlp_ratio,
            "num_classes": num_classes,
            "context_dim": context_dim,
            "out_channels": out_channels,
            "learn_sigma": learn_sigma,
            "patch_order": patch_order,
            "sincos_position": sincos_position,
            "rotary": rotary,
            "norm_epsilon": norm_epsilon,
            "dropout": dropout,
            "time_embedding": time_embedding,
            "time_scale": time_scale,
            "flash_attention": flash_attention,
            "remat": remat,
            "flaxdiff_compatible": flaxdiff_compatible,
            "seed": seed,
            "concat_channels": concat_channels,
        }
        super().__init__((inputs, output), arguments, policy, name=name, trainable=trainable)
