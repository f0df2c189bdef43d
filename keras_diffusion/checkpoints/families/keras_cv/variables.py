"""Variables of our networks in the order of KerasCV's weights: for each kind of layer its layers, for each layer its
variables.

`stable_diffusion.py` says what the kinds are and how a file is cut into layers; here is where the n-th of them goes.
"""

import numpy as np

from keras_diffusion.checkpoints.links import Source, attention_parts, residual_parts, spatial_parts
from keras_diffusion.containers.errors import CheckpointError
from keras_diffusion.layers import ResidualBlock, SpatialTransformer


def _of(*layers):
    """Variables of plain layers: gamma or kernel, then beta or bias."""
    return [variable for layer in layers for variable in layer.weights]


def _block_variables(block):
    return _of(*filter(None, residual_parts(block).values()))


def unet_slots(network):
    """Kind of layer → its layers in `UNet2DCondition`, each a list of variables."""
    levels = range(len(network.get_config()["widths"]))
    resampling = [f"down_{i}_downsample" for i in levels[:-1]] + [f"up_{i}_upsample" for i in reversed(levels[1:])]
    convolutions = [
        network.get_layer("conv_in"),
        *(network.get_layer(name).conv for name in resampling),
        network.get_layer("conv_out"),
    ]
    time = network.get_layer("time_projection")
    return {
        "dense": [_of(time.dense1), _of(time.dense2)],
        "convolution": [_of(layer) for layer in convolutions],
        "block": [_block_variables(layer) for layer in network.layers if isinstance(layer, ResidualBlock)],
        "transformer": [
            _of(*spatial_parts(layer).values()) for layer in network.layers if isinstance(layer, SpatialTransformer)
        ],
        "norm": [_of(network.get_layer("norm_out"))],
    }


def text_encoder_slots(network):
    """The same of `CLIPTextEncoder`."""

    def variables(block):
        projections = attention_parts(block.attention1).values()
        return _of(block.norm1, *projections, block.norm3, block.feed_forward1, block.feed_forward2)

    return {
        "embedding": [_of(network.token_embedding, network.position_embedding)],
        "clip": [variables(block) for block in network.blocks],
        "norm": [_of(network.norm)],
    }


def autoencoder_slots(network):
    """The same of the half that an `AutoencoderKL` has."""
    half = network.encoder or network.decoder
    convolutions = [
        getattr(layer, "conv", layer) for layer in half.layers if "conv" in layer.name or "sample" in layer.name
    ]
    attention = half.get_layer("middle_attention")
    return {
        "convolution": [_of(layer) for layer in convolutions],
        "resnet": [_block_variables(layer) for layer in half.layers if isinstance(layer, ResidualBlock)],
        "attention": [_of(attention.norm1, attention.qkv, attention.out)],
        "norm": [_of(half.get_layer("norm_out"))],
    }


def pairs(kind, variables, names, container):
    """Pairs (variable, `Source`) of one layer."""
    if kind == "attention":
        # KerasCV's norm, q, k, v, out; ours has q, k and v side by side in one kernel.
        parts = [names[:1], names[1:2], names[2:8:2], names[3:8:2], names[8:9], names[9:]]
        combined = (None, None, _side_by_side, _side_by_side, _side_by_side, None)
        yield from (
            (variable, Source(tuple(part), f)) for variable, part, f in zip(variables, parts, combined, strict=True)
        )
        return
    if len(variables) != len(names):
        raise CheckpointError(
            f"A layer of the kind {kind!r} has {len(variables)} weights here, {len(names)} in the file.", container.path
        )
    for variable, name in zip(variables, names):
        is_projection = len(container.tensors[name].shape) == 4 and len(variable.shape) == 2
        yield variable, Source((name,), _side_by_side if is_projection else None)


def _side_by_side(*arrays):
    """Kernels of 1×1 convolutions `(1, 1, C, D)`, or biases `(D,)`, as one dense kernel `(C, n·D)` or bias."""
    return np.concatenate([array[0, 0] if array.ndim == 4 else array for array in arrays], axis=-1)
