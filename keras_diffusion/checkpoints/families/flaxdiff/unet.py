"""FlaxDiff's U-Nets, from June 2024 to today.

    ConvLayer_0, down_i_residual_j, down_i_attention_j, down_i_downsample, middle_…, up_i_…, ConvLayer_1,
    final_residual, norm, ConvLayer_2

Names and shapes show which era of the code wrote a file. The era implies what they do not show: the constants of
normalization, what attention adds to, the time embedding. Between the last two eras some of it changed under the same
names; there the day of saving decides.

    era           recognized by                        attention
    2024-06       temb_projection of twice the width   computed and thrown away by the code: its weights are left out
    2024-07-06    no convolution after the way up      within rows
    2024-07-16    GroupNorm_0, Attention/to_q          within rows, within columns, or column w to token w of the text
    head          norm1 or Attention/Attention2        all positions, all tokens
"""

import math
import re
from datetime import date

from keras_diffusion.checkpoints.families.family import register
from keras_diffusion.checkpoints.families.flaxdiff.attention import attention_layers, attention_of, unused_by_attention
from keras_diffusion.checkpoints.families.flaxdiff.common import (
    OLDEST,
    FlaxDiffFamily,
    activation_of,
    beside,
    code_date,
    fourier_stream,
    must_agree,
    must_agree_on,
    pairs,
    shapes_of,
    split_config,
)
from keras_diffusion.containers.errors import CheckpointError
from keras_diffusion.networks import FlaxUNet

# Era → what its code does and its weights do not show.
ERAS = {
    OLDEST: {"norm_epsilon": 1e-6, "time_embedding": "sinusoidal"},
    "2024-07-06": {"norm_epsilon": 1e-6, "attention": {"norm_epsilon": 1e-5, "residual": "raw"}},
    "2024-07-16": {"norm_epsilon": 1e-6, "attention": {"norm_epsilon": 1e-5, "residual": "raw"}},
    "head": {"norm_epsilon": 1e-4, "attention": {"norm_epsilon": 1e-4, "residual": "normalized"}},
}
_NORMALIZED_RESIDUAL, _LARGER_EPSILON = date(2024, 9, 19), date(2025, 5, 2)
_GROUPS = 8  # of the oldest era, and the default of the others
# FlaxDiff's arguments that shapes tell, and their names here.
_SAME = {
    "output_channels": "out_channels",
    "emb_features": "embedding_dim",
    "feature_depths": "widths",
    "num_res_blocks": "num_res_blocks",
    "num_middle_res_blocks": "num_middle_res_blocks",
}
_ARGUMENTS = (*_SAME, "attention_configs", "activation", "norm_groups", "named_norms")
_MIDDLE = re.compile(r"middle_(\d+)_residual_(\d+)")


@register
class FlaxDiffUNet(FlaxDiffFamily):
    """Checkpoints of `Unet` and `SimpleUNet`."""

    name = "flaxdiff_unet"
    title = "U-Net of FlaxDiff"

    def is_mine(self, shapes):
        needed = (
            "ConvLayer_0/conv/kernel",
            "TimeProjection_0/DenseGeneral_0/kernel",
            "final_residual/conv1/conv/kernel",
        )
        return all(name in shapes for name in needed) and "down_0_residual_0/conv2/conv/kernel" in shapes

    def read_config(self, container, root, config):
        arguments, facts = split_config(container, config, _ARGUMENTS, self.title)
        shapes = shapes_of(container, root)
        found, era = _infer(shapes), _era(container, shapes, arguments)
        must_agree_on(container, arguments, found, _SAME.items())
        channels = shapes["ConvLayer_0/conv/kernel"][2]
        size = list(facts.get("image_shape_hwc") or (None, None, channels))
        must_agree(container, "channels", size[-1], channels)
        assumed, options = [], _options_of(era, code_date(container, facts))
        block_options = options.pop("attention", None)
        attention = {"attention": None, "middle_attention": None, "context_dim": None}
        if block_options is not None:
            attention, notes = attention_of(
                container, shapes, found, arguments, facts, block_options, head=era == "head"
            )
            assumed += notes
            if attention["context_dim"] is None and era != "2024-07-06":
                assumed.append("The network takes no notice of a text, nor did the old one.")
        if era != OLDEST:
            options["fourier_stream"], notes = fourier_stream(container, facts, old=era != "head")
            assumed += notes
        rms = not any(f"final_residual/{norm}/bias" in shapes for norm in ("norm1", "GroupNorm_0"))
        groups, notes = (0, []) if rms else _groups(container, shapes, era, arguments)
        assumed += notes
        if "activation" not in arguments:
            assumed.append("Assumed: the activation swish, FlaxDiff's default (another one: config={'activation': …}).")
        if None in size:
            assumed.append(
                "The size of the images is not in the file: `generate` needs `latents` or `init` (or: "
                "config={'image_shape_hwc': …})."
            )
        return {
            "input_shape": size,
            **found,
            **attention,
            **options,
            "norm_groups": groups,
            "norm_out_epsilon": 1e-5 if rms else 1e-6,
            "activation": activation_of(arguments.get("activation", "swish")),
            "upsample_widths": "flaxdiff",
            "named_norms": "final_residual/norm1/scale" not in shapes,
            "era": era,
            **beside(facts, assumed),
        }

    def class_of(self, config):
        return FlaxUNet

    def origin(self, config):
        code = "present code" if config["era"] == "head" else f"code of {config['era']}"
        return f"Arithmetic of FlaxDiff's {code}."

    def layers(self, network, config):
        kind = "RMSNorm" if config["norm_groups"] == 0 else "GroupNorm"
        norms = (
            (f"{kind}_0", f"{kind}_1", f"{kind}_0") if config["named_norms"] else ("norm1", "norm2", "conv_out_norm")
        )
        last_block, last_middle = config["num_res_blocks"] - 1, config["num_middle_res_blocks"] - 1
        simple = {
            "conv_in": "ConvLayer_0/conv",
            "middle_conv": "middle_conv/conv",
            "up_conv": "ConvLayer_1/conv",
            "norm_out": norms[2],
            "conv_out": f"ConvLayer_{2 if config['up_conv'] else 1}/conv",
        }
        for layer in network.layers:
            name = layer.name
            if name in simple:
                yield layer, simple[name]
            elif name == "time_projection":
                yield from pairs("TimeProjection_0", {"DenseGeneral_0": layer.dense1, "DenseGeneral_1": layer.dense2})
            elif name.endswith("sample"):
                yield layer.conv, f"{name}/ConvLayer_0/conv"
            elif "residual" in name:
                yield from _block(
                    layer, _MIDDLE.sub(lambda match: f"middle_res{int(match[2]) + 1}_{match[1]}", name), norms
                )
            elif name == "middle_attention":
                yield from attention_layers(layer, f"{name}_{last_middle}", config["era"] == "head", "_conv")
            elif name.endswith("attention"):
                yield from attention_layers(layer, f"{name}_{last_block}", config["era"] == "head")

    def ignores(self, container, root):
        return super().ignores(container, root) | {
            root + name for name in unused_by_attention(shapes_of(container, root))
        }


