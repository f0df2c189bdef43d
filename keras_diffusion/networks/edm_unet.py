"""EDM's U-Nets: DDPM++ and NCSN++ of the score SDEs, and ADM, all in one frame.

    x ─ conv ─┬─ level 0: (block, attention?) × n ─┬─ skips ─ (concat, block, attention?) × (n + 1) ─ norm, act, conv ─
    out
              │  block that halves the size        │              block that doubles the size
              │  level 1: …                        │              …
              └─ middle: block, attention, block ──┘

                          "song": DDPM++          "song": NCSN++                        "adm"
    noise level           sinusoids               Gaussian frequencies, twice as many   sinusoids
    label                 added before the dense layers                                 after them
    e acts on blocks      as a shift                                                    as scale and shift
    sums are divided by   √2                                                            1
    attention             one head; on the way up, last block of a level                heads of 64 channels; every block
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
from keras_diffusion.layers import AttentionBlock, EDMBlock, FourierEmbedding, LabelEmbedding, SmoothDownsample
from keras_diffusion.layers.edm_block import group_count
from keras_diffusion.layers.options import convolution, normalization, unbuilt_dense
from keras_diffusion.networks.network import (
    Network,
    check_positive_int,
    check_size,
    condition_inputs,
    networks,
    seen,
    wide_dtype,
)
from keras_diffusion.networks.unet_2d import sinusoidal_embedding

ARCHITECTURES = ("song", "adm")
_FOURIER_SCALE = 16.0
_ADM_HEAD_DIM = 64


@networks.register("edm_unet")
class EDMUNet(Network):
    """U-Net of EDM, for images with optional class labels.

    The default is DDPM++, as EDM has it for CIFAR-10. NCSN++: `time_embedding="fourier", encoder="residual",
    resample_filter=(1, 3, 3, 1)`. Use it with `EDMPredictor()`, which tells it log(σ/α)/4.

    Args:
        input_shape: `(H, W, C)` of the samples that `generate` makes; any size runs whose axes are multiples of
            2^(levels − 1). None: not told. Default (32, 32, 3).
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
        seed: int or None; of dropout.

    Call arguments:
        inputs: dict: "x" `(B, H, W, C)`, "noise_level" `(B,)`, "labels" `(B,)` with `num_classes`, "concat"
            `(B, H, W, concat_channels)` with `concat_channels`.

    Returns:
        `(B, H, W, out_channels)`, float32 under mixed precision.

    Raises:
        ValueError: unknown architectures, options of "song" for "adm", a size that the levels do not divide, heads that
            do not divide a width.

    Example:

    >>> network = EDMUNet((32, 32, 3), widths=(32, 64), base_width=32, num_res_blocks=1)
    >>> network({"x": keras.ops.ones((2, 32, 32, 3)), "noise_level": keras.ops.array([-1.5, 1.0])}).shape
    (2, 32, 32, 3)
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
        name="edm_unet",
        trainable=True,
        dtype=None,
    ):
        policy = keras.dtype_policies.get(dtype)
        if len(input_shape) != 3:
            raise ValueError(
                f"EDMUNet takes images: `input_shape` must be (H, W, C). Received: input_shape={tuple(input_shape)}"
            )
        levels, channels = len(widths), input_shape[-1]
        check_positive_int(channels=channels, levels=levels, base_width=base_width, num_res_blocks=num_res_blocks)
        check_positive_int(**{f"widths[{i}]": width for i, width in enumerate(widths)})
        check_size(input_shape[:-1], 2 ** (levels - 1))
        check_choice("architecture", architecture, ARCHITECTURES)
        check_choice("time_embedding", time_embedding, ("sinusoidal", "fourier"))
        check_choice("encoder", encoder, ("standard", "residual"))
        song, fourier = architecture == "song", time_embedding == "fourier"
        if not song and (fourier or encoder != "standard"):
            raise ValueError(
                "Gaussian frequencies and the residual encoder are NCSN++'s, for architecture='song'. Received: "
                "architecture='adm', "
                f"time_embedding={time_embedding!r}, encoder={encoder!r}"
            )
        attention = [i == 1 for i in range(levels)] if attention is None else [bool(flag) for flag in attention]
        if len(attention) != levels:
            raise ValueError(
                f"`attention` needs one entry per level, as many as `widths` ({levels}). Received: "
                f"attention={attention}"
            )
        inputs = condition_inputs((None, None, channels), num_classes, None, policy, concat_channels)
        wide = wide_dtype(policy)
        features, dim = time_features or base_width * (2 if fourier else 1), time_dim or 4 * base_width
        epsilon, scale = (1e-6, math.sqrt(2.0)) if song else (1e-5, 1.0)

        if fourier:
            embedding = FourierEmbedding(features, scale=_FOURIER_SCALE, name="time_embedding")(inputs["noise_level"])
        else:
            embedding = sinusoidal_embedding(features, int(song), not song)(inputs["noise_level"])

        def add_label(embedding):
            if num_classes is None:
                return embedding
            label = LabelEmbedding(num_classes, embedding.shape[-1], null_class, name="label_embedding", dtype=wide)(
                inputs["labels"]
            )
            return keras.layers.Add(name="time_and_label", dtype=wide)([embedding, label])

        embedding = add_label(embedding) if song else embedding
        embedding = unbuilt_dense(dim, activation="swish", name="time_dense1", dtype=wide)(embedding)
        embedding = unbuilt_dense(dim, name="time_dense2", dtype=wide)(embedding)
        embedding = embedding if song else add_label(embedding)
        embedding = keras.layers.Activation("swish", name="act_embedding", dtype=wide)(embedding)

        def residual(h, width, name, attends=False, resample=None):
            options = {"norm_epsilon": epsilon, "output_scale": scale, "dtype": policy}
            time = {"time_injection": "add" if song else "scale_shift", "dropout": dropout, "seed": seed}
            resampling = {"resample": resample, "resample_filter": resample_filter, "project_resampled": song}
            h = EDMBlock(width, name=f"{name}_residual", **time, **resampling, **options)(h, embedding)
            if attends:
                heads = head_dim or (width if song else _ADM_HEAD_DIM)
                options |= {"norm_groups": group_count(width), "flash_attention": flash_attention}
                h = AttentionBlock(head_dim=heads, name=f"{name.replace('middle_0', 'middle')}_attention", **options)(h)
            return h

        h = path = seen(inputs, policy)
        h = convolution(2, base_width if song else widths[0], 3, name="conv_in", dtype=policy)(h)
        skips = [h]
        for i, width in enumerate(widths):
            if i > 0:
                h = residual(h, h.shape[-1], f"down_{i}_downsample", resample="down")
                if encoder == "residual":
                    options = {"resample_filter": resample_filter, "dtype": policy}
                    path = SmoothDownsample(h.shape[-1], name=f"down_{i}_path", **options)(path)
                    h = path = keras.layers.Add(name=f"down_{i}_join", dtype=policy)([h, path]) / scale
                skips.append(h)
            for j in range(num_res_blocks):
                h = residual(h, width, f"down_{i}_{j}", attention[i])
                skips.append(h)

        h = residual(h, widths[-1], "middle_0", True)
        h = residual(h, widths[-1], "middle_1")

        for i, width in reversed(list(enumerate(widths))):
            if i < levels - 1:
                h = residual(h, h.shape[-1], f"up_{i}_upsample", resample="up")
            for j in range(num_res_blocks + 1):
                h = keras.layers.Concatenate(name=f"up_{i}_{j}_concat", dtype=policy)([h, skips.pop()])
                h = residual(h, width, f"up_{i}_{j}", attention[i] and (not song or j == num_res_blocks))

        h = normalization("group", widths[0], group_count(widths[0]), epsilon, "norm_out", policy)(h)
        h = keras.layers.Activation("swish", name="act_out", dtype=policy)(h)
        filters = channels if out_channels is None else out_channels
        # In float32 under mixed precision too: sampling adds up many outputs, and 8 bits would show.
        output = convolution(2, filters, 3, kernel_initializer="zeros", name="conv_out", dtype=wide)(h)

        arguments = {
            "input_shape": list(input_shape),
            "widths": list(widths),
            "base_width": base_width,
            "num_res_blocks": num_res_blocks,
            "attention": attention,
            "architecture": architecture,
            "time_embedding": time_embedding,
            "time_features": time_features,
            "time_dim": time_dim,
            "encoder": encoder,
            "resample_filter": list(resample_filter),
            "head_dim": head_dim,
            "num_classes": num_classes,
            "null_class": null_class,
            "out_channels": out_channels,
            "dropout": dropout,
            "flash_attention": flash_attention,
            "seed": seed,
            "concat_channels": concat_channels,
        }
        super().__init__((inputs, output), arguments, policy, name=name, trainable=trainable)
        self.size_multiple = 2 ** (levels - 1)
        if not null_class:
            self.null_labels = None
