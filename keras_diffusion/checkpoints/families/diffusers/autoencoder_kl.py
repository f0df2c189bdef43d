"""diffusers' AutoencoderKL ↔ `networks.AutoencoderKL`."""

from keras_diffusion.checkpoints.families.diffusers.component import Component, register
from keras_diffusion.checkpoints.families.diffusers.unet_2d import _place
from keras_diffusion.checkpoints.links import attention_links, layer_links, links_of, residual_parts
from keras_diffusion.containers.errors import CheckpointError
from keras_diffusion.layers import AttentionBlock, Downsample, ResidualBlock, Upsample
from keras_diffusion.networks import AutoencoderKL as Network

_QUANT = ("quant_conv", "post_quant_conv")


@register
class AutoencoderKL(Component):
    """The component."""

    class_name, network_class, folder = "AutoencoderKL", Network, "vae"
    defaults = {
        "in_channels": 3,
        "out_channels": 3,
        "down_block_types": ["DownEncoderBlock2D"],
        "up_block_types": ["UpDecoderBlock2D"],
        "block_out_channels": [64],
        "layers_per_block": 1,
        "act_fn": "silu",
        "latent_channels": 4,
        "norm_num_groups": 32,
        "sample_size": 32,
        "scaling_factor": 0.18215,
        "shift_factor": None,
        "latents_mean": None,
        "latents_std": None,
        "force_upcast": True,
        "use_quant_conv": True,
        "use_post_quant_conv": True,
        "mid_block_add_attention": True,
    }
    fixed = {"latents_mean": None, "latents_std": None}
    same = {
        "block_out_channels": "widths",
        "layers_per_block": "num_res_blocks",
        "in_channels": "channels",
        "latent_channels": "latent_channels",
        "scaling_factor": "scale",
        "norm_num_groups": "norm_groups",
        "mid_block_add_attention": "attention",
    }

    def recognizes(self, tensors):
        ends = all(f"{half}.conv_in.weight" in tensors for half in ("encoder", "decoder"))
        return (
            ends
            and "decoder.up_blocks.0.resnets.0.conv1.weight" in tensors
            and "quantize.embedding.weight" not in tensors
        )

    def guess(self, tensors):
        levels = tensors.count("encoder.down_blocks.{}.")
        latent_channels = tensors.shape("decoder.conv_in.weight")[1]
        return {
            "in_channels": tensors.shape("encoder.conv_in.weight")[1],
            "out_channels": tensors.shape("decoder.conv_out.weight")[0],
            "down_block_types": ["DownEncoderBlock2D"] * levels,
            "up_block_types": ["UpDecoderBlock2D"] * levels,
            "block_out_channels": [
                tensors.shape(f"encoder.down_blocks.{i}.resnets.0.conv1.weight")[0] for i in range(levels)
            ],
            "layers_per_block": tensors.count("encoder.down_blocks.0.resnets.{}."),
            "latent_channels": latent_channels,
            "mid_block_add_attention": "encoder.mid_block.attentions.0.to_q.weight" in tensors,
            **{f"use_{name}": f"{name}.weight" in tensors for name in _QUANT},
        }

    def complete(self, tensors, told, given, path):
        config = super().complete(tensors, told, given, path)
        types = {*config["down_block_types"], *config["up_block_types"]} - {"DownEncoderBlock2D", "UpDecoderBlock2D"}
        if types or config["in_channels"] != config["out_channels"]:
            raise CheckpointError(
                "An AutoencoderKL here has DownEncoderBlock2D and UpDecoderBlock2D, and as many channels in as out. "
                "Received: "
                f"{', '.join(types) or 'these blocks'}, in_channels={config['in_channels']}, "
                f"out_channels={config['out_channels']}.",
                path,
            )
        return config

    def arguments(self, config):
        return {
            **super().arguments(config),
            "shift": config["shift_factor"] or 0.0,
            "quant_convs": [config[f"use_{name}"] for name in _QUANT],
        }

    def config(self, network):
        has = network.get_config()
        levels = len(has["widths"])
        return {
            **super().config(network),
            "out_channels": has["channels"],
            "down_block_types": ["DownEncoderBlock2D"] * levels,
            "up_block_types": ["UpDecoderBlock2D"] * levels,
            "shift_factor": has["shift"] or None,
            **{f"use_{name}": flag for name, flag in zip(_QUANT, has["quant_convs"])},
        }

    def links(self, network, config):
        levels = len(network.widths)
        for half in (network.encoder, network.decoder):
            for layer in half.layers:
                place = f"{half.name}.{_place(layer.name, levels)}"
                if isinstance(layer, ResidualBlock):
                    yield from links_of(place, residual_parts(layer))
                elif isinstance(layer, AttentionBlock):
                    yield from attention_links(place, layer)
                elif isinstance(layer, (Downsample, Upsample)):
                    yield from layer_links(f"{place}.conv", layer.conv)
                elif layer.name in ("conv_moments", "conv_latents"):
                    yield from layer_links(_QUANT[layer.name == "conv_latents"], layer)
                elif layer.name in ("conv_in", "conv_out", "norm_out"):
                    yield from layer_links(f"{half.name}.{layer.name.replace('norm_out', 'conv_norm_out')}", layer)
