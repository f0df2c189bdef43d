"""FlaxDiff's transformers: DiT, UDiT, UViT, MMDiT, hierarchical MMDiT, and the hybrid of state spaces and attention.

    dit_block_i                                     DiT
    mmdit_block_i                                   MMDiT
    ssm_block_i (and dit_block_i)                   hybrid
    down_block_i, mid_block, up_dense_i, up_block_i UDiT (ada_params_module) or UViT
    encoder_block_stages_i, patch_merger_s, …       hierarchical MMDiT

Widths, depths, heads and most options follow from names and shapes. What does not: whether patches that were flattened
before they were embedded ("hilbert_projection") go along the Hilbert curve or in zigzag; how many channels such patches
have; and, until 14 April 2026, positions, which DiT got under unchanged names that day.
"""

import re

import numpy as np

from keras_diffusion.checkpoints.families.family import Source, register
from keras_diffusion.checkpoints.families.flaxdiff.common import (
    FlaxDiffFamily,
    activation_of,
    beside,
    fourier_stream,
    must_agree,
    must_agree_on,
    pairs,
    shapes_of,
    split_config,
)
from keras_diffusion.checkpoints.families.flaxdiff.transformer_sizes import (
    check_heads,
    is_early_state_space,
    names_of,
    order_of,
    output_of,
    patches_of,
    positions_of,
    sizes_of,
    stages_of,
    uvit_options_of,
)
from keras_diffusion.layers import (
    DiTBlock,
    LearnedPosition,
    PatchEmbedding,
    PatchExpanding,
    PatchMerging,
    SSMDiTBlock,
    UViTBlock,
)
from keras_diffusion.networks import HierarchicalMMDiT, HybridSSMAttentionDiT, SimpleDiT, SimpleMMDiT, SimpleUDiT, UViT

# Class, and names that a set of weights of it has; the first that fits.
KINDS = {
    "hierarchical_mmdit": (
        HierarchicalMMDiT,
        ("encoder_block_stage0_0/ada_ln_zero/ada_t_proj/kernel", "time_embed_base/layers_2/kernel"),
    ),
    "mmdit": (SimpleMMDiT, ("mmdit_block_0/ada_ln_zero/ada_t_proj/kernel",)),
    "ssm_dit": (HybridSSMAttentionDiT, ("ssm_block_#/ada_params_module/ada_proj/kernel",)),
    "dit": (SimpleDiT, ("dit_block_0/ada_params_module/ada_proj/kernel",)),
    "udit": (SimpleUDiT, ("mid_block/ada_params_module/ada_proj/kernel", "up_dense_0/kernel")),
    "uvit": (UViT, ("mid_block/Attention/Attention2/to_q/kernel", "pos_encoding")),
}
_ARGUMENTS = tuple(
    """
    output_channels patch_size base_patch_size emb_features num_layers num_heads mlp_ratio norm_epsilon learn_sigma
    use_hilbert use_zigzag use_projection use_self_and_cross norm_inputs explicitly_add_residual
    add_residualblock_output activation ssm_state_dim ssm_attention_ratio block_pattern bidirectional_ssm use_2d_fusion
    sincos_position rotary
    """.split()
)
# FlaxDiff's transformers take these and do nothing with them.
_NO_EFFECT = ("dropout_rate", "norm_groups", "use_flash_attention", "use_remat")

# Sublayers of blocks, and what FlaxDiff calls them.
_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "out": "to_out_0"}
_STATE_SPACE = {
    "log_a_real": "log_A_real",
    "a_imag": "A_imag",
    "log_dt": "log_dt",
    "d": "D",
    "b_real": "B_re",
    "b_imag": "B_im",
    "c_real": "C_re",
    "c_imag": "C_im",
}
# Layers without sublayers that are called the same here and there.
_SAME_NAME = re.compile(
    r"final_norm|final_proj|final_norm_conv|up_dense_\d+|fusion_(norm|dense)_\d+|(t|text)_emb_proj_stage\d+"
)


