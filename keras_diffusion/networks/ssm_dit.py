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

from keras_diffusion.layers.ssm_block import SSMDiTBlock
from keras_diffusion.networks.network import NETWORKS
from keras_diffusion.networks.transformer import PatchTransformer


@NETWORKS.register("ssm_dit")
class HybridSSMAttentionDiT(PatchTransformer):
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
        patch_order, sincos_position, rotary, norm_epsilon, dropout, time_embedding, time_scale, flash_attention, remat,
            flaxdiff_compatible, concat_channels, seed: as in `SimpleDiT`.

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

    >>> sizes = {"emb_features": 32, "num_layers": 4, "num_heads": 4, "ssm_state_dim": 8}
    >>> network = HybridSSMAttentionDiT((16, 24, 3), patch_size=4, **sizes)
    >>> network({"x": keras.ops.ones((2, 16, 24, 3)), "noise_level": keras.ops.zeros((2,))}).shape
    (2, 16, 24, 3)

    Reference:
        FlaxDiff, `models/ssm_dit.py`; state spaces: Smith et al. 2022, arXiv:2208.04933.
    """

    sizes = (*PatchTransformer.sizes, "ssm_state_dim")

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
        super().__init__(name, trainable, dtype)

    def graph(self, inputs):
        condition = self.condition(inputs)
        tokens = self.embed_patches(inputs, self.emb_features)
        for i, kind in enumerate(block_kinds(self.num_layers, self.ssm_attention_ratio, self.block_pattern)):
            if kind == "attn":
                tokens = self.dit_block(f"dit_block_{i}")(tokens, condition)
            else:
                image = {"image": inputs["x"]} if self.use_2d_fusion else {}
                tokens = self._ssm_block(f"ssm_block_{i}")(tokens, condition, **image)
        return self.to_image(tokens, inputs)

    def _ssm_block(self, name):
        options = self.passed("patch_size", "mlp_ratio", "norm_epsilon", "dropout", "remat", "seed")
        fusion = {"spatial_fusion": self.use_2d_fusion, "order": self.patch_order}
        return SSMDiTBlock(self.ssm_state_dim, self.bidirectional_ssm, name=name, **fusion, **options)


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
                f"`block_pattern` names the kind of each of the {num_layers} blocks, "
                f"'ssm' or 'attn'. Received: {list(pattern)}"
            )
        return list(pattern)
    if ratio in ("all-ssm", "all-attn"):
        return [ratio.removeprefix("all-")] * num_layers
    parts = ratio.split(":") if isinstance(ratio, str) else []
    if len(parts) != 2 or not all(part.isdecimal() for part in parts) or not any(int(part) for part in parts):
        raise ValueError(
            "`ssm_attention_ratio` is 'a:b', for a state spaces and then b attentions, "
            f"'all-ssm' or 'all-attn'. Received: {ratio!r}"
        )
    unit = ["ssm"] * int(parts[0]) + ["attn"] * int(parts[1])
    return [unit[i % len(unit)] for i in range(num_layers)]
