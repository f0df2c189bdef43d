"""The MMDiT at several resolutions: blocks on fine tokens, on merged ones, and back, with skips between equal
resolutions.

    stage 0   patches ── blocks ──┬────────────── skip ─────────────── concat, norm, dense ── blocks ── norm, dense ── patches laid out
                                merge                                          expand
    stage 1                       └─ blocks ─┬──── skip ──── concat, …  blocks ──┘
                                           merge              expand
    stage 2                                  └──── blocks ──────┘

Each stage has its own width, its own number of blocks (as many on the way down as on the way up; the coarsest stage has
them once), and its own projections of noise level and text. Blocks are those of `SimpleMMDiT`.

With patches in another order than raster, FlaxDiff merged neighbours of the sequence as if they were neighbours on the
grid. Here they are laid out on the grid first; `flaxdiff_compatible` brings the old arithmetic back.

References: Liu et al., "Swin transformer", arXiv:2103.14030 (merging); FlaxDiff, `models/simple_mmdit.py`.
"""

import keras

from keras_diffusion.layers.dit_block import DiTBlock
from keras_diffusion.layers.options import layer_normalization, unbuilt_dense
from keras_diffusion.layers.patch_pyramid import PatchExpanding, PatchMerging
from keras_diffusion.networks.network import Network, networks, wide_dtype
from keras_diffusion.networks.transformer import begin, embed_context, embed_noise_level, embed_patches, finish


