"""A diffusion transformer in the shape of a U: what the first half of the blocks makes, the second half gets to see
again.

    x ── patches + positions ─ [DiTBlock] × L/2 ─ DiTBlock ── [concat skip, Dense, DiTBlock] × L/2 ─ norm, dense ─ image
                                      └─────────────── skips ───────────┘
    e = noise level, class, mean of the context, in every block (AdaLN-Zero)

All blocks work on the same tokens: it is a U in its connections only. The long ones bring what a late block needs of
the fine structure past the middle.

References: Bao et al., "All are worth words: a ViT backbone for diffusion models", arXiv:2209.12152 (the skips);
Peebles & Xie, "Scalable diffusion models with transformers", arXiv:2212.09748 (the blocks); FlaxDiff,
`models/simple_vit.py`.
"""

from keras_diffusion.networks.dit import SimpleDiT
from keras_diffusion.networks.network import NETWORKS


@NETWORKS.register("udit")
class SimpleUDiT(SimpleDiT):
    """Diffusion transformer with AdaLN-Zero and long skips, for images (H, W, C).

    Arguments, inputs and output are those of `SimpleDiT`, but for:

    Args:
        num_layers: number of blocks beside the middle one, even. Default 12.
        sincos_position: default True; FlaxDiff: False.
        rotary: None (default): in raster order only; FlaxDiff: True.

    Raises:
        ValueError: `num_layers` odd, and what `SimpleDiT` raises.

    Example:

    >>> network = SimpleUDiT((16, 24, 3), patch_size=4, emb_features=32, num_layers=2, num_heads=4)
    >>> network({"x": keras.ops.ones((2, 16, 24, 3)), "noise_level": keras.ops.zeros((2,))}).shape
    (2, 16, 24, 3)

    Reference:
        Bao et al. 2022, arXiv:2209.12152 (skips); Peebles & Xie 2022, arXiv:2212.09748 (blocks).
    """

    default_name = "udit"
    even_layers = True

    def graph(self, inputs):
        condition = self.condition(inputs)
        tokens = self.embed_patches(inputs, self.emb_features)
        tokens = self.u_shape(tokens, lambda tokens, name: self.dit_block(name)(tokens, condition))
        return self.to_image(tokens, inputs)
