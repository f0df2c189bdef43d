"""The DDPM U-Net of the Keras example, and its class-conditional variant.

    dense, conv, dense | R…R c  RA…RA c … | R A R | … | norm, conv          R = n d c n c (p),  A = a

As a word (see common.py) the network falls into pieces at its resampling convolutions "c": the levels on the
way down, the last level with the middle, the levels on the way up. Each level's blocks show its width and whether it
has attention.

    conventions: images in [−1, 1]; linear betas 1e-4 … 0.02; ε-prediction; the network sees the timestep 0 … T−1

Reference: A. K. Nain, "Denoising diffusion probabilistic model", keras.io/examples/generative/ddpm (2022).
"""

import re

import numpy as np

from keras_diffusion.checkpoints.families.family import Parts, Source, register
from keras_diffusion.checkpoints.families.keras_examples.common import (
    KerasExample,
    Slot,
    attention_names,
    file_layers,
    image_size,
    kernel_shapes,
    must_be,
    word_of,
)
from keras_diffusion.containers.errors import CheckpointError
from keras_diffusion.networks import DDPMUNet
from keras_diffusion.predictors import EpsilonPredictor
from keras_diffusion.schedulers import LinearNoiseSchedule

_GROUPS, _TIMESTEPS = 8, 1000  # the example's
_PIECE = re.compile(r"ndcncp?|a|c")


@register
class KerasDDPM(KerasExample):
    """Checkpoints of `DDPMUNet`'s ancestor, with or without labels."""

    name = "keras_ddpm"
    title = "DDPM U-Net of the Keras example"
    loses = "the optimizer's state; the number of timesteps and the betas are not in the files (1000, linear)"
    # Time embedding and first convolution; the label's table, where there is one, changes their order.
    pattern = re.compile(r"(dcd|ddec)((?:ndcncp?|a|c)+)nc")
    free = ("norm_groups", "timesteps")
    aliases = {
        "image_size": "size",
        "img_size": "size",
        "ch": "channels",
        "image_channels": "channels",
        "img_channels": "channels",
        "first": "first_conv_channels",
        "att": "has_attention",
        "nres": "num_res_blocks",
        "g": "norm_groups",
    }

    def infer(self, container, root):
        shapes = kernel_shapes(container, root)
        head, body = self.pattern.fullmatch(word_of(container, root)).groups()
        levels, first = [[]], head.index("c")
        position = len(head)
        for piece in _PIECE.findall(body):
            if piece == "c":
                levels.append([])
            else:
                # Of a residual block, the third layer is the convolution that sets the width.
                levels[-1].append((piece[0], shapes[position + 2][-1] if piece[0] == "n" else None))
            position += len(piece)
        depth = (len(levels) + 1) // 2
        blocks = [[width for kind, width in level if kind == "n"] for level in levels[:depth]]
        if not all(blocks):
            raise CheckpointError(
                f"A level of a {self.title} has residual blocks. The file has a level without any.", container.path
            )
        for key, values in (("epsilon", (1e-3,)), ("axis", (-1, 3, [-1], [3]))):
            must_be(container, root, "GroupNormalization", key, values)
        must_be(container, root, "UpSampling2D", "interpolation", ("nearest",))
        groups = {layer["groups"] for layer in file_layers(container, root, "GroupNormalization") if "groups" in layer}
        if len(groups) > 1:
            raise CheckpointError(
                f"All group normalizations of the example have as many groups. Received: groups={sorted(groups)}",
                container.path,
            )
        channels, out = shapes[first][2], shapes[-1][-1]
        return {
            "input_shape": [*image_size(container, root), channels],
            "widths": [level[0] for level in blocks],
            "has_attention": [[kind for kind, _ in level][1:2] == ["a"] for level in levels[:depth]],
            # The last level is followed by the two blocks of the middle and by its own way up.
            "num_res_blocks": len(blocks[0]) if depth > 1 else (len(blocks[0]) - 3) // 2,
            "first_conv_channels": shapes[first][-1],
            "norm_groups": groups.pop() if groups else _GROUPS,
            "num_classes": shapes[2][0] - 1 if "e" in head else None,
            "out_channels": None if out == channels else out,
            "timesteps": _TIMESTEPS,
        }

    def build(self, container, config):
        arguments = dict(config)
        timesteps = arguments.pop("timesteps")
        with self.describing(container):
            network = DDPMUNet(**arguments)
        notes = [f"Assumed, as in the example: {timesteps} timesteps with linear betas, images in [−1, 1]."]
        if container.config is None:
            notes.append(
                f"Weights alone do not tell the groups of the group normalizations: {config['norm_groups']} is taken "
                "(another number: config={'norm_groups': …})."
            )
        schedule = LinearNoiseSchedule(timesteps)
        predictor = EpsilonPredictor(condition="timestep", timesteps=timesteps)
        # `p_sample(clip_denoised=True)`, with the posterior's variance.
        sampling = {"sampler": "ddpm", "guidance": "static_threshold"}
        return Parts(network, schedule, predictor, notes=tuple(notes), sampling=sampling)

    def slots(self, network):
        head = {"time_dense1": "d", "conv_in": "c", "time_dense2": "d"}
        if network.num_classes is not None:
            head = {"time_dense1": "d", "time_dense2": "d", "label_embedding": "e", "conv_in": "c"}
        yield from (Slot(letter, network.get_layer(name)) for name, letter in head.items())
        # Behind these the network is one chain, so its layers are in the order of the computation.
        for layer in network.layers:
            if "residual" in layer.name:
                parts = (layer.norm1, layer.time_projection, layer.conv1, layer.norm2, layer.conv2)
                yield from map(Slot, "ndcnc", parts)
                if layer.shortcut is not None:
                    yield Slot("p", layer.shortcut)
            elif "attention" in layer.name:
                yield Slot("a", layer)
            elif layer.name.endswith("sample"):
                yield Slot("c", layer.conv)
        yield Slot("n", network.get_layer("norm_out"))
        yield Slot("c", network.get_layer("conv_out"))

    def attention_sources(self, container, saved, layer):
        # Here one dense layer makes queries, keys and values; in the file they are three.
        names = attention_names(saved.weights)
        channels = layer.out.kernel.shape[0]
        for part in ("query", "key", "value"):
            shapes = [container.tensors[name].shape for name in names[part]]
            if shapes != [(channels, channels), (channels,)]:
                raise CheckpointError(
                    f"In attention over {channels} channels, kernel and bias of {part} are ({channels}, {channels}) "
                    f"and ({channels},). "
                    f"Received: {shapes} in layer {saved.name!r}",
                    container.path,
                )
        for i, variable in enumerate(layer.qkv.weights):
            parts = tuple(names[part][i] for part in ("query", "key", "value"))
            yield variable, Source(parts, lambda *arrays: np.concatenate(arrays, axis=-1))
        for part, target in (("norm", layer.norm1), ("proj", layer.out)):
            yield from ((variable, Source((name,))) for variable, name in zip(target.weights, names[part], strict=True))