@networks.register("hierarchical_mmdit")
class HierarchicalMMDiT(Network):
    """MMDiT at several resolutions, for images (H, W, C).

    Args:
        input_shape: `(H, W, C)`; H and W multiples of `base_patch_size`·2^(stages − 1), or None for any such size.
        base_patch_size: side of a patch of the finest stage, in pixels. Default 8.
        emb_features: size of a token in each stage, finest first; the first a multiple of 4 with `sincos_position`.
            Default (512, 768, 1024).
        num_layers: number of blocks of each stage, on each way. Default (4, 4, 14).
        num_heads: attention heads of each stage. Default (8, 12, 16).
        head_dim: channels per head of each stage; None (default) for `emb_features` divided by `num_heads`, rounded
            down.
        mlp_ratio: width of the feed-forward steps, in tokens. Default 4.
        num_classes: number of classes, or None (default) for a network without labels.
        context_dim: size of the context's vectors. There must be one.
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
        flaxdiff_compatible: whether blocks compute as FlaxDiff's do, and the second image of `learn_sigma` is computed
            and dropped. Default False.
        concat_channels: channels of "concat", what is known beside x; 0 (default) for a network without. Patches are of
            C + concat_channels channels, the output has those of x.
        seed: int or None; of dropout.

    Call arguments:
        inputs: dict: "x" `(B, *input_shape)`, "noise_level" `(B,)`, "labels" `(B,)` with `num_classes`, "context"
            `(B, M, context_dim)`, "concat" `(B, H, W, concat_channels)` with `concat_channels`.
        training: whether dropout drops.

    Returns:
        `(B, H, W, out_channels)`, with `learn_sigma` 2 × `out_channels`; float32 under mixed precision.

    Raises:
        ValueError: `input_shape` of another rank than 3, or of a size that patches do not divide; sizes < 1; tuples of
            different lengths; no `context_dim`; unknown order or time embedding; `dropout` outside [0, 1).

    Example:

    >>> stages = {"emb_features": (16, 32), "num_layers": (1, 2), "num_heads": (2, 4)}
    >>> network = HierarchicalMMDiT((16, 24, 3), base_patch_size=2, context_dim=8, **stages)
    >>> network({"x": keras.ops.ones((2, 16, 24, 3)), "noise_level": keras.ops.zeros((2,)), "context": keras.ops.ones((2, 5, 8))}).shape
    (2, 16, 24, 3)
    """

    def __init__(
        self,
        input_shape,
        base_patch_size=8,
        emb_features=(512, 768, 1024),
        num_layers=(4, 4, 14),
        num_heads=(8, 12, 16),
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
        name="hierarchical_mmdit",
        trainable=True,
        dtype=None,
    ):
        policy = keras.dtype_policies.get(dtype)
        stages = _stages(emb_features, num_layers, num_heads, head_dim)
        coarsest = 2 ** (len(stages) - 1)
        sizes = {
            f"{key}[{i}]": stage[key]
            for i, stage in enumerate(stages)
            for key in ("emb_features", "num_layers", "num_heads")
        }
        sizes |= {"multiple": coarsest, "needs_context": True}
        sizes["concat_channels"] = concat_channels
        inputs = begin(
            "HierarchicalMMDiT",
            input_shape,
            base_patch_size,
            patch_order,
            dropout,
            num_classes,
            context_dim,
            policy,
            **sizes,
        )
        widest = emb_features[-1]
        time = embed_noise_level(
            inputs, widest, int(widest * mlp_ratio), widest, time_embedding, time_scale, num_classes, policy
        )
        context = embed_context(inputs, widest, policy)
        wide = wide_dtype(policy)
        conditions = [
            [
                unbuilt_dense(width, name=f"t_emb_proj_stage{i}", dtype=wide)(time),
                unbuilt_dense(width, name=f"text_emb_proj_stage{i}", dtype=wide)(context),
            ]
            for i, width in enumerate(emb_features)
        ]
        options = {
            "mlp_ratio": mlp_ratio,
            "rotary": patch_order == "raster" if rotary is None else rotary,
            "conditions": ("time", "context"),
            "parallel": flaxdiff_compatible,
            "norm_epsilon": norm_epsilon,
            "flash_attention": flash_attention,
            "dropout": dropout,
            "remat": remat,
            "seed": seed,
        }
        pyramid = {
            "order": "raster" if flaxdiff_compatible else patch_order,
            "norm_epsilon": norm_epsilon,
            "dtype": policy,
        }

        def blocks(tokens, i, way):
            heads = {"num_heads": stages[i]["num_heads"], "head_dim": stages[i]["head_dim"]}
            for j in range(stages[i]["num_layers"]):
                tokens = DiTBlock(**heads, **options, name=f"{way}_block_stage{i}_{j}", dtype=policy)(
                    tokens, conditions[i]
                )
            return tokens

        tokens = embed_patches(
            inputs, base_patch_size, emb_features[0], policy, order=patch_order, sincos_position=sincos_position
        )
        skips = []
        for i in range(len(stages)):
            tokens = blocks(tokens, i, "encoder")
            if i < len(stages) - 1:
                skips.append(tokens)
                merge = PatchMerging(emb_features[i + 1], base_patch_size * 2**i, name=f"patch_merger_{i}", **pyramid)
                tokens = merge(tokens, inputs["x"])
        for i in reversed(range(len(stages) - 1)):
            expand = PatchExpanding(emb_features[i], base_patch_size * 2**i, name=f"patch_expander_{i}", **pyramid)
            tokens = keras.layers.Concatenate(name=f"fusion_concat_{i}", dtype=policy)(
                [expand(tokens, inputs["x"]), skips[i]]
            )
            tokens = layer_normalization(epsilon=norm_epsilon, name=f"fusion_norm_{i}", dtype=policy)(tokens)
            tokens = unbuilt_dense(emb_features[i], name=f"fusion_dense_{i}", dtype=policy)(tokens)
            tokens = blocks(tokens, i, "decoder")
        channels = input_shape[-1] if out_channels is None else out_channels
        output = finish(
            tokens,
            inputs,
            base_patch_size,
            channels,
            patch_order,
            learn_sigma,
            flaxdiff_compatible,
            norm_epsilon,
            policy,
        )

        arguments = {
            "input_shape": list(input_shape),
            "base_patch_size": base_patch_size,
            "emb_features": list(emb_features),
            "num_layers": list(num_layers),
            "num_heads": list(num_heads),
            "head_dim": None if head_dim is None else list(head_dim),
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


def _stages(emb_features, num_layers, num_heads, head_dim):
    """The arguments of each stage, a list of dicts."""
    given = {"emb_features": emb_features, "num_layers": num_layers, "num_heads": num_heads}
    given["head_dim"] = (None,) * len(emb_features) if head_dim is None else head_dim
    if len({len(value) for value in given.values()}) != 1 or not len(emb_features):
        received = ", ".join(f"{key}={tuple(value)}" for key, value in given.items())
        raise ValueError(
            f"Each stage has one entry in each of emb_features, num_layers, num_heads and head_dim. Received: "
            f"{received}"
        )
    return [dict(zip(given, values)) for values in zip(*given.values())]
