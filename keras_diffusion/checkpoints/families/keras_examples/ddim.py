"""The residual U-Net of the Keras example of DDIM: alone, or as `network` and `ema_network` of its DiffusionModel with
its normalizer.

    conv 1×1 | B…B | … | B…B | conv 1×1          B = batch norm, conv, conv (1×1 shortcut)

As a word (see common.py): "p", then blocks "bcc" or "bccp", then "p". On the way down a block's input is the
last block's output; on the way up a skip is joined to it, so the first block whose input is wider than that begins the
way up. With n blocks in all, k of them before it, and d per level: k = d·levels and n − k = d·(levels − 1).

    conventions: images of zero mean and unit variance (the normalizer's); signal rate cos θ, noise rate sin θ, θ evenly
    from arccos 0.95 to arccos 0.02; ε-prediction; the network sees the noise variance; n steps visit t = 1 … 1/n, then
    x ← x0

The file's Lambda layer, the sines and cosines of the noise variance, holds marshalled code, which is never run. Numbers
that stand beside the code (defaults, closure) are read as numbers.

Reference: A. Béres, "Denoising diffusion implicit models", keras.io/examples/generative/ddim (2022).
"""

import math
import re

from keras_diffusion.checkpoints.families.family import Parts, register
from keras_diffusion.checkpoints.families.keras_examples.common import (
    KerasExample,
    Slot,
    file_layers,
    image_size,
    kernel_shapes,
    must_be,
    word_of,
)
from keras_diffusion.containers.errors import CheckpointError
from keras_diffusion.layers import Normalizer
from keras_diffusion.networks import ResidualUNet
from keras_diffusion.predictors import EpsilonPredictor
from keras_diffusion.schedulers import CosineNoiseSchedule

_MAX_FREQUENCY, _MIN_SIGNAL_RATE, _MAX_SIGNAL_RATE = 1000.0, 0.02, 0.95  # the example's


@register
class KerasDDIM(KerasExample):
    """Checkpoints of `ResidualUNet`'s ancestor."""

    name = "keras_ddim"
    title = "DDIM residual U-Net of the Keras example"
    loses = "the optimizer's state and the KID metric; the signal rates are not in the files (0.02 … 0.95)"
    pattern = re.compile(r"p((?:bccp?)+)p")
    free = ("embedding_max_frequency", "min_signal_rate", "max_signal_rate")
    aliases = {
        "image_size": "size",
        "ch": "channels",
        "depth": "block_depth",
        "emb": "embedding_dims",
        "maxf": "embedding_max_frequency",
    }

    def infer(self, container, root):
        shapes = kernel_shapes(container, root)
        inputs, widths, position = [], [], 1
        for block in re.findall("bccp?", self.pattern.fullmatch(word_of(container, root))[1]):
            inputs.append(shapes[position][0])
            widths.append(shapes[position + 1][-1])
            position += len(block)
        n = len(widths)
        k = next((i for i in range(1, n) if inputs[i] != widths[i - 1]), n)
        depth = 2 * k - n
        if depth < 1 or k % depth:
            raise CheckpointError(
                f"A {self.title} has as many blocks on each level, down and up. The file has {k} blocks on the way "
                f"down and at the bottom, {n - k} on the way up.",
                container.path,
            )
        channels, first, out = shapes[0][2], shapes[0][3], shapes[-1][-1]
        for key, values in (("epsilon", (1e-3,)), ("center", (False,)), ("scale", (False,))):
            must_be(container, root, "BatchNormalization", key, values)
        return {
            "input_shape": [*image_size(container, root), channels],
            "widths": widths[:k:depth],
            "block_depth": depth,
            "embedding_dims": inputs[0] - first,
            "embedding_max_frequency": _max_frequency(container, root, inputs[0] - first) or _MAX_FREQUENCY,
            "out_channels": None if out == channels else out,
            "min_signal_rate": _MIN_SIGNAL_RATE,
            "max_signal_rate": _MAX_SIGNAL_RATE,
        }

    def build(self, container, config):
        arguments = dict(config)
        low, high = arguments.pop("min_signal_rate"), arguments.pop("max_signal_rate")
        with self.describing(container):
            network = ResidualUNet(**arguments)
            schedule = CosineNoiseSchedule(log_snr_min=_log_snr(low), log_snr_max=_log_snr(high), spacing="trailing")
        normalizer = _normalizer(container)
        notes = [f"Assumed, as in the example: signal rates from {high} to {low}."]
        if not any(_max_frequency(container, root, config["embedding_dims"]) for root in container.roots):
            notes.append(
                "Weights alone do not tell the highest frequency of the noise's embedding: "
                f"{config['embedding_max_frequency']:g} is taken (another: config={{'embedding_max_frequency': …}})."
            )
        if normalizer is None:
            notes.append(
                "The file has no normalizer: the network gets and gives images of zero mean and unit variance. "
                "Pass diffusion_model(autoencoder=layers.Normalizer(mean, variance)), or Normalizer.from_data(images)."
            )
        predictor = EpsilonPredictor(condition="noise_variance")
        # Nothing is clipped but the image at the end.
        return Parts(network, schedule, predictor, normalizer, notes=tuple(notes), sampling={"sampler": "ddim"})

    def slots(self, network):
        yield Slot("p", network.get_layer("conv_in"))
        # The blocks are one chain, each with one normalization.
        for norm in [layer for layer in network.layers if layer.name.endswith("_norm")]:
            block = norm.name.removesuffix("_norm")
            yield Slot("b", norm)
            yield Slot("c", network.get_layer(f"{block}_conv1"))
            yield Slot("c", network.get_layer(f"{block}_conv2"))
            if any(layer.name == f"{block}_shortcut" for layer in network.layers):
                yield Slot("p", network.get_layer(f"{block}_shortcut"))
        yield Slot("p", network.get_layer("conv_out"))


def _log_snr(signal_rate):
    """log(α²/σ²) on the unit circle."""
    return math.log(signal_rate**2 / (1.0 - signal_rate**2))


def _normalizer(container):
    """The `Normalizer` of a whole DiffusionModel, or None."""
    ends = ("normalizer/mean", "normalizer/variance")
    names = [next((name for name in container.tensors if name.endswith(end)), None) for end in ends]
    return None if None in names else Normalizer(*map(container.read, names))


def _max_frequency(container, root, dim):
    """The number that stands beside the embedding's dimension in the defaults or the closure of the file's Lambda, or
    None.
    """
    for layer in file_layers(container, root, "Lambda"):
        function = layer.get("function")
        function = (
            [None, *function["config"].values()] if isinstance(function, dict) and "config" in function else function
        )
        for values in function[1:] if isinstance(function, list) else ():
            numbers = [v for v in values if isinstance(v, (int, float))] if isinstance(values, list) else []
            others = [float(v) for v in numbers if v != dim]
            if dim in numbers and len(others) == 1 and others[0] > 1:
                return others[0]
    return None
