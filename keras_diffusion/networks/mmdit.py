"""A diffusion transformer that keeps noise level and text apart: each steers every block by a projection of its own.

    x ── patches + positions ── [DiTBlock] × layers ── norm, dense ── patches laid out
    (s, b, g) = W_t·(noise level, class) + W_c·(mean of the context)          in every block

FlaxDiff calls it MMDiT. It is not the MMDiT of Stable Diffusion 3, where text tokens attend together with the patches.

FlaxDiff's block lets the feed-forward branch see the block's input instead of what attention made of it, and clips its
scale and shift to ±10. Here the branches follow each other and nothing is clipped; `flaxdiff_compatible` brings the old
arithmetic back.

References: Peebles & Xie, "Scalable diffusion models with transformers", arXiv:2212.09748; FlaxDiff,
`models/simple_mmdit.py`.
"""

from keras_diffusion.networks.dit import SimpleDiT
from keras_diffusion.networks.network import NETWORKS


@NETWORKS.register("mmdit")
class SimpleMMDiT(SimpleDiT):
    """Diffusion transformer with separate modulations for noise level and text, for images (H, W, C).

    Arguments, inputs and output are those of `SimpleDiT`, but for:

    Args:
        context_dim: size of the context's vectors. There must be one.
        sincos_position: default True; FlaxDiff: False.
        rotary: None (default): in raster order only; FlaxDiff: True.
        flaxdiff_compatible: whether blocks compute as FlaxDiff's do, and the second image of `learn_sigma` is computed
            and dropped. Default False.

    Raises:
        ValueError: no `context_dim`, and what `SimpleDiT` raises.

    Example:

    >>> network = SimpleMMDiT((16, 24, 3), patch_size=4, emb_features=32, num_layers=2, num_heads=4, context_dim=8)
    >>> inputs = {"x": keras.ops.ones((2, 16, 24, 3)), "noise_level": keras.ops.zeros((2,))}
    >>> network({**inputs, "context": keras.ops.ones((2, 5, 8))}).shape
    (2, 16, 24, 3)

    Reference:
        Peebles & Xie 2022, arXiv:2212.09748; FlaxDiff, `models/simple_mmdit.py`.
    """

    default_name = "mmdit"
    needs_context = True

    def graph(self, inputs):
        conditions = self.conditions(inputs, self.emb_features)
        tokens = self.embed_patches(inputs, self.emb_features)
        options = {"conditions": ("time", "context"), "parallel": self.flaxdiff_compatible}
        for i in range(self.num_layers):
            tokens = self.dit_block(f"mmdit_block_{i}", **options)(tokens, conditions)
        return self.to_image(tokens, inputs)
