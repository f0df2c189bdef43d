"""What follows from names and shapes of FlaxDiff's transformers: widths, depths, heads, patches; and what is assumed
where they leave it open.

`shapes` is a dict from the names of one set of weights to their shapes; `arguments` and `facts` are what the user says;
sentences for the report are appended to `assumed`.
"""

import math
import re
from datetime import date

from keras_diffusion.checkpoints.families.flaxdiff.common import code_date, must_agree
from keras_diffusion.containers.errors import CheckpointError

_POSITIONS = date(2026, 4, 14)  # DiT: sin-cos positions, and no rotary ones except in raster order

# What blocks of a kind are called; of UDiT and UViT there are twice as many.
_BLOCKS = {
    "dit": r"dit_block_(\d+)/",
    "ssm_dit": r"(?:dit|ssm)_block_(\d+)/",
    "mmdit": r"mmdit_block_(\d+)/",
    "udit": r"up_dense_(\d+)/",
    "uvit": r"up_dense_(\d+)/",
}


def check_heads(container, shapes):
    """CheckpointError for projections without an axis of heads: those of a TPU kernel that left out 1/√d."""
    flat = [name for name, shape in shapes.items() if name.endswith("/to_q/kernel") and len(shape) != 3]
    if flat:
        raise CheckpointError(
            f"Kernels of attention are (in, heads, channels per head). Received: {flat[0]} of shape {shapes[flat[0]]}. "
            "Weights trained with FlaxDiff's use_flash_attention=True are not supported for transformers.",
            container.path,
        )


def _count(shapes, pattern):
    """How many different numbers stand at the place of the group in names that begin with `pattern`."""
    return len({match[1] for match in (re.match(pattern, name) for name in shapes) if match})


def names_of(shapes):
    """What the weights outside of the blocks are called, which differs between networks and times."""
    patches = "hilbert_projection" if "hilbert_projection/kernel" in shapes else "patch_embed/Conv_0"
    time = "time_embed_base" if "time_embed_base/layers_2/kernel" in shapes else "time_embed"
    texts = ("text_context_proj", "text_context_proj_base", "text_proj")
    return {
        "patches": patches,
        "time": time,
        "context": next((name for name in texts if f"{name}/kernel" in shapes), None),
    }


def sizes_of(shapes, kind):
    """Width, depth and heads, as arguments of the network."""
    blocks, width = _count(shapes, _BLOCKS[kind]), shapes["final_norm/scale"][0]
    query = shapes_that_end(shapes, "/to_q/kernel")  # none: state spaces alone
    return {
        "emb_features": width,
        "num_layers": 2 * blocks if kind in ("udit", "uvit") else blocks,
        **({"num_heads": 1} if query is None else {"num_heads": query[1], "head_dim": query[2]}),
        **({} if kind == "uvit" else {"mlp_ratio": _ratio(shapes, width)}),
        **(_state_space(shapes, blocks) if kind == "ssm_dit" else {}),
    }


def _state_space(shapes, blocks):
    """What a hybrid has besides."""
    firsts = {name.partition("/")[0] for name in shapes}
    return {
        "block_pattern": ["ssm" if f"ssm_block_{i}" in firsts else "attn" for i in range(blocks)],
        "ssm_state_dim": shapes_that_end(shapes, "/log_A_real")[0],
        "bidirectional_ssm": any("/s5_backward/" in name for name in shapes),
        "use_2d_fusion": any("/spatial_fusion/" in name for name in shapes),
    }


def shapes_that_end(shapes, end):
    """The shape of the first weight whose name ends so, or None."""
    return next((shape for name, shape in shapes.items() if name.endswith(end)), None)


def stages_of(shapes):
    """The same of a network with stages, as lists."""
    count = _count(shapes, r"t_emb_proj_stage(\d+)/")
    queries = [shapes[f"encoder_block_stage{i}_0/attention/to_q/kernel"] for i in range(count)]
    return {
        "emb_features": [query[0] for query in queries],
        "num_layers": [_count(shapes, rf"encoder_block_stage{i}_(\d+)/") for i in range(count)],
        "num_heads": [query[1] for query in queries],
        "head_dim": [query[2] for query in queries],
        "mlp_ratio": _ratio(shapes, queries[0][0]),
    }


def _ratio(shapes, width):
    """Hidden units of the feed-forward step over its inputs."""
    ratio = next(
        shape[1] / shape[0]
        for name, shape in shapes.items()
        if name.endswith("mlp/layers_0/kernel") and shape[0] == width
    )
    return int(ratio) if ratio == int(ratio) else ratio


