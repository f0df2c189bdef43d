"""FlaxDiff's U-Net for videos, `FlaxUNet3DConditionModel`: the blocks of diffusers' Flax models, and layers along time
between them.

    conv_in, time_embedding, down_blocks_i, mid_block, up_blocks_i, conv_norm_out, conv_out
        resnets_j, temp_convs_j, attentions_j, temp_attentions_j, downsamplers_0, upsamplers_0

Levels on the way up are counted from the coarsest. All widths and depths are in the shapes; the number of heads, which
diffusers calls `attention_head_dim`, is not. Whether a network adds tokens of single frames to the text is up to its
caller, and left out here.
"""

import re

from keras_diffusion.checkpoints.families.family import Parts, register
from keras_diffusion.checkpoints.families.flaxdiff.common import (
    SAMPLING,
    FlaxDiffFamily,
    conventions,
    must_agree,
    shapes_of,
    split_config,
)
from keras_diffusion.containers.errors import CheckpointError
from keras_diffusion.layers import AsOneVideo, PerFrame
from keras_diffusion.networks import UNet3D

_HEADS = 8  # FlaxDiff's default
# Arguments of FlaxDiff that shapes tell.
_SAME = {
    **{
        "in_channels": "in_channels",
        "out_channels": "out_channels",
        "block_out_channels": "widths",
        "layers_per_block": "num_res_blocks",
    },
    **{"cross_attention_dim": "context_dim", "transformer_layers_per_block": "transformer_depth"},
    **{
        "down_block_types": "down_block_types",
        "up_block_types": "up_block_types",
        "use_linear_projection": "use_linear_projection",
    },
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
_OURS = ("facts", "assumed")  # what `read_config` says beside the network's arguments
_PLACE = re.compile(r"(down|up)_(\d+)(?:_(\d+))?_([a-z_]+)|middle(?:_(\d+))?_([a-z_]+)")
_PARTS = {
    **{
        "residual": "resnets_{}",
        "time": "temp_convs_{}",
        "transformer": "attentions_{}",
        "time_transformer": "temp_attentions_{}",
    },
    **{"downsample": "downsamplers_0/conv", "upsample": "upsamplers_0/conv"},
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
        for name, key in _SAME.items():
            if name in arguments:
                said = arguments[name]
                # Depths that are the same at every level are one number here; of levels without attention the file
                # tells nothing.
                must_agree(
                    container,
                    name,
                    said[0] if key == "transformer_depth" and isinstance(said, list) else said,
                    found[key],
                )
        size = arguments.get("sample_size")
        size = [None] * 3 if size is None else [size] * 3 if isinstance(size, int) else size
        assumed = []
        if "attention_head_dim" not in arguments:
            assumed.append(
                f"Assumed: {_HEADS} heads, FlaxDiff's default (another number: config={{'attention_head_dim': …}})."
            )
        if None in size:
            assumed.append(
                "The size of the videos is not in the file: `generate` needs `size` (or: config={'sample_size': (F, "
                "H, W)})."
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
            "facts": {key: facts[key] for key in ("noise_schedule", "predictor") if key in facts},
            "assumed": assumed,
        }

    def build(self, container, config):
        try:
            network = UNet3D(**{key: value for key, value in config.items() if key not in _OURS})
        except ValueError as error:
            raise CheckpointError(f"The config does not describe a {self.title}. {error}", container.path) from error
        schedule, predictor = conventions(config["facts"])
        note = (
            "As in FlaxDiff, the first and the last convolution see the batch as one video: a video's output "
            "depends on its neighbours."
        )
        return Parts(network, schedule, predictor, notes=(note, *config["assumed"]), sampling=SAMPLING)

    def layers(self, network, config):
        ends = {"conv_in": "conv_in", "norm_out": "conv_norm_out", "conv_out": "conv_out"}
        for outer in network.layers:
            layer = outer.layer if isinstance(outer, (PerFrame, AsOneVideo)) else outer
            name, part = _place(layer.name, len(config["widths"]))
            if layer.name in ends:
                yield layer, ends[layer.name]
            elif layer.name == "time_projection":
                yield from ((layer.dense1, "time_embedding/linear_1"), (layer.dense2, "time_embedding/linear_2"))
            elif part in ("downsample", "upsample"):
                yield layer.conv, name
            elif part == "residual":
                yield from _residual(layer, name)
            elif part == "time":
                for i, (norm, convolution) in enumerate(zip(layer.norms, layer.convolutions, strict=True)):
                    yield from ((norm, f"{name}/GroupNorm_{i}"), (convolution, f"{name}/Conv_{i}"))
            elif part in ("transformer", "time_transformer"):
                yield from _transformer(layer, name)


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
    place = (
        "mid_block"
        if way is None
        else f"down_blocks_{level}"
        if way == "down"
        else f"up_blocks_{levels - 1 - int(level)}"
    )
    return f"{place}/{_PARTS[part].format(block)}", part


def _infer(container, shapes):
    """Arguments of `UNet3D`, and some of FlaxDiff's, that shapes tell."""

    def count(pattern):
        return next(k for k in range(len(shapes) + 1) if not any(name.startswith(pattern.format(k)) for name in shapes))

    levels = count("down_blocks_{}/")
    attention = [f"down_blocks_{i}/attentions_0/norm/scale" in shapes for i in range(levels)]
    upwards = [f"up_blocks_{i}/attentions_0/norm/scale" in shapes for i in reversed(range(levels))]
    if attention != upwards:
        raise CheckpointError(
            f"A level has transformers on both ways or on none. Received: levels with transformers on the way down "
            f"{attention}, on the "
            f"way up {upwards}, finest first.",
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


def _residual(block, name):
    """Pairs (layer, name) of a `ResidualBlock`."""
    parts = {
        "norm1": block.norm1,
        "conv1": block.conv1,
        "time_emb_proj": block.time_projection,
        "norm2": block.norm2,
        "conv2": block.conv2,
    }
    yield from ((layer, f"{name}/{part}") for part, layer in parts.items())
    if block.shortcut is not None:
        yield block.shortcut, f"{name}/conv_shortcut"


def _transformer(layer, name):
    """Pairs (layer, name) of a `SpatialTransformer` or a `TemporalTransformer`."""
    yield from (
        (layer.norm, f"{name}/norm"),
        (layer.project_in, f"{name}/proj_in"),
        (layer.project_out, f"{name}/proj_out"),
    )
    for i, block in enumerate(layer.blocks):
        inner = f"{name}/transformer_blocks_{i}"
        yield from ((block.norm1, f"{inner}/norm1"), (block.norm2, f"{inner}/norm2"), (block.norm3, f"{inner}/norm3"))
        for part, attention in (("attn1", block.attention1), ("attn2", block.attention2)):
            yield from ((attention.to_q, f"{inner}/{part}/to_q"), (attention.to_k, f"{inner}/{part}/to_k"))
            yield from ((attention.to_v, f"{inner}/{part}/to_v"), (attention.to_out, f"{inner}/{part}/to_out_0"))
        yield from ((block.feed_forward1, f"{inner}/ff/net_0/proj"), (block.feed_forward2, f"{inner}/ff/net_2"))
