"""U-ViT: everything is a token, also the noise level and the words of the text.

    [patches + positions, noise level and class, text] ── [UViTBlock] × L/2 ── UViTBlock ── [concat skip, Dense, UViTBlock] × L/2
                                                                └──────────────── skips ───────────┘
    the patches' tokens ── norm, dense ── patches laid out ── (two convolutions on [x, that])

Repaired, against FlaxDiff's class of that name: keys and values are normalized like queries (`flaxdiff_compatible`
takes them raw), blocks add to what enters once (`explicitly_add_residual` adds it twice), and an order of the patches
is undone as often as it is applied (`flaxdiff_compatible`: applied twice, undone once).

References: Bao et al., "All are worth words: a ViT backbone for diffusion models", arXiv:2209.12152; FlaxDiff,
`models/simple_vit.py`.
"""

import keras

from keras_diffusion.layers.options import (
    activation_config,
    convolution,
    get_activation,
    layer_normalization,
    unbuilt_dense,
)
from keras_diffusion.layers.patches import patch_grid
from keras_diffusion.layers.position import LearnedPosition
from keras_diffusion.layers.uvit_block import UViTBlock
from keras_diffusion.networks.network import Network, networks, wide_dtype
from keras_diffusion.networks.transformer import begin, check_even, embed_noise_level, embed_patches, finish, u_shape


@networks.register("uvit")
class UViT(Network):
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
        dropout: share of each branch's output that training sets to 0, in [0, 1). Default 0.
        time_embedding: "fourier" (default) or "sinusoidal"; or "flax_partitionable" or "flax_original" for old weights.
        time_scale: scale of the embedding's frequencies; None (default) fits log(σ/α)/4: 1 for "fourier", 250 for
            "sinusoidal".
        flash_attention: None (default: where Keras finds a fused kernel), True or False.
        remat: whether training computes blocks again on the way back, instead of remembering them: memory for time.
            Default False.
        flaxdiff_compatible: whether keys, values and the order of patches are FlaxDiff's; see the module. Default
            False.
        concat_channels: channels of "concat", what is known beside x; 0 (default) for a network without. Patches are of
            C + concat_channels channels, the output has those of x.
        seed: int or None; of dropout.

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
    """

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
        policy = keras.dtype_policies.get(dtype)
        sizes = {"emb_features": emb_features, "num_layers": num_layers, "num_heads": num_heads}
        sizes["concat_channels"] = concat_channels
        inputs = begin("UViT", input_shape, patch_size, patch_order, dropout, num_classes, context_dim, policy, **sizes)
        check_even(num_layers)
        act = get_activation(activation)
        grid = patch_grid(input_shape[:2], patch_size)
        if max_tokens is None and None in grid:
            raise ValueError(
                f"Each patch has a row in the table of positions. Received: input_shape={tuple(input_shape)} without "
                f"`max_tokens`. Give a "
                "size, or `max_tokens`"
            )
        rows = grid[0] * grid[1] if max_tokens is None else max_tokens
        times = 2 if flaxdiff_compatible else 1
        tokens = embed_patches(inputs, patch_size, emb_features, policy, order=patch_order, times=times)
        tokens = LearnedPosition(rows, name="pos_encoding", dtype=policy)(tokens)
        time = embed_noise_level(
            inputs, emb_features, emb_features, None, time_embedding, time_scale, num_classes, policy
        )
        parts = [tokens, keras.layers.Reshape((1, emb_features), name="time_token", dtype=policy)(time)]
        if context_dim is not None:
            parts.append(unbuilt_dense(emb_features, name="context_projection", dtype=policy)(inputs["context"]))
        tokens = keras.layers.Concatenate(axis=1, name="all_tokens", dtype=policy)(parts)
        options = {
            "num_heads": num_heads,
            "head_dim": head_dim,
            "double_attention": use_self_and_cross,
            "norm_inputs": norm_inputs,
            "use_projection": use_projection,
            "outer_residual": explicitly_add_residual,
            "raw_keys": flaxdiff_compatible,
            "norm_epsilon": norm_epsilon,
            "flash_attention": flash_attention,
            "dropout": dropout,
            "remat": remat,
            "seed": seed,
        }

        def block(tokens, name):
            return UViTBlock(**options, name=name, dtype=policy)(tokens)

        tokens = u_shape(tokens, num_layers, block, emb_features, policy)
        channels = input_shape[-1] if out_channels is None else out_channels
        output = finish(tokens, inputs, patch_size, channels, patch_order, False, False, norm_epsilon, policy)
        if add_residualblock_output:
            h = keras.layers.Concatenate(name="image_and_output", dtype=policy)([inputs["x"], output])
            h = convolution(2, 64, 3, name="final_conv1", dtype=policy)(h)
            h = layer_normalization(epsilon=norm_epsilon, name="final_norm_conv", dtype=policy)(h)
            h = keras.layers.Activation(act, name="final_act", dtype=policy)(h)
            output = convolution(
                2, channels, 3, kernel_initializer="zeros", name="final_conv2", dtype=wide_dtype(policy)
            )(h)

        arguments = {
            "input_shape": list(input_shape),
            "patch_size": patch_size,
            "emb_features": emb_features,
            "num_layers": num_layers,
            "num_heads": num_heads,
            "head_dim": head_dim,
            "num_classes": num_classes,
            "context_dim": context_dim,
            "out_channels": out_channels,
            "patch_order": patch_order,
            "max_tokens": max_tokens,
            "use_projection": use_projection,
            "use_self_and_cross": use_self_and_cross,
            "norm_inputs": norm_inputs,
            "explicitly_add_residual": explicitly_add_residual,
            "add_residualblock_output": add_residualblock_output,
            "activation": activation_config(act),
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