def patches_of(container, shapes, arguments, facts, size, assumed):
    """(side of a patch, channels of the image).

    The shape of a flattened patch tells side² · channels alone; there `size`, the name of the argument for the side, or
    the image's shape helps.
    """
    if "hilbert_projection/kernel" not in shapes:
        side, _, channels, _ = shapes["patch_embed/Conv_0/kernel"]
        return side, channels
    values = shapes["hilbert_projection/kernel"][0]
    if size in arguments:
        side = arguments[size]
    elif facts.get("image_shape_hwc"):
        side = math.isqrt(values // facts["image_shape_hwc"][-1])
    else:
        fitting = [n for n in range(1, math.isqrt(values) + 1) if values % n**2 == 0]
        rows = shapes.get("pos_encoding", (1, None))[1]  # (512 // side)² of them
        fitting = [n for n in fitting if rows is None or (512 // n) ** 2 == rows] or fitting
        wanted = [arguments[key] for key in ("output_channels",) if key in arguments]
        side = next((n for c in (*wanted, 3, 4, 1, 16) for n in fitting if n * n * c == values), fitting[-1])
        assumed.append(
            f"Assumed: patches of {side}×{side} pixels with {values // side**2} channels (else: "
            f"config={{{size!r}: …}})."
        )
    if side < 1 or values % side**2:
        must_agree(container, f"values of a patch ({size}²·channels)", side**2, values)
    return side, values // side**2


def output_of(container, shapes, kind, arguments, side, channels, assumed):
    """Channels of the output, and whether there is a second image for the variance."""
    outputs, rest = divmod(shapes["final_proj/kernel"][1], side**2)
    if rest:
        must_agree(container, "values of an output patch", side**2, shapes["final_proj/kernel"][1])
    if kind == "uvit":
        return {"output_channels": outputs}
    if "output_channels" in arguments:
        return {
            "output_channels": arguments["output_channels"],
            "learn_sigma": _twice(container, outputs, arguments["output_channels"]),
        }
    sigma = bool(arguments.get("learn_sigma", outputs == 2 * channels))
    if sigma and outputs % 2:
        must_agree(container, "learn_sigma", sigma, False)
    if sigma and "learn_sigma" not in arguments:
        assumed.append(
            "Assumed: the second half of the output is a variance, and dropped (else: config={'learn_sigma': False})."
        )
    return {"output_channels": outputs // 2 if sigma else outputs, "learn_sigma": sigma}


def _twice(container, outputs, channels):
    """Whether there are twice as many outputs as channels; they may also be equal."""
    if outputs not in (channels, 2 * channels):
        must_agree(container, "output_channels", channels, outputs)
    return outputs == 2 * channels


def order_of(shapes, arguments, assumed):
    """The order of patches."""
    if arguments.get("use_zigzag"):
        return "zigzag"
    if arguments.get("use_hilbert"):
        return "hilbert_cropped"
    if "hilbert_projection/kernel" not in shapes:
        return "raster"
    assumed.append("Assumed: patches follow the Hilbert curve (in zigzag: config={'use_zigzag': True}).")
    return "hilbert_cropped"


def is_early_state_space(shapes):
    """Whether state spaces are those of FlaxDiff 0.2.11: a step for each channel, and a projection of the sum of both
    directions.
    """
    width = shapes_that_end(shapes, "/D")[0]
    projection, steps, states = (
        shapes_that_end(shapes, end) for end in ("/ssm/out_proj/kernel", "/log_dt", "/log_A_real")
    )
    return projection == (width, width) if projection else steps != states


def positions_of(container, shapes, kind, order, arguments, facts, assumed):
    """How the network knows the positions of patches."""
    if kind == "uvit":
        return {}
    present = str(facts.get("era", "")).startswith("head")
    day = code_date(container, facts)
    if kind == "ssm_dit":
        told = not is_early_state_space(shapes)
    else:
        told = kind == "dit" and (present or day is None or day >= _POSITIONS)
        if told and not present and "sincos_position" not in arguments:
            assumed.append(
                "Assumed: the code of 14 April 2026 or later, where positions are added to patches (trained with an "
                "older one, such as the release 0.2.11: config={'sincos_position': False, 'rotary': True})."
            )
    return {
        "sincos_position": arguments.get("sincos_position", told),
        "rotary": arguments.get("rotary", order == "raster" or not told),
    }


def uvit_options_of(shapes, arguments, assumed):
    """Options of `UViT` alone."""
    if "explicitly_add_residual" not in arguments:
        assumed.append(
            "Assumed: blocks add their input twice, FlaxDiff's default (else: "
            "config={'explicitly_add_residual': False})."
        )
    head = "final_conv1/conv/kernel" in shapes
    if head and "activation" not in arguments:
        assumed.append("Assumed: the activation swish, FlaxDiff's default (another one: config={'activation': …}).")
    return {
        "max_tokens": shapes["pos_encoding"][1],
        "use_projection": "mid_block/project_in/kernel" in shapes,
        "use_self_and_cross": "mid_block/Attention/Attention1/to_q/kernel" in shapes,
        "norm_inputs": "mid_block/RMSNorm_0/scale" in shapes,
        "explicitly_add_residual": arguments.get("explicitly_add_residual", True),
        "add_residualblock_output": head,
    }
