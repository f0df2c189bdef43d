"""diffusers' AutoencoderTiny ↔ `networks.AutoencoderTiny`: TAESD, TAESDXL, TAESD3, TAEF1.

Layers are numbered as they follow one another: in the encoder "encoder.layers.2.weight" is a halving, in the decoder a
doubling counts, and the convolution behind it has a number of its own. Only the first and the last convolution have a
bias, by which the number of blocks of each level can be told.
"""

import re

from keras_diffusion.checkpoints.families.diffusers.autoencoder_kl import scaling, wide_where_asked
from keras_diffusion.checkpoints.families.diffusers.component import Component, register
from keras_diffusion.checkpoints.links import layer_links
from keras_diffusion.configs.checks import shown
from keras_diffusion.containers.errors import CheckpointError
from keras_diffusion.networks import AutoencoderTiny as Network

_BLOCK = re.compile(r"block_\d+_\d+_conv_(\d)")


@register
class AutoencoderTiny(Component):
    """The component."""

    class_name, network_class, folder = "AutoencoderTiny", Network, "vae"
    defaults = {
        "in_channels": 3,
        "out_channels": 3,
        "encoder_block_out_channels": [64, 64, 64, 64],
        "decoder_block_out_channels": [64, 64, 64, 64],
        "act_fn": "relu",
        "upsample_fn": "nearest",
        "latent_channels": 4,
        "upsampling_scaling_factor": 2,
        "num_encoder_blocks": [1, 3, 3, 3],
        "num_decoder_blocks": [3, 3, 3, 1],
        "latent_magnitude": 3,
        "latent_shift": 0.5,
        "force_upcast": False,
        "scaling_factor": 1.0,
        "shift_factor": 0.0,
    }
    needless_keys = frozenset({"block_out_channels"})  # a copy of the decoder's
    fixed = {"upsample_fn": "nearest", "upsampling_scaling_factor": 2}
    same = {
        "in_channels": "channels",
        "latent_channels": "latent_channels",
        "num_encoder_blocks": "encoder_blocks",
        "num_decoder_blocks": "decoder_blocks",
        "latent_magnitude": "latent_magnitude",
        "latent_shift": "latent_shift",
    }

    def recognizes(self, tensors):
        first = ("encoder.layers.0.weight", "encoder.layers.1.conv.0.weight", "decoder.layers.2.conv.0.weight")
        return all(name in tensors for name in first)

    def guess(self, tensors):
        width, channels = tensors.shape("encoder.layers.0.weight")[:2]
        encoder, decoder = _blocks(tensors, "encoder", 1), _blocks(tensors, "decoder", 2)
        return {
            "in_channels": channels,
            "out_channels": channels,
            "encoder_block_out_channels": [width] * len(encoder),
            "decoder_block_out_channels": [width] * len(decoder),
            "latent_channels": tensors.shape("decoder.layers.0.weight")[1],
            "num_encoder_blocks": encoder,
            "num_decoder_blocks": decoder,
        }

    def complete(self, tensors, told, given, path):
        config = super().complete(tensors, told, given, path)
        widths = {*config["encoder_block_out_channels"], *config["decoder_block_out_channels"]}
        if len(widths) != 1 or config["in_channels"] != config["out_channels"]:
            keys = ("encoder_block_out_channels", "decoder_block_out_channels", "in_channels", "out_channels")
            raise CheckpointError(
                "An AutoencoderTiny has one width for all levels, and here as many channels in as out. Received: "
                f"{', '.join(f'{key}={shown(config[key])}' for key in keys)}.",
                path,
            )
        return config

    def arguments(self, config):
        width = config["encoder_block_out_channels"][0]
        return {**super().arguments(config), **scaling(config), "width": width, "dtype": wide_where_asked(config)}

    def config(self, network):
        if not all(isinstance(value, float) for value in (network.scale, network.shift)):
            raise ValueError(
                "diffusers' AutoencoderTiny has one scale and one shift for all channels. Received: "
                f"scale={shown(network.scale)}, shift={shown(network.shift)}. Undo them first: set_scaling(1.0)"
            )
        levels = len(network.encoder_blocks)
        return {
            **super().config(network),
            "out_channels": network.channels,
            **{f"{half}_block_out_channels": [network.width] * levels for half in ("encoder", "decoder")},
            "scaling_factor": network.scale,
            "shift_factor": network.shift,
        }

    def links(self, network, config):
        for half in filter(None, (network.encoder, network.decoder)):
            number = -1
            for layer in half.layers:
                block, name = _BLOCK.fullmatch(layer.name), layer.name
                number += _steps(name)
                place = f"{half.name}.layers.{number}"
                if block:
                    yield from layer_links(f"{place}.conv.{2 * int(block[1])}", layer)
                elif name.startswith(("down_", "up_")):
                    yield from layer_links(place, layer.conv)
                elif name in ("conv_in", "conv_out"):
                    yield from layer_links(place, layer)


def _steps(name):
    """By how much a layer of ours raises the number of a layer there: of a block the first convolution counts."""
    if name.startswith("up_"):
        return 2  # doubling, convolution
    return 1 if name.startswith("down_") or name in ("conv_in", "act_in", "conv_out") or name.endswith("conv_0") else 0


def _blocks(tensors, half, first):
    """The number of blocks of each level, a list; `first` is the number of the first layer that may be one."""
    numbers = {int(match[1]) for name in tensors if (match := re.match(rf"{half}\.layers\.(\d+)\.", name))}
    counts = [0]
    for number in sorted(n for n in numbers if n >= first):
        if f"{half}.layers.{number}.conv.0.weight" in tensors:
            counts[-1] += 1
        elif f"{half}.layers.{number}.bias" not in tensors:
            counts.append(0)
    return counts
