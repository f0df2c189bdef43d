"""U-Nets of OpenAI's improved-diffusion and guided-diffusion (ADM): `256x256_diffusion.pt`, `ema_0.9999_500000.pt`.

    time_embed.0, .2       two dense layers                   label_emb    one row per class, none for “no class”
    input_blocks.0.0       a convolution
    input_blocks.k         residual block 0 and attention 1, or what halves the size: 0
    middle_block.0 … 2     residual block, attention, residual block
    output_blocks.k        residual block 0 and attention 1; at the end of a level also what doubles the size
    out.0, .2              norm, convolution

    residual block         in_layers.0 norm, .2 conv   emb_layers.1 dense   out_layers.0 norm, .3 conv   skip_connection
    attention              norm   qkv   proj_out       the last two as 1-D convolutions

A file is a bare state dict. Shapes tell every size, but neither the heads of attention, nor how queries, keys and
values lie in `qkv`, nor anything of the diffusion process. The models that OpenAI published are known by their sizes;
of others, these are assumed, and `config`, in the words of the scripts' flags, says otherwise.

    conventions: images in [−1, 1]; ε-prediction, with a learned variance behind it; timesteps 0 … T−1
    upsamplers: the first convolution sees the small image too, enlarged bilinearly, behind the sample

References: Nichol & Dhariwal, arXiv:2102.09672; Dhariwal & Nichol, arXiv:2105.05233; the flags: the READMEs of
github.com/openai/ improved-diffusion and guided-diffusion.
"""

import numpy as np

from keras_diffusion.checkpoints.families.agreement import network_notes
from keras_diffusion.checkpoints.families.family import Parts, Source, register
from keras_diffusion.checkpoints.families.openai.config import complete_config, read_structure
from keras_diffusion.checkpoints.families.rooted_family import RootedFamily
from keras_diffusion.checkpoints.links import Tensors, layer_links, links_of
from keras_diffusion.layers import AttentionBlock, Downsample, ResidualBlock, Upsample
from keras_diffusion.layers.initializers import zero_kernels
from keras_diffusion.networks import UNet2D
from keras_diffusion.predictors import EpsilonPredictor, X0Predictor
from keras_diffusion.schedulers import CosineBetaNoiseSchedule, LinearNoiseSchedule

_ENDS = {
    "time_dense1": "time_embed.0",
    "time_dense2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "middle_0_residual": "middle_block.0",
    "middle_attention": "middle_block.1",
    "middle_1_residual": "middle_block.2",
    "norm_out": "out.0",
    "conv_out": "out.2",
}
_NAMES = {"time_embed.0.weight", "input_blocks.0.0.weight", "middle_block.0.in_layers.2.weight"}


@register
class OpenAIUNet(RootedFamily):
    """State dicts of OpenAI's U-Nets. Each file holds one set of weights."""

    name = "openai_unet"
    title = "U-Net of OpenAI's guided-diffusion or improved-diffusion"
    loses = "nothing; the learned variance is in the network's last channels, which samplers here do not use"

    one_set = "The file holds one set of weights, and does not say whether it is an average."

    def is_mine(self, container, root):
        names = set(Tensors(container, root))
        # Those of latent diffusion, which see a text, have transformers.
        return names >= _NAMES and not any("transformer_blocks" in name for name in names)

    def read_config(self, container, root, config):
        structure = read_structure(Tensors(container, root), container.path, config.get("in_channels"))
        return complete_config(structure, config, container.path)

    def build(self, container, config):
        with self.describing(container), zero_kernels():  # every weight is read from the file
            network = UNet2D(**_arguments(config))
        steps = config["diffusion_steps"]
        schedule = {"linear": LinearNoiseSchedule, "cosine": CosineBetaNoiseSchedule}[config["noise_schedule"]]
        predictor = X0Predictor if config["predict_xstart"] else EpsilonPredictor
        notes, options = [*config["assumed"], *network_notes(network)], {}
        if network.concat_channels:
            options["concat_dropout"] = 0.0
            notes.append(
                "An upsampler: its condition “concat” is the small image, enlarged "
                "bilinearly to the size of the samples."
            )
        if network.num_classes is not None and network.null_labels is None:
            options["condition_dropout"] = 0.0
        # `p_sample(clip_denoised=True)`; without a learned variance theirs is β, unless `sigma_small`
        # is set.
        ancestral = {"name": "ddpm", "variance": "fixed_small" if config["learn_sigma"] else "fixed_large"}
        return Parts(
            network,
            schedule(steps, spacing="linspace"),
            predictor(condition="timestep", timesteps=steps),
            options=options,
            notes=tuple(notes),
            sampling={"sampler": ancestral, "guidance": "static_threshold"},
        )

    def sources(self, container, root, network, config):
        tensors = Tensors(container, root)
        for name, place in _places(network):
            layer = network.get_layer(name)
            if isinstance(layer, ResidualBlock):
                links = links_of(place, _residual_parts(layer))
            elif isinstance(layer, AttentionBlock):
                links = list(layer_links(f"{place}.norm", layer.norm1))
                order = None if config["use_new_attention_order"] else layer.heads
                yield from _pointwise(tensors, f"{place}.qkv", layer.qkv, order)
                yield from _pointwise(tensors, f"{place}.proj_out", layer.out)
            elif isinstance(layer, (Downsample, Upsample)):
                links = layer_links(f"{place}.{'op' if isinstance(layer, Downsample) else 'conv'}", layer.conv)
            else:
                links = layer_links(place, getattr(layer, "table", layer))
            yield from ((link.variable, tensors.source(link)) for link in links)


