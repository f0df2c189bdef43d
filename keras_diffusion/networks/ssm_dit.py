"""A diffusion transformer most of whose blocks walk along the patches instead of comparing all with all.

    x ── patches + positions ── [SSMDiTBlock | DiTBlock] × layers ── norm, dense ── patches laid out
    e = noise level, class, mean of the context ──┘ (AdaLN-Zero in every block)

A state space costs as much per patch in a large image as in a small one; a few blocks of attention in between let
distant patches meet. What is near in the image should be near in the sequence: the Hilbert order does that best. The
pattern is given as a ratio, "3:1" for three state spaces, then one attention, and so on.

Ours are: the continuous Hilbert order on any rectangle, spatial fusion on any rectangle, dropout and labels. The rest
follows FlaxDiff.

References: Smith, Warrington & Linderman, "Simplified state space layers for sequence modeling", arXiv:2208.04933;
FlaxDiff, `models/ssm_dit.py`.
"""

import keras

from keras_diffusion.layers.dit_block import DiTBlock
from keras_diffusion.layers.ssm_block import SSMDiTBlock
from keras_diffusion.networks.network import Network, networks, wide_dtype
from keras_diffusion.networks.transformer import begin, embed_context, embed_noise_level, embed_patches, finish


@networks.register("ssm_dit")
class HybridSSMAttentionDiT(Network):
    """Diffusion transformer of state spaces and attention, for images (H, W, C).

    Args:
        input_shape: `(H, W, C)`; H and W multiples of `patch_size`, or None for any such size.
        patch_size: side of a patch, in pixels. Default 16.
        emb_features: size of a token; a multiple of 4 with `sincos_position`. Default 768.
        num_layers: number of blocks. Default 12.
        num_heads: attention heads. Default 12.
        head_dim: channels per head; None (default) for `emb_features` divided by `num_heads`, rounded down.
        mlp_ratio: width of the feed-forward steps, in tokens. Default 4.
        ssm_state_dim: complex states of each state space. Default 64.
        ssm_attention_ratio: "a:b" for a state spaces, then b attentions, over and over (default "3:1"), "all-ssm" or
            "all-attn".
        block_pattern: the kind of each block, "ssm" or "attn", instead of a ratio; as many as `num_layers`. Default
            None.
        bidirectional_ssm: whether state spaces run in both directions. Default True.
        use_2d_fusion: whether neighbours in the image exchange what the state spaces say; see `layers.ssm_block`.
            Default False.
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
        seed: int or None; of dropout.

    Call arguments:
        inputs: dict: "x" `(B, *input_shape)`, "noise_level" `(B,)`, "labels" `(B,)` with `num_classes`, "context" `(B,
            M, D)` with `context_dim`, "concat" `(B, H, W, concat_channels)` with `concat_channels`.
        training: whether dropout drops.

    Returns:
        `(B, H, W, out_channels)`, with `learn_sigma` 2 × `out_channels`; float32 under mixed precision.

    Raises:
        ValueError: `input_shape` of another rank than 3, or of a size that patches do not divide; sizes < 1; a pattern
            that cannot be; unknown order or time embedding; `dropout` outside [0, 1).

    Example:

    >>> network = HybridSSMAttentionDiT((16, 24, 3), patch_size=4, emb_features=32, num_layers=4, num_heads=4, ssm_state_dim=8)
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
        ssm_state_dim=64,
        ssm_attention_ratio="3:1",
        block_pattern=None,
        bidirectional_ssm=True,
        use_2d_fusion=False,
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
        name="ssm_dit",
        trainable=True,
        dtype=None,
    ):
        policy = keras.dtype_policies.get(dtype)
        sizes = {
            "emb_features": emb_features,
            "num_layers": num_layers,
            "num_heads": num_heads,
            "ssm_state_dim": ssm_state_dim,
        }
        sizes["concat_channels"] = concat_channels
        inputs = begin(
            "HybridSSMAttentionDiT",
            input_shape,
            patch_size,
            patch_order,
            dropout,
            num_classes,
            context_dim,
            policy,
            **sizes,
        )
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
        shared = {
            "mlp_ratio": mlp_ratio,
            "norm_epsilon": norm_epsilon,
            "dropout": dropout,
            "remat": remat,
            "seed": seed,
            "dtype": policy,
        }
        attention = {
            "num_heads": num_heads,
            "head_dim": head_dim,
            "rotary": patch_order == "raster" if rotary is None else rotary,
            "flash_attention": flash_attention,
        }
        fusion = {"spatial_fusion": use_2d_fusion, "order": patch_order, "patch_size": patch_size}
        for i, kind in enumerate(block_kinds(num_layers, ssm_attention_ratio, block_pattern)):
            if kind == "attn":
                tokens = DiTBlock(**attention, **shared, name=f"dit_block_{i}")(tokens, [condition])
                continue
            block = SSMDiTBlock(ssm_state_dim, bidirectional_ssm, **fusion, **shared, name=f"ssm_block_{i}")
            tokens = block(tokens, [condition], image=inputs["x"]) if use_2d_fusion else block(tokens, [condition])
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
            "ssm_state_dim": ssm_state_dim,
            "ssm_attention_ratio": ssm_attention_ratio,
            "block_pattern": None if block_pattern is None else list(block_pattern),
            "bidirectional_ssm": bidirectional_ssm,
            "use_2d_fusion": use_2d_fusion,
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


def block_kinds(num_layers, ratio, pattern):
    """The kind of each block, a list of "ssm" and "attn".

    Args:
        num_layers: number of blocks.
        ratio: "a:b", "all-ssm" or "all-attn".
        pattern: list of kinds, or None.

    Raises:
        ValueError: another ratio; a pattern of another length, or with another kind in it.
    """
    if pattern is not None:
        if len(pattern) != num_layers or set(pattern) - {"ssm", "attn"}:
            raise ValueError(
                f"`block_pattern` names the kind of each of the {num_layers} blocks, 'ssm' or 'attn'. Received: "
                f"{list(pattern)}"
            )
        return list(pattern)
    if ratio in ("all-ssm", "all-attn"):
        return [ratio.removeprefix("all-")] * num_layers
    parts = ratio.split(":") if isinstance(ratio, str) else []
    if len(parts) != 2 or not all(part.isdecimal() for part in parts) or not any(int(part) for part in parts):
        raise ValueError(
            f"`ssm_attention_ratio` is 'a:b', for a state spaces and then b attentions, 'all-ssm' or 'all-attn'. "
            f"Received: {ratio!r}"
        )
    unit = ["ssm"] * int(parts[0]) + ["attn"] * int(parts[1])
    return [unit[i % len(unit)] for i in range(num_layers)]
