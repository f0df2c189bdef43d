"""FlaxDiff's U-Net for videos, `FlaxUNet3DConditionModel`: the blocks of diffusers' Flax models, and layers along time
between them.

    conv_in, time_embedding, down_blocks_i, mid_block, up_blocks_i, conv_norm_out, conv_out
        resnets_j, temp_convs_j, attentions_j, temp_attentions_j, downsamplers_0, upsamplers_0

Levels on the way up are counted from the coarsest. All widths and depths are in the shapes; the number of heads, which
diffusers calls `attention_head_dim`, is not. Whether a network adds tokens of single frames to the text is up to its
caller, and left out here.
"""

import re

from keras_diffusion.checkpoints.families.family import register
from keras_diffusion.checkpoints.families.flaxdiff.common import (
    FlaxDiffFamily,
    beside,
    must_agree_on,
    pairs,
    shapes_of,
    split_config,
)
from keras_diffusion.checkpoints.links import residual_parts, spatial_parts
from keras_diffusion.containers.errors import CheckpointError
from keras_diffusion.layers import AsOneVideo, PerFrame
from keras_diffusion.networks import UNet3D

_HEADS = 8  # FlaxDiff's default
# Arguments of FlaxDiff that shapes tell, and their names here.
_SAME = {
    "in_channels": "in_channels",
    "out_channels": "out_channels",
    "block_out_channels": "widths",
    "layers_per_block": "num_res_blocks",
    "cross_attention_dim": "context_dim",
    "transformer_layers_per_block": "transformer_depth",
    "down_block_types": "down_block_types",
    "up_block_types": "up_block_types",
    "use_linear_projection": "use_linear_projection",
}
_FREE = {
    "attention_head_dim": "num_heads",
    "flip_sin_to_cos": "cos_first",
    "freq_shift": "freq_shift",
    "dropout": "dropout",
}
# FlaxDiff refuses the first; for the others see `read_config`.
_NONE = ("num_attention_heads", "addition_embed_type", "addition_time_embed_dim")
_NO_EFFECT = ("use_memory_efficient_attention", "split_head_dim")
_PLACE = re.compile(r"(down|up)_(\d+)(?:_(\d+))?_([a-z_]+)|middle(?:_(\d+))?_([a-z_]+)")
_PARTS = {
    "residual": "resnets_{}",
    "time": "temp_convs_{}",
    "transformer": "attentions_{}",
    "time_transformer": "temp_attentions_{}",
    "downsample": "downsamplers_0/conv",
    "upsample": "upsamplers_0/conv",
}


@register
class FlaxDiffUNet3D(FlaxDiffFamily):
    """Checkpoints of `FlaxUNet3DConditionModel`."""

    name = "flaxdiff_unet3d"
    title = "U-Net for videos of FlaxDiff"

    def is_mine(self, shapes):
        needed = (
            "time_embedding/linear_1/kernel",
            "mid_block/temp_convs_0/Conv_0/kernel",
            "mid_block/temp_attentions_0/proj_in/kernel",
        )
        return all(name in shapes for name in needed) and len(shapes.get("conv_in/kernel", ())) == 5

    def read_config(self, container, root, config):
        known = (*_SAME, *_FREE, *_NONE, *_NO_EFFECT, "sample_size")
        arguments, facts = split_config(container, config, known, self.title)
        arguments = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in arguments.items()
            if value is not None
        }
        shapes = shapes_of(container, root)
        if "add_embedding/linear_1/kernel" in shapes or any(key in arguments for key in _NONE):
            said = {key: arguments[key] for key in _NONE if key in arguments}
            raise CheckpointError(
                "A U-Net for videos here has `attention_head_dim` heads, and no embedding beside those of noise level "
                "and text. "
                f"Received: {said or 'weights of the name add_embedding'}.",
                container.path,
            )
        found = _infer(container, shapes)
        # Equal depths are one number here; of levels without attention the file tells nothing.
        depths = arguments.get("transformer_layers_per_block")
        said = arguments | ({"transformer_layers_per_block": depths[0]} if isinstance(depths, list) else {})
        must_agree_on(container, said, found, _SAME.items())
        size = arguments.get("sample_size")
        size = size if isinstance(size, (list, tuple)) else [size] * 3
        assumed = []
        if "attention_head_dim" not in arguments:
            assumed.append(
                f"Assumed: {_HEADS} heads, FlaxDiff's default (another number: config={{'attention_head_dim': …}})."
            )
        if None in size:
            assumed.append(
                "The size of the videos is not in the file: `generate` needs `size` "
                "(or: config={'sample_size': (F, H, W)})."
            )
        needless = ("in_channels", "down_block_types", "up_block_types", "use_linear_projection")
        return {
            "input_shape": [*size, found["in_channels"]],
            **{key: value for key, value in found.items() if key not in needless},
            "num_heads": _HEADS,
            **{_FREE[name]: value for name, value in arguments.items() if name in _FREE},
            "time_norm_epsilon": 1e-6,
            "feed_forward_activation": "gelu_tanh",
            "flaxdiff_compatible": True,
            **beside(facts, assumed),
        }

    def class_of(self, config):
        return UNet3D

    def origin(self, config):
        return (
            "As in FlaxDiff, the first and the last convolution see the batch as one video: a "
            "video's output depends on its neighbours."
        )

    def layers(self, network, config):
        ends = {"conv_in": "conv_in", "norm_out": "conv_norm_out", "conv_out": "conv_out"}
        for outer in network.layers:
            layer = outer.layer if isinstance(outer, (PerFrame, AsOneVideo)) else outer
            name, part = _place(layer.name, len(config["widths"]))
            if layer.name in ends:
                yield layer, ends[layer.name]
            elif layer.name == "time_projection":
                yield from pairs("time_embedding", {"linear_1": layer.dense1, "linear_2": layer.dense2})
            elif part in ("downsample", "upsample"):
                yield layer.conv, name
            elif part == "residual":
                yield from _flax_pairs(name, residual_parts(layer))
            elif part == "time":
                yield from pairs(name, {f"GroupNorm_{i}": norm for i, norm in enumerate(layer.norms)})
                yield from pairs(name, {f"Conv_{i}": part for i, part in enumerate(layer.convolutions)})
            elif part in ("transformer", "time_transformer"):
                yield from _flax_pairs(name, spatial_parts(layer))


