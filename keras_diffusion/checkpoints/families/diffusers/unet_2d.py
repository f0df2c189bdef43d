"""diffusers' UNet2DModel ↔ `networks.UNet2D`."""

import re

from keras_diffusion.checkpoints.families.diffusers.component import Component, register, size_pair
from keras_diffusion.checkpoints.links import attention_links, layer_links, links_of, residual_parts, transformer_links
from keras_diffusion.layers import AttentionBlock, Downsample, ResidualBlock, SpatialTransformer, Upsample
from keras_diffusion.networks import UNet2D
from keras_diffusion.networks.unet_2d import DOWN_TYPES, UP_TYPES

_NOT_THERE = {
    "num_heads": None,
    "time_features": None,
    "time_scale": 1.0,
}  # what the network here can have, and diffusers' has not
# Of both kinds of U-Nets; see `Component.same`.
SAME = {
    "block_out_channels": "widths",
    "time_embedding_dim": "time_dim",
    "flip_sin_to_cos": "cos_first",
    "freq_shift": "freq_shift",
    "center_input_sample": "center_input",
    "norm_num_groups": "norm_groups",
    "norm_eps": "norm_epsilon",
    "dropout": "dropout",
}
_TIME = {"positional": "sinusoidal", "fourier": "fourier"}
_PLACE = re.compile(
    r"(down|up|middle)(?:_(\d+))?(?:_(\d+))?(_downsample|_upsample)?(?:_(residual|attention|transformer))?"
)
_LIST = {"residual": "resnets", "attention": "attentions", "transformer": "attentions"}


@register
class UNet2DModel(Component):
    """The component."""

    class_name, network_class, folder, denoises = "UNet2DModel", UNet2D, "unet", True
    defaults = {
        "sample_size": None,
        "in_channels": 3,
        "out_channels": 3,
        "center_input_sample": False,
        "time_embedding_type": "positional",
        "time_embedding_dim": None,
        "freq_shift": 0,
        "flip_sin_to_cos": True,
        "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"],
        "mid_block_type": "UNetMidBlock2D",
        "up_block_types": ["AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
        "block_out_channels": [224, 448, 672, 896],
        "layers_per_block": 2,
        "mid_block_scale_factor": 1,
        "downsample_padding": 1,
        "downsample_type": "conv",
        "upsample_type": "conv",
        "dropout": 0.0,
        "act_fn": "silu",
        "attention_head_dim": 8,
        "norm_num_groups": 32,
        "attn_norm_num_groups": None,
        "norm_eps": 1e-5,
        "resnet_time_scale_shift": "default",
        "add_attention": True,
        "class_embed_type": None,
        "num_class_embeds": None,
        "num_train_timesteps": None,
    }
    fixed = {"mid_block_type": "UNetMidBlock2D", "class_embed_type": None}
    same = {
        **SAME,
        "layers_per_block": "num_res_blocks",
        "attention_head_dim": "head_dim",
        "mid_block_scale_factor": "middle_scale",
        "downsample_type": "downsample_type",
        "upsample_type": "upsample_type",
    }

    def recognizes(self, tensors):
        return is_unet(tensors) and not any(".attn2." in name for name in tensors)

    def guess(self, tensors):
        levels, found = guess_unet(tensors)
        down = [tensors.count(f"down_blocks.{i}.attentions.{{}}.") > 0 for i in range(levels)]
        up = [tensors.count(f"up_blocks.{i}.attentions.{{}}.") > 0 for i in range(levels)]
        strided = [f"down_blocks.{i}.downsamplers.0.norm1.weight" in tensors for i in range(levels)]
        stretched = [f"up_blocks.{i}.upsamplers.0.norm1.weight" in tensors for i in range(levels)]
        scale_shift = found["resnet_time_scale_shift"] == "scale_shift"
        return {
            **found,
            "layers_per_block": tensors.count("down_blocks.0.resnets.{}."),
            "down_block_types": [_type(DOWN_TYPES, *pair) for pair in zip(down, strided)],
            "up_block_types": [_type(UP_TYPES, *pair) for pair in zip(up, stretched)],
            "downsample_type": "resnet" if any(a and b for a, b in zip(down, strided)) else "conv",
            "upsample_type": "resnet" if any(a and b for a, b in zip(up, stretched)) else "conv",
            "mid_block_type": "UNetMidBlock2D" if "mid_block.resnets.0.conv1.weight" in tensors else None,
            "add_attention": "mid_block.attentions.0.to_q.weight" in tensors,
            "attn_norm_num_groups": 32
            if scale_shift and "mid_block.attentions.0.group_norm.weight" in tensors
            else None,
            "time_embedding_type": "fourier" if "time_proj.weight" in tensors else "positional",
        }

    def arguments(self, config):
        scale_shift, groups = config["resnet_time_scale_shift"] == "scale_shift", config["attn_norm_num_groups"]
        middle = "attention" if config["add_attention"] else "blocks"
        return {
            **super().arguments(config),
            **unet_arguments(config),
            "input_shape": [*size_pair(config["sample_size"]), known_apart(config)[0]],
            "down_types": [name.removeprefix("UNetRes") for name in config["down_block_types"]],
            "up_types": [name.removeprefix("UNetRes") for name in config["up_block_types"]],
            "middle": None if config["mid_block_type"] is None else middle,
            "middle_norm": not scale_shift or groups is not None,
            "middle_norm_groups": groups,
            "time_embedding": _TIME.get(config["time_embedding_type"], config["time_embedding_type"]),
        }

    def config(self, network):
        has = network.get_config()
        for key, value in _NOT_THERE.items():
            if has[key] != value:
                raise ValueError(
                    f"A UNet2DModel of diffusers has {key}={value!r} alone. Received: a network with {key}={has[key]!r}"
                )
        groups = has["middle_norm_groups"]
        if has["middle_norm"] and has["time_injection"] == "scale_shift":
            groups = groups or has["norm_groups"]
        return {
            **super().config(network),
            **unet_config(has),
            "down_block_types": has["down_types"],
            "up_block_types": has["up_types"],
            "mid_block_type": None if has["middle"] is None else "UNetMidBlock2D",
            "add_attention": has["middle"] == "attention",
            "attn_norm_num_groups": groups,
            "time_embedding_type": "fourier" if has["time_embedding"] == "fourier" else "positional",
        }

    def links(self, network, config):
        yield from unet_links(network)
        time = {"time_embedding.linear_1": "dense1", "time_embedding.linear_2": "dense2", "time_proj": "embedding"}
        for name, part in time.items():
            yield from layer_links(name, network.get_layer(f"time_{part}"))


