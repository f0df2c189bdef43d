"""EDM's U-Nets: DDPM++ and NCSN++ of the score SDEs, and ADM, all in one frame.

    x ─ conv ─┬─ level 0: (block, attention?) × n ─┬─ skips ─ (concat, block, attention?) × (n + 1) ─ norm, act, conv
              │  block that halves the size        │              block that doubles the size
              │  level 1: …                        │              …
              └─ middle: block, attention, block ──┘

                          "song": DDPM++          "song": NCSN++                        "adm"
    noise level           sinusoids               Gaussian frequencies, twice as many   sinusoids
    label                 added before the dense layers                                 after them
    e acts on blocks      as a shift                                                    as scale and shift
    sums are divided by   √2                                                            1
    attention             one head; upwards, in the last block of a level               64 channels a head; every block
    halving, doubling     [1, 1]                  [1, 3, 3, 1]                          [1, 1]
    way down              –                       the image, halved level by level,     –
                                                  joins as a second path ("residual")

The second path: p₀ = x, p_i = (h + smooth(p_(i − 1)))/√2 after the block that enters level i, and p_i goes on as h,
too.

Numbers of groups, epsilons and heads are EDM's. Its labels of augmentations, which are zeros in sampling, are left out.

References: Karras et al. 2022, arXiv:2206.00364, table 8; Song et al. 2021, arXiv:2011.13456, appendix H; Dhariwal &
Nichol 2021, arXiv:2105.05233.
"""

import math

import keras

from keras_diffusion.configs.checks import check_choice
from keras_diffusion.layers import AttentionBlock, EDMBlock, FourierEmbedding, SmoothDownsample
from keras_diffusion.layers.edm_block import group_count
from keras_diffusion.layers.options import convolution
from keras_diffusion.networks.network import NETWORKS, check_positive_int, sinusoidal_embedding
from keras_diffusion.networks.unet_levels import LevelUNet, check_length

ARCHITECTURES = ("song", "adm")
_FOURIER_SCALE = 16.0
_ADM_HEAD_DIM = 64