def _infer(shapes):
    """Arguments of `FlaxUNet` that shapes tell."""

    def count(pattern):
        return next(k for k in range(len(shapes) + 1) if pattern.format(k) + "/temb_projection/kernel" not in shapes)

    def size(name, default=3):
        return shapes[name][0] if name in shapes else default

    levels, middle = count("down_{}_residual_0"), count("middle_res1_{}")
    up_conv = "ConvLayer_2/conv/kernel" in shapes
    last = "ConvLayer_2/conv/kernel" if up_conv else "ConvLayer_1/conv/kernel"
    deepest = shapes["up_0_residual_0/conv2/conv/kernel"][-1]
    width = shapes["final_residual/conv2/conv/kernel"][-1]
    return {
        "widths": [*(shapes[f"down_{i}_downsample/ConvLayer_0/conv/kernel"][-1] for i in range(levels - 1)), deepest],
        "num_res_blocks": count("down_0_residual_{}"),
        "num_middle_res_blocks": middle,
        "out_channels": shapes[last][-1],
        "embedding_dim": shapes["TimeProjection_0/DenseGeneral_0/kernel"][0],
        "time_injection": "scale_shift" if shapes["final_residual/temb_projection/kernel"][-1] == 2 * width else "add",
        "conv_in_kernel": size("ConvLayer_0/conv/kernel"),
        "conv_out_kernel": size(last),
        "downsample_kernel": size("down_0_downsample/ConvLayer_0/conv/kernel"),
        "middle_conv": "middle_conv/conv/kernel" in shapes,
        "up_conv": up_conv,
        "separable": any(name.endswith("conv1/conv/Conv_0/kernel") for name in shapes),
    }


def _era(container, shapes, arguments):
    """The era of the code; a key of `ERAS`."""
    if _infer(shapes)["time_injection"] == "scale_shift":
        return OLDEST
    if "ConvLayer_2/conv/kernel" not in shapes:
        return "2024-07-06"
    if "final_residual/norm1/scale" in shapes or any("/Attention/Attention2/" in name for name in shapes):
        return "head"
    # Names of norms as in 2024, with `named_norms`: without attention only the train state's other entries differ.
    attends = any("/Attention/" in name for name in shapes)
    later = arguments.get("named_norms") or "epoch" in container.tensors or "rngs/rng" in container.tensors
    return "head" if later and not attends else "2024-07-16"


def _options_of(era, day):
    """`ERAS[era]`, as it was on a day (None: today)."""
    options = {key: dict(value) if isinstance(value, dict) else value for key, value in ERAS[era].items()}
    if era == "head" and day is not None:
        if day < _NORMALIZED_RESIDUAL:
            options["attention"]["residual"] = "raw"
        if day < _LARGER_EPSILON:
            options["norm_epsilon"], options["attention"]["norm_epsilon"] = 1e-6, 1e-5
    return options


def _groups(container, shapes, era, arguments):
    """(groups of the group normalizations, sentences for the report). Shapes tell only which numbers are possible."""
    norms = (
        name for name in shapes if name.endswith(("norm1/scale", "norm2/scale", "_norm/scale")) or "GroupNorm_" in name
    )
    divisor = math.gcd(*(shapes[name][0] for name in norms if "ttention" not in name))
    said = _GROUPS if era == OLDEST else arguments.get("norm_groups")
    if said is None:
        groups = math.gcd(divisor, _GROUPS)
        return groups, [
            f"Assumed: group normalizations with {groups} groups (another number: config={{'norm_groups': …}})."
        ]
    if not isinstance(said, int) or said < 1 or divisor % said:
        raise CheckpointError(
            f"Group normalization cuts the channels into equal groups. Received: norm_groups={said!r} for "
            f"channels with the common divisor {divisor}.",
            container.path,
        )
    return said, []


def _block(layer, name, norms):
    """Pairs (layer, name) of a `ResidualBlock`."""
    parts = {norms[0]: layer.norm1, norms[1]: layer.norm2, "conv1/conv": layer.conv1, "conv2/conv": layer.conv2}
    return pairs(name, {**parts, "temb_projection": layer.time_projection, "residual_conv/conv": layer.shortcut})