def _place(name, levels):
    """(FlaxDiff's name, kind) of the layer that is called `name` here; (None, None) where it has no weights or stands
    alone.
    """
    found = _PLACE.fullmatch(name)
    if found is None:
        return None, None
    way, level, block, part = found[1], found[2], found[3] or found[5] or 0, found[4] or found[6]
    if part not in _PARTS:
        return None, None
    places = {None: "mid_block", "down": f"down_blocks_{level}", "up": f"up_blocks_{levels - 1 - int(level or 0)}"}
    return f"{places[way]}/{_PARTS[part].format(block)}", part


def _infer(container, shapes):
    """Arguments of `UNet3D`, and some of FlaxDiff's, that shapes tell."""

    def count(pattern):
        return next(k for k in range(len(shapes) + 1) if not any(name.startswith(pattern.format(k)) for name in shapes))

    levels = count("down_blocks_{}/")
    attention = [f"down_blocks_{i}/attentions_0/norm/scale" in shapes for i in range(levels)]
    upwards = [f"up_blocks_{i}/attentions_0/norm/scale" in shapes for i in reversed(range(levels))]
    if attention != upwards:
        raise CheckpointError(
            "A level has transformers on both ways or on none. Received: levels with transformers on the way down "
            f"{attention}, on the way up {upwards}, finest first.",
            container.path,
        )
    inner = "mid_block/attentions_0/"
    return {
        "in_channels": shapes["conv_in/kernel"][-2],
        "out_channels": shapes["conv_out/kernel"][-1],
        "widths": [shapes[f"down_blocks_{i}/resnets_0/conv1/kernel"][-1] for i in range(levels)],
        "num_res_blocks": count("down_blocks_0/resnets_{}/"),
        "attention": attention,
        "context_dim": shapes[f"{inner}transformer_blocks_0/attn2/to_k/kernel"][0],
        "transformer_depth": count(inner + "transformer_blocks_{}/"),
        "time_dim": shapes["time_embedding/linear_1/kernel"][-1],
        "down_block_types": [f"{'CrossAttn' if has else ''}DownBlock3D" for has in attention],
        "up_block_types": [f"{'CrossAttn' if has else ''}UpBlock3D" for has in reversed(attention)],
        "use_linear_projection": len(shapes[f"{inner}proj_in/kernel"]) == 2,
    }


def _flax_pairs(name, parts):
    """Pairs (layer, name) of layers by PyTorch's names: lists are "resnets_0" in Flax, and parts are joined by "/"."""
    return pairs(name, {re.sub(r"\.(\d+)", r"_\1", part).replace(".", "/"): layer for part, layer in parts.items()})