@NETWORKS.register("edm_unet")
class EDMUNet(LevelUNet):
    """U-Net of EDM, for images with optional class labels.

    The default is DDPM++, as EDM has it for CIFAR-10. NCSN++: `time_embedding="fourier", encoder="residual",
    resample_filter=(1, 3, 3, 1)`. Use it with `EDMPredictor()`, which tells it log(σ/α)/4.

    Args:
        input_shape: `(H, W, C)` of the samples that `generate` makes; any size runs whose axes are multiples of
            2^(levels − 1). None where any size goes. Default (32, 32, 3).
        widths: channels of each level, finest first. Default (256, 256, 256).
        base_width: channels that the embeddings' sizes, and the first convolution of "song", are made of. Default 128.
        num_res_blocks: blocks n per level on the way down; n + 1 on the way up. Default 4.
        attention: whether a level has attention, one entry per level; None (default): the second alone. The middle
            always has.
        architecture: "song" (default) or "adm"; see the module's table.
        time_embedding: "sinusoidal" (default), or "fourier" for "song".
        time_features: size of that embedding; None (default): base_width, twice that with "fourier".
        time_dim: size of the condition vector; None (default): 4·base_width.
        encoder: "standard" (default), or "residual", the second path, for "song".
        resample_filter: taps of what halves and doubles the size; see `EDMBlock`. Default (1, 1).
        head_dim: channels per head; None (default): one head with "song", 64 with "adm".
        num_classes: number of classes, or None (default) for a network without labels.
        null_class: whether label `num_classes` means "no class". Default True.
        out_channels: channels of the output; None (default) for as many as the input.
        dropout: of blocks, in [0, 1). Default 0.
        flash_attention: None (default: where Keras finds a fused kernel), True or False.
        concat_channels: channels of "concat", what is known beside x; 0 (default) for a network without. The first
            layer sees C + concat_channels channels, the output has those of x.
        augmentation_dim: length of the vectors that say how training pictures were changed, such as 9 for
            `data.NonLeaking`; None (default) for a network that is not told.
        seed: int or None; of dropout.

    Call arguments:
        inputs: dict: "x" `(B, H, W, C)`, "noise_level" `(B,)`, "labels" `(B,)` with `num_classes`, "concat"
            `(B, H, W, concat_channels)` with `concat_channels`, "augmentation" `(B, augmentation_dim)` with
            `augmentation_dim`.

    Returns:
        `(B, H, W, out_channels)`, float32 under mixed precision.

    Raises:
        ValueError: unknown architectures, options of "song" for "adm", a size that the levels do not divide, heads that
            do not divide a width.

    Example:

    >>> network = EDMUNet((32, 32, 3), widths=(32, 64), base_width=32, num_res_blocks=1)
    >>> network({"x": keras.ops.ones((2, 32, 32, 3)), "noise_level": keras.ops.array([-1.5, 1.0])}).shape
    (2, 32, 32, 3)

    Reference:
        Karras et al. 2022, arXiv:2206.00364, table 8; Song et al. 2021, arXiv:2011.13456, appendix H; Dhariwal & Nichol
        2021, arXiv:2105.05233.
    """

    any_size = True

    def __init__(
        self,
        input_shape=(32, 32, 3),
        widths=(256, 256, 256),
        base_width=128,
        num_res_blocks=4,
        attention=None,
        architecture="song",
        time_embedding="sinusoidal",
        time_features=None,
        time_dim=None,
        encoder="standard",
        resample_filter=(1, 1),
        head_dim=None,
        num_classes=None,
        null_class=True,
        out_channels=None,
        dropout=0.0,
        flash_attention=None,
        seed=None,
        concat_channels=0,
        augmentation_dim=None,
        name="edm_unet",
        trainable=True,
        dtype=None,
    ):
        self.check_levels()
        check_positive_int(base_width=base_width, num_res_blocks=num_res_blocks)
        check_choice("architecture", architecture, ARCHITECTURES)
        check_choice("time_embedding", time_embedding, ("sinusoidal", "fourier"))
        check_choice("encoder", encoder, ("standard", "residual"))
        self._song = architecture == "song"
        if not self._song and (time_embedding == "fourier" or encoder != "standard"):
            raise ValueError(
                "Gaussian frequencies and the residual encoder are NCSN++'s, for architecture='song'. Received: "
                f"architecture='adm', time_embedding={time_embedding!r}, encoder={encoder!r}"
            )
        if attention is None:
            attention = [i == 1 for i in range(len(widths))]
        self.attention = [bool(flag) for flag in attention]
        check_length("attention", self.attention, len(widths))
        self._epsilon, self._scale = (1e-6, math.sqrt(2.0)) if self._song else (1e-5, 1.0)
        super().__init__(name, trainable, dtype)

    def embed(self, inputs):
        if self.time_embedding == "fourier":
            features = self.time_features or 2 * self.base_width
            embedding = FourierEmbedding(features, scale=_FOURIER_SCALE, name="time_embedding")
        else:
            features = self.time_features or self.base_width
            embedding = sinusoidal_embedding(features, int(self._song), not self._song)
        embedding = embedding(inputs["noise_level"])
        dim = self.time_dim or 4 * self.base_width
        if self._song:
            embedding = self.embed_in_two_steps(self.add_label(embedding, inputs), dim)
        else:
            embedding = self.add_label(self.embed_in_two_steps(embedding, dim), inputs)
        return self.activated(embedding, "swish")

    def first(self, given):
        width = self.base_width if self._song else self.widths[0]
        given["path"] = self.seen(given)
        return convolution(2, width, 3, name="conv_in", dtype=self.policy)(given["path"])

    def block(self, h, way, i, j, given):
        name = f"{way}_{i}_{j}"
        h = self._residual(h, self.widths[i], name, given)
        everywhere = way == "down" or not self._song or j == self.num_res_blocks
        return self._attend(h, name) if self.attention[i] and everywhere else h

    def _middle(self, h, given):
        h = self._attend(self._residual(h, self.widths[-1], "middle_0", given), "middle")
        return self._residual(h, self.widths[-1], "middle_1", given)

    def downsample(self, h, i, given):
        h = self._residual(h, h.shape[-1], f"down_{i + 1}_downsample", given, resample="down")
        if self.encoder == "residual":
            smooth = SmoothDownsample(h.shape[-1], name=f"down_{i + 1}_path", **self.passed("resample_filter"))
            join = keras.layers.Add(name=f"down_{i + 1}_join", dtype=self.policy)
            h = given["path"] = join([h, smooth(given["path"])]) / self._scale
        return h

    def upsample(self, h, i, given):
        return self._residual(h, h.shape[-1], f"up_{i - 1}_upsample", given, resample="up")

    def last(self, h):
        return self.finish(h, ("group", group_count(self.widths[0]), self._epsilon), "swish")

    def _residual(self, h, width, name, given, resample=None):
        time = {"time_injection": "add" if self._song else "scale_shift", "resample": resample}
        options = self._passed("dropout", "seed", "resample_filter", project_resampled=self._song, **time)
        return EDMBlock(width, name=f"{name}_residual", **options)(h, given["embedding"])

    def _attend(self, h, name):
        width = h.shape[-1]
        heads = self.head_dim or (width if self._song else _ADM_HEAD_DIM)
        options = self._passed("flash_attention", norm_groups=group_count(width), head_dim=heads)
        return AttentionBlock(name=f"{name}_attention", **options)(h)

    def _passed(self, *names, **options):
        return self.passed(*names, norm_epsilon=self._epsilon, output_scale=self._scale, **options)