@register
class FlaxDiffTransformer(FlaxDiffFamily):
    """Checkpoints of `SimpleDiT`, `SimpleUDiT`, `UViT`, `SimpleMMDiT`, `HierarchicalMMDiT` and
    `HybridSSMAttentionDiT`.
    """

    name = "flaxdiff_transformer"
    title = "transformer of FlaxDiff"

    def is_mine(self, shapes):
        return _kind(shapes) is not None and all(name in shapes for name in ("final_proj/kernel", "final_norm/scale"))

    def read_config(self, container, root, config):
        arguments, facts = split_config(container, config, (*_ARGUMENTS, *_NO_EFFECT), self.title)
        arguments = {key: value for key, value in arguments.items() if value is not None}
        shapes = shapes_of(container, root)
        kind, assumed = _kind(shapes), []
        check_heads(container, shapes)
        found = stages_of(shapes) if kind == "hierarchical_mmdit" else sizes_of(shapes, kind)
        names = names_of(shapes)
        size = "base_patch_size" if kind == "hierarchical_mmdit" else "patch_size"
        found[size], channels = patches_of(container, shapes, arguments, facts, size, assumed)
        found |= output_of(container, shapes, kind, arguments, found[size], channels, assumed)
        found |= uvit_options_of(shapes, arguments, assumed) if kind == "uvit" else {}
        must_agree_on(container, arguments, found, [(name, name) for name in sorted(found)])
        stream, notes = fourier_stream(container, facts)
        assumed += notes
        shape = list(facts.get("image_shape_hwc") or (None, None, channels))
        must_agree(container, "channels", shape[-1], channels)
        found["out_channels"] = found.pop("output_channels")
        order = order_of(shapes, arguments, assumed)
        return {
            "input_shape": shape,
            **found,
            **positions_of(container, shapes, kind, order, arguments, facts, assumed),
            **({"activation": activation_of(arguments.get("activation", "swish"))} if kind == "uvit" else {}),
            "context_dim": shapes[names["context"] + "/kernel"][0] if names["context"] else None,
            "norm_epsilon": arguments.get("norm_epsilon", 1e-5),
            "patch_order": order,
            "time_embedding": f"flax_{stream}",
            "flaxdiff_compatible": True,
            "kind": kind,
            "names": names,
            **beside(facts, assumed),
        }

    def class_of(self, config):
        return KINDS[config["kind"]][0]

    def origin(self, config):
        return f"FlaxDiff's {self.class_of(config).__name__}."

    def layers(self, network, config):
        names = config["names"]
        for layer in network.layers:
            name = layer.name
            if isinstance(layer, PatchEmbedding):
                yield layer.projection, names["patches"]
            elif name == "time_projection":
                parts = {"DenseGeneral_0": layer.dense1, "DenseGeneral_1": layer.dense2}
                yield from pairs(f"{names['time']}/layers_1", parts)
            elif name == "time_out":
                yield layer, names["time"] + "/layers_2"
            elif name == "context_projection":
                yield layer, names["context"]
            elif _SAME_NAME.fullmatch(name):
                yield layer, name
            elif name in ("final_conv1", "final_conv2"):
                yield layer, f"{name}/conv"
            elif isinstance(layer, (PatchMerging, PatchExpanding)):
                yield from pairs(name, {"norm": layer.norm, "projection": layer.projection})
            elif isinstance(layer, UViTBlock):
                yield from pairs(name, _uvit_parts(layer))
            elif isinstance(layer, DiTBlock):
                yield from pairs(name, _dit_parts(layer))

    def sources(self, container, root, network, config):
        for variable, source in super().sources(container, root, network, config):
            if (
                source.names[0].endswith("/ssm/out_proj/kernel")
                and container.tensors[source.names[0]].shape[0] != variable.shape[0]
            ):
                # FlaxDiff 0.2.11 adds the two directions up; here, as in later code, they lie side by side.
                source = Source(source.names, lambda array: np.concatenate([array, array]))
            yield variable, source
        for layer in network.layers:
            if isinstance(layer, LearnedPosition):
                yield layer.table, Source((f"{root}pos_encoding",), lambda array: array[0])
            elif isinstance(layer, SSMDiTBlock):
                yield from _state_spaces(container, layer, f"{root}{layer.name}/")


def _kind(shapes):
    """Which of `KINDS` a set of weights is, or None. "#" in a name stands for any number."""
    flat = {re.sub(r"(ssm_block_)\d+", r"\1#", name) for name in shapes} | set(shapes)
    return next((kind for kind, (_, needed) in KINDS.items() if all(name in flat for name in needed)), None)


def _attention(layer, name):
    """The layers of a `SequenceAttention` by their names in the file."""
    return {f"{name}/{theirs}": getattr(layer, ours) for ours, theirs in _ATTENTION.items()}


def _uvit_parts(block):
    parts = {"RMSNorm_0": block.norm_in} if block.norm_inputs else {}
    if block.use_projection:
        parts |= {"project_in": block.project_in, "project_out": block.project_out}
    if block.double_attention:
        parts |= {"Attention/norm1": block.norm1, **_attention(block.attention1, "Attention/Attention1")}
    return {
        **parts,
        "Attention/norm2": block.norm2,
        **_attention(block.attention2, "Attention/Attention2"),
        "Attention/norm3": block.norm3,
        "Attention/ff/net_0/proj": block.feed_forward1,
        "Attention/ff/net_2": block.feed_forward2,
    }


def _dit_parts(block):
    modulations = ("ada_params_module/ada_proj",)
    if len(block.conditions) == 2:
        modulations = ("ada_ln_zero/ada_t_proj", "ada_ln_zero/ada_text_proj")
    parts = dict(zip(modulations, block.ada_ln.projections, strict=True))
    parts |= {"mlp/layers_0": block.mlp1, "mlp/layers_2": block.mlp2}
    if not isinstance(block, SSMDiTBlock):
        return {**parts, **_attention(block.mixer, "attention")}
    return {**parts, "ssm/out_proj": block.out if block.bidirectional else None}


def _state_spaces(container, block, name):
    """Pairs (variable, `Source`) of what a block has instead of attention.

    B and C lie the other way round in the file.
    """

    def mean_step(array):  # FlaxDiff 0.2.11 has a step for each channel, and uses their mean for all states
        return np.full(block.state_dim, np.log(np.mean(np.exp(array))), array.dtype)

    early = is_early_state_space({f"/{key}": shape for key, shape in shapes_of(container, name).items()})
    spaces = (
        {"ssm/s5_forward": block.mixer, "ssm/s5_backward": block.backward}
        if block.bidirectional
        else {"ssm": block.mixer}
    )
    for place, layer in spaces.items():
        for variable in layer.weights:
            combine = (lambda array: array.T) if len(variable.shape) == 2 else None
            combine = mean_step if early and variable.name == "log_dt" else combine
            yield variable, Source((f"{name}{place}/{_STATE_SPACE[variable.name]}",), combine)
    kernels = sorted(
        key for key in container.tensors if key.startswith(f"{name}spatial_fusion/") and key.endswith("kernel")
    )
    for convolution, key in zip(block.convolutions, kernels, strict=False):
        yield convolution.weights[0], Source((key,), lambda array: array.swapaxes(2, 3))
