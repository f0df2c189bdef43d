"""The MMDiT at several resolutions: blocks on fine tokens, on merged ones, and back, with skips between equal
resolutions.

    stage 0   patches ── blocks ──┬────────────── skip ────────────── concat, norm, dense ─ blocks ─ norm, dense ─ image
                                merge                                         expand
    stage 1                       └─ blocks ─┬──── skip ─── concat, …  blocks ──┘
                                           merge             expand
    stage 2                                  └──── blocks ─────┘

Each stage has its own width, its own number of blocks (as many on the way down as on the way up; the coarsest stage has
them once), and its own projections of noise level and text. Blocks are those of `SimpleMMDiT`.

With patches in another order than raster, FlaxDiff merged neighbours of the sequence as if they were neighbours on the
grid. Here they are laid out on the grid first; `flaxdiff_compatible` brings the old arithmetic back.

References: Liu et al., "Swin transformer", arXiv:2103.14030 (merging); FlaxDiff, `models/simple_mmdit.py`.
"""

from keras_diffusion.layers.options import layer_normalization, unbuilt_dense
from keras_diffusion.layers.patch_pyramid import PatchExpanding, PatchMerging
from keras_diffusion.networks.network import NETWORKS, check_positive_int
from keras_diffusion.networks.transformer import PatchTransformer


@NETWORKS.register("hierarchical_mmdit")
class HierarchicalMMDiT(PatchTransformer):
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
        patch_order, norm_epsilon, dropout, time_embedding, time_scale, flash_attention, remat, concat_channels, seed:
            as in `SimpleDiT`.
        sincos_position, rotary, flaxdiff_compatible: as in `SimpleMMDiT`.

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
    >>> inputs = {"x": keras.ops.ones((2, 16, 24, 3)), "noise_level": keras.ops.zeros((2,))}
    >>> network({**inputs, "context": keras.ops.ones((2, 5, 8))}).shape
    (2, 16, 24, 3)

    Reference:
        FlaxDiff, `models/simple_mmdit.py`; merging: Liu et al. 2021, arXiv:2103.14030.
    """

    needs_context = True
    sizes = ()

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
        self._stages = _stages(emb_features, num_layers, num_heads, head_dim)
        super().__init__(name, trainable, dtype)

    def check_patches(self, multiple=1):
        super().check_patches(2 ** (len(self._stages) - 1))
        for name in ("emb_features", "num_layers", "num_heads"):
            check_positive_int(**{f"{name}[{i}]": stage[name] for i, stage in enumerate(self._stages)})

    @property
    def patch_size(self):
        """Side of a patch of the finest stage."""
        return self.base_patch_size

    def graph(self, inputs):
        conditions = self._conditions_of_stages(inputs)
        tokens = self.embed_patches(inputs, self.emb_features[0])
        tokens, skips = self._merge(tokens, inputs, conditions)
        tokens = self._expand(tokens, skips, inputs, conditions)
        return self.to_image(tokens, inputs)

    def _conditions_of_stages(self, inputs):
        """Noise level and context as vectors of each stage's size."""
        time, context = self.conditions(inputs, self.emb_features[-1])
        return [
            [
                unbuilt_dense(width, name=f"t_emb_proj_stage{i}", dtype=self.wide)(time),
                unbuilt_dense(width, name=f"text_emb_proj_stage{i}", dtype=self.wide)(context),
            ]
            for i, width in enumerate(self.emb_features)
        ]

    def _merge(self, tokens, inputs, conditions):
        """From the finest stage to the coarsest."""
        skips = []
        for i in range(len(self._stages)):
            tokens = self._blocks(tokens, i, "encoder", conditions)
            if i < len(self._stages) - 1:
                skips.append(tokens)
                merge = PatchMerging(self.emb_features[i + 1], name=f"patch_merger_{i}", **self._grid(i))
                tokens = merge(tokens, inputs["x"])
        return tokens, skips

    def _expand(self, tokens, skips, inputs, conditions):
        """Back from the coarsest stage to the finest."""
        for i in reversed(range(len(self._stages) - 1)):
            expand = PatchExpanding(self.emb_features[i], name=f"patch_expander_{i}", **self._grid(i))
            tokens = self.join(expand(tokens, inputs["x"]), skips[i], f"fusion_concat_{i}")
            norm = layer_normalization(epsilon=self.norm_epsilon, name=f"fusion_norm_{i}", dtype=self.policy)
            tokens = unbuilt_dense(self.emb_features[i], name=f"fusion_dense_{i}", dtype=self.policy)(norm(tokens))
            tokens = self._blocks(tokens, i, "decoder", conditions)
        return tokens

    def _blocks(self, tokens, i, way, conditions):
        stage = self._stages[i]
        options = {
            "num_heads": stage["num_heads"],
            "head_dim": stage["head_dim"],
            "conditions": ("time", "context"),
            "parallel": self.flaxdiff_compatible,
        }
        for j in range(stage["num_layers"]):
            tokens = self.dit_block(f"{way}_block_stage{i}_{j}", **options)(tokens, conditions[i])
        return tokens

    def _grid(self, i):
        """What merging and expanding between the stages i and i + 1 know of the patches."""
        order = "raster" if self.flaxdiff_compatible else self.patch_order
        return self.passed("norm_epsilon", patch_size=self.base_patch_size * 2**i, order=order)


def _stages(emb_features, num_layers, num_heads, head_dim):
    """The arguments of each stage, a list of dicts."""
    given = {
        "emb_features": emb_features,
        "num_layers": num_layers,
        "num_heads": num_heads,
        "head_dim": (None,) * len(emb_features) if head_dim is None else head_dim,
    }
    if len({len(value) for value in given.values()}) != 1 or not len(emb_features):
        received = ", ".join(f"{key}={tuple(value)}" for key, value in given.items())
        raise ValueError(
            "Each stage has one entry in each of emb_features, num_layers, "
            f"num_heads and head_dim. Received: {received}"
        )
    return [dict(zip(given, values)) for values in zip(*given.values())]