def _type(types, has_attention, resnet):
    plain, with_attention, resampling = types
    if has_attention:
        return with_attention
    return resampling if resnet else plain


def is_unet(tensors):
    """Whether there are the ends of a U-Net, and no layers along time: U-Nets for videos have names that are else the
    same.
    """
    ends = all(
        f"{name}.weight" in tensors for name in ("conv_in", "conv_norm_out", "conv_out", "time_embedding.linear_1")
    )
    return ends and not any("temp_convs" in name for name in tensors)


def guess_unet(tensors):
    """Number of levels, and what the shapes of both kinds of U-Nets tell."""
    levels = tensors.count("down_blocks.{}.")
    widths = [tensors.shape(f"down_blocks.{i}.resnets.0.conv1.weight")[0] for i in range(levels)]
    dim = tensors.shape("time_embedding.linear_1.weight")[0]
    projection = tensors.shape("down_blocks.0.resnets.0.time_emb_proj.bias")
    return levels, {
        "in_channels": tensors.shape("conv_in.weight")[1],
        "out_channels": tensors.shape("conv_out.weight")[0],
        "block_out_channels": widths,
        "time_embedding_dim": None if dim == 4 * widths[0] else dim,
        "resnet_time_scale_shift": "scale_shift" if projection == (2 * widths[0],) else "default",
        "num_class_embeds": (tensors.shape("class_embedding.weight") or (None,))[0],
    }


def known_apart(config):
    """Channels of the sample, and of what is known beside it: where more go in than come out, the first ones are the
    sample's.
    """
    inputs, outputs = config["in_channels"], config["out_channels"]
    return (outputs, inputs - outputs) if inputs > outputs else (inputs, 0)


def unet_arguments(config):
    """Arguments that both kinds of U-Nets have, beside `SAME`."""
    channels, known = known_apart(config)
    return {
        "out_channels": None if config["out_channels"] == channels else config["out_channels"],
        "concat_channels": known,
        "num_classes": config["num_class_embeds"],
        "null_class": config["num_class_embeds"] is None,
        "time_injection": {"default": "add"}.get(config["resnet_time_scale_shift"], config["resnet_time_scale_shift"]),
        "symmetric": config["downsample_padding"] != 0,
    }


def unet_config(has):
    """The inverse of `unet_arguments`."""
    channels = has["input_shape"][-1]
    rows = has["num_classes"] if has["num_classes"] is None or not has["null_class"] else has["num_classes"] + 1
    ends = {"in_channels": channels + has["concat_channels"], "out_channels": has["out_channels"] or channels}
    if known_apart(ends) != (channels, has["concat_channels"]):
        raise ValueError(
            "diffusers tells known channels apart by their number alone: more channels in than "
            f"out. Received: a network with {channels} channels, {has['concat_channels']} known "
            f"ones and {ends['out_channels']} in its output"
        )
    return {
        **ends,
        "sample_size": None if None in has["input_shape"] else has["input_shape"][:2],
        "num_class_embeds": rows,
        "resnet_time_scale_shift": {"add": "default"}.get(has["time_injection"], has["time_injection"]),
        "downsample_padding": int(has["symmetric"]),
    }


def unet_links(network, linear=True):
    """Links of both kinds of U-Nets, but for the embedding of timesteps."""
    for layer in network.layers:
        place = _place(layer.name, len(network.get_config()["widths"]))
        if isinstance(layer, ResidualBlock):
            yield from links_of(place, residual_parts(layer))
        elif isinstance(layer, AttentionBlock):
            yield from attention_links(place, layer)
        elif isinstance(layer, SpatialTransformer):
            yield from transformer_links(place, layer, linear)
        elif isinstance(layer, (Downsample, Upsample)):
            yield from layer_links(f"{place}.conv", layer.conv)
        elif layer.name == "label_embedding":
            yield from layer_links("class_embedding", layer.table)
        elif layer.name in ("conv_in", "conv_out"):
            yield from layer_links(layer.name, layer)
        elif layer.name == "norm_out":
            yield from layer_links("conv_norm_out", layer)


def _place(name, levels):
    """ "up_0_1_residual" of three levels → "up_blocks.2.resnets.1"."""
    match = _PLACE.fullmatch(name)
    if match is None:
        return name
    way, i, j, resampling, kind = match.groups()
    if way == "middle":
        return f"mid_block.{_LIST[kind]}.{i or 0}"
    block = f"{way}_blocks.{int(i) if way == 'down' else levels - 1 - int(i)}"
    return f"{block}.{resampling[1:]}rs.0" if resampling else f"{block}.{_LIST[kind]}.{j}"
