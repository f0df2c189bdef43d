"""diffusers' UNet2DConditionModel, of the lineage of Stable Diffusion 1 and 2 ↔ `networks.UNet2DCondition`.

`attention_head_dim` in its config is the number of heads: the name is an old mistake of diffusers.
"""

from keras_diffusion.checkpoints.families.diffusers.component import Component, register
from keras_diffusion.checkpoints.families.diffusers.unet_2d import (
    SAME,
    guess_unet,
    is_unet,
    known_apart,
    unet_arguments,
    unet_config,
    unet_links,
)
from keras_diffusion.checkpoints.links import layer_links
from keras_diffusion.containers.errors import CheckpointError
from keras_diffusion.networks import UNet2DCondition

_WITH, _WITHOUT = ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D"), ("DownBlock2D", "UpBlock2D")


@register
class UNet2DConditionModel(Component):
    """The component."""

    class_name, network_class, folder, denoises = "UNet2DConditionModel", UNet2DCondition, "unet", True
    fixed = {
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "only_cross_attention": False,
        "mid_block_scale_factor": 1,
        "reverse_transformer_layers_per_block": None,
        "encoder_hid_dim": None,
        "encoder_hid_dim_type": None,
        "num_attention_heads": None,
        "dual_cross_attention": False,
        "class_embed_type": None,
        "addition_embed_type": None,
        "resnet_skip_time_act": False,
        "resnet_out_scale_factor": 1.0,
        "time_embedding_type": "positional",
        "time_embedding_act_fn": None,
        "timestep_post_act": None,
        "time_cond_proj_dim": None,
        "conv_in_kernel": 3,
        "conv_out_kernel": 3,
        "attention_type": "default",
        "class_embeddings_concat": False,
        "mid_block_only_cross_attention": None,
        "cross_attention_norm": None,
    }
    defaults = {
        "sample_size": None,
        "in_channels": 4,
        "out_channels": 4,
        "center_input_sample": False,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
        "block_out_channels": [320, 640, 1280, 1280],
        "layers_per_block": 2,
        "downsample_padding": 1,
        "dropout": 0.0,
        "act_fn": "silu",
        "norm_num_groups": 32,
        "norm_eps": 1e-5,
        "cross_attention_dim": 1280,
        "transformer_layers_per_block": 1,
        "attention_head_dim": 8,
        "use_linear_projection": False,
        "addition_time_embed_dim": None,
        "num_class_embeds": None,
        "upcast_attention": False,
        "resnet_time_scale_shift": "default",
        "time_embedding_dim": None,
        "projection_class_embeddings_input_dim": None,
        "addition_embed_type_num_heads": 64,
        **fixed,
    }

    same = {
        **SAME,
        "layers_per_block": "num_res_blocks",
        "cross_attention_dim": "context_dim",
        "transformer_layers_per_block": "transformer_depth",
    }

    def recognizes(self, tensors):
        return is_unet(tensors) and any(".attn2." in name for name in tensors)

    def guess(self, tensors):
        levels, found = guess_unet(tensors)
        attention = [tensors.count(f"down_blocks.{i}.attentions.{{}}.") > 0 for i in range(levels)]
        places = [*(f"down_blocks.{i}" for i in range(levels - 1)), "mid_block"]
        depths = [tensors.count(f"{place}.attentions.0.transformer_blocks.{{}}.") or 1 for place in places]
        linear = len(tensors.shape("mid_block.attentions.0.proj_in.weight")) == 2
        blocks = [tensors.count(f"down_blocks.{i}.resnets.{{}}.") for i in range(levels)]

        return {
            **found,
            "layers_per_block": blocks[0] if len({*blocks}) == 1 else blocks,
            "down_block_types": [(_WITH if has else _WITHOUT)[0] for has in attention],
            "up_block_types": [(_WITH if has else _WITHOUT)[1] for has in reversed(attention)],
            "cross_attention_dim": tensors.shape("mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight")[1],
            "transformer_layers_per_block": depths[0] if len({*depths}) == 1 else depths,
            "use_linear_projection": linear,
            # Not in the shapes: Stable Diffusion 2 has heads of 64 channels, 1 has 8 heads.
            "attention_head_dim": [max(width // 64, 1) for width in found["block_out_channels"]] if linear else 8,
        }

    def complete(self, tensors, told, given, path):
        config = super().complete(tensors, told, given, path)
        levels, down = len(config["block_out_channels"]), list(config["down_block_types"])
        mirrored = [{_WITH[0]: _WITH[1], _WITHOUT[0]: _WITHOUT[1]}.get(kind) for kind in reversed(down)]
        if list(config["up_block_types"]) != mirrored:
            raise CheckpointError(
                f"The levels of this U-Net are {_WITH[0]} or {_WITHOUT[0]}, and the same on the way up. Received: "
                f"down_block_types={down}, up_block_types={config['up_block_types']}.",
                path,
            )
        dims = config["cross_attention_dim"]
        if isinstance(dims, (list, tuple)):
            if len({*dims}) != 1:
                raise CheckpointError(f"All levels see one context. Received: cross_attention_dim={dims}.", path)
            config["cross_attention_dim"] = dims[0]
        heads = config["attention_head_dim"]
        config["attention_head_dim"] = heads if isinstance(heads, int) else list(heads)[:levels]
        return config

    def arguments(self, config):
        return {
            **super().arguments(config),
            **unet_arguments(config),
            # Latents of any size: text to image tells it.
            "input_shape": [None, None, known_apart(config)[0]],
            "attention": [kind == _WITH[0] for kind in config["down_block_types"]],
            "num_heads": config["attention_head_dim"],
        }

    def config(self, network):
        has = network.get_config()
        heads = has["num_heads"] if has["head_dim"] is None else [width // has["head_dim"] for width in has["widths"]]
        return {
            **super().config(network),
            **unet_config(has),
            "down_block_types": [(_WITH if flag else _WITHOUT)[0] for flag in has["attention"]],
            "up_block_types": [(_WITH if flag else _WITHOUT)[1] for flag in reversed(has["attention"])],
            "attention_head_dim": heads,
            "use_linear_projection": has["head_dim"] is not None,
        }

    def links(self, network, config):
        yield from unet_links(network, config["use_linear_projection"])
        time = network.get_layer("time_projection")
        yield from layer_links("time_embedding.linear_1", time.dense1)
        yield from layer_links("time_embedding.linear_2", time.dense2)
