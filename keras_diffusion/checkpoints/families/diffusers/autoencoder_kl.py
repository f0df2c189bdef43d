"""diffusers' AutoencoderKL ↔ `networks.AutoencoderKL`.

there   latent = (mean − shift_factor)·scaling_factor                  Stable Diffusion, Flux
        latent = (mean − latents_mean)·scaling_factor/latents_std      per channel: SDXL's relatives
here    latent = (mean − shift)·scale
"""

import keras

from keras_diffusion.checkpoints.families.diffusers.component import Component, is_number, register
from keras_diffusion.checkpoints.families.diffusers.unet_2d import _place
from keras_diffusion.checkpoints.links import attention_links, layer_links, links_of, residual_parts
from keras_diffusion.configs.checks import shown
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
    same = {
        "block_out_channels": "widths",
        "layers_per_block": "num_res_blocks",
        "in_channels": "channels",
        "latent_channels": "latent_channels",
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
        check_latents(config, path)
        return config

    def assumed(self, told, config):
        if told is not None:
            return ()
        return (
            f"Assumed: scaling_factor={config['scaling_factor']}, shift_factor={config['shift_factor']}; no "
            "config.json tells, and weights cannot. Stable Diffusion XL has 0.13025, 3 has 1.5305 and 0.0609, Flux "
            "0.3611 and 0.1159.",
        )

    def arguments(self, config):
        return {
            **super().arguments(config),
            **scaling(config),
            "quant_convs": [config[f"use_{name}"] for name in _QUANT],
            "dtype": wide_where_asked(config),
        }

    def config(self, network):
        has = network.get_config()
        levels = len(has["widths"])
        return {
            **super().config(network),
            "out_channels": has["channels"],
            "down_block_types": ["DownEncoderBlock2D"] * levels,
            "up_block_types": ["UpDecoderBlock2D"] * levels,
            **scaling_keys(network),
            **{f"use_{name}": flag for name, flag in zip(_QUANT, has["quant_convs"])},
        }

    def links(self, network, config):
        levels = len(network.widths)
        for half in filter(None, (network.encoder, network.decoder)):
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


def check_latents(config, path):
    """Raises CheckpointError unless the mean and the standard deviation of the channels are some, or None."""
    given = [key for key in ("latents_mean", "latents_std") if config[key] is not None]
    if not given:
        return
    channels = config["latent_channels"]
    lists = [config[key] for key in given]
    numbers = all(isinstance(values, list) and all(map(is_number, values)) for values in lists)
    if len(given) != 2 or not numbers or {len(values) for values in lists} != {channels} or min(lists[1]) <= 0:
        received = ", ".join(f"{key}={shown(config[key])}" for key in ("latents_mean", "latents_std"))
        raise CheckpointError(
            f"Latents have a mean and a standard deviation > 0 for each of their {channels} channels, or neither. "
            f"Received: {received}.",
            path,
        )
    if config["shift_factor"]:
        raise CheckpointError(
            "Latents are shifted by `shift_factor` or by `latents_mean`. Received: both, "
            f"shift_factor={shown(config['shift_factor'])}.",
            path,
        )


def scaling(config):
    """`scale` and `shift` of an autoencoder, a dict."""
    factor, std = config["scaling_factor"], config.get("latents_std")
    if std is None:
        return {"scale": factor, "shift": config["shift_factor"] or 0.0}
    return {"scale": [factor / one for one in std], "shift": list(config["latents_mean"])}


def scaling_keys(network):
    """The other way round: keys of diffusers' config for the `scale` and `shift` of `network`."""
    scale, shift = network.scale, network.shift
    if isinstance(scale, float) and isinstance(shift, float):
        return {"scaling_factor": scale, "shift_factor": shift or None}
    channels = network.latent_channels
    scales, shifts = ([value] * channels if isinstance(value, float) else list(value) for value in (scale, shift))
    return {"scaling_factor": 1.0, "latents_mean": shifts, "latents_std": [1.0 / one for one in scales]}


def wide_where_asked(config):
    """The dtype of an autoencoder: float32 for one whose values leave float16's range, else None, the usual one."""
    return "float32" if config["force_upcast"] and keras.config.dtype_policy().compute_dtype == "float16" else None