def _arguments(config):
    """Arguments of `UNet2D`."""
    resnet, rows = config["resblock_updown"], config["num_classes"]
    plain = ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D") if resnet else ("DownBlock2D", "UpBlock2D")
    kinds = [("AttnDownBlock2D", "AttnUpBlock2D") if has else plain for has in config["attention"]]
    head_dim = config["num_head_channels"]
    resampling = "resnet" if resnet else "conv"
    base, widths = config["num_channels"], [int(mult * config["num_channels"]) for mult in config["channel_mult"]]
    return {
        "input_shape": [config["image_size"], config["image_size"], config["in_channels"]],
        "concat_channels": config["concat_channels"],
        "widths": widths,
        "down_types": [down for down, _ in kinds],
        "up_types": [up for _, up in reversed(kinds)],
        "num_res_blocks": config["num_res_blocks"],
        "head_dim": None if head_dim == -1 else head_dim,
        "num_heads": config["num_heads"] if head_dim == -1 else None,
        "num_classes": rows - 1 if rows and config["null_class"] else rows,
        "null_class": config["null_class"],
        "out_channels": 2 * config["in_channels"] if config["learn_sigma"] else None,
        "time_injection": "scale_shift" if config["use_scale_shift_norm"] else "add",
        "time_dim": None if base == widths[0] else 4 * base,
        "time_features": None if base == widths[0] else base,
        "time_scale": 1000.0 / config["diffusion_steps"] if config["rescale_timesteps"] else 1.0,
        "downsample_type": resampling,
        "upsample_type": resampling,
        "dropout": config["dropout"],
    }


def _places(network):
    """Pairs (name of a layer here, its place in the file)."""
    has = network.get_config()
    levels, blocks = len(has["widths"]), has["num_res_blocks"]
    known = {layer.name for layer in network.layers}
    yield from _ENDS.items()
    if has["num_classes"] is not None:
        yield "label_embedding", "label_emb"
    down = [[f"down_{i}_{j}"] for i in range(levels) for j in [*range(blocks), "downsample"]][:-1]
    up = [[f"up_{i}_{j}"] for i in reversed(range(levels)) for j in range(blocks + 1)]
    for i in range(1, levels):
        up[(levels - i) * (blocks + 1) - 1].append(f"up_{i}_upsample")
    for place, first, block_list in (("input_blocks", 1, down), ("output_blocks", 0, up)):
        for k, names in enumerate(block_list, first):
            layers = [
                layer for name in names for layer in (f"{name}_residual", f"{name}_attention", name) if layer in known
            ]
            yield from ((layer, f"{place}.{k}.{j}") for j, layer in enumerate(layers))


def _residual_parts(block):
    return {
        "in_layers.0": block.norm1,
        "in_layers.2": block.conv1,
        "emb_layers.1": block.time_projection,
        "out_layers.0": block.norm2,
        "out_layers.3": block.conv2,
        "skip_connection": block.shortcut,
    }


def _pointwise(tensors, place, layer, heads=None):
    """Sources of a dense layer that is a 1-D convolution of size 1 in the file.

    With `heads`, its outputs are [heads, (q, k, v), d] there; here they are [(q, k, v), heads, d].
    """

    def combine(array):
        rows = array.reshape(array.shape[0], -1).astype("float32")
        if heads is not None:
            rows = rows.reshape(heads, 3, -1, rows.shape[-1]).transpose(1, 0, 2, 3).reshape(rows.shape)
        return np.ascontiguousarray(rows.T) if array.ndim > 1 else rows[:, 0]

    for variable, leaf in zip(layer.weights, ("weight", "bias"), strict=True):
        yield variable, Source(tensors.names(f"{place}.{leaf}"), combine)
