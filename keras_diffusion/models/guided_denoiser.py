"""From a network to the denoiser that a walk asks: its weights, conditions, guidance and known pixels.

network, weights, conditions ───────────────▶ conditional ────┐
the same with null or negative conditions ──▶ unconditional ──┼─▶ guidance ─▶ known pixels ─▶ thresholds
                                               scale w ───────┘
"""

from typing import Any, NamedTuple

import numpy as np
from keras import ops

from keras_diffusion.denoisers import NetworkDenoiser
from keras_diffusion.guidance import ReplaceKnown
from keras_diffusion.models import validation
from keras_diffusion.models.arguments import check_guidance_scale, check_weights
from keras_diffusion.models.captions import ENCODED
from keras_diffusion.models.guidance_argument import check_two_scales, read_guidance
from keras_diffusion.networks.network import MASK_KEY
from keras_diffusion.runtime.compile import as_tensor


class DenoiserInputs(NamedTuple):
    """What the denoiser of a walk is made of: arguments of the compiled program, so other values are no other program.

    Attributes:
        values: values of the network's weights.
        conditions: dict of conditions, one row per sample.
        scale: guidance scale w, a float32.
        negative: dict of conditions that guidance leads away from; {} is the null condition.
        numbers: dict of the guidance's options that are numbers.
        known: (images, mask), where the mask is 1 the images are kept; () keeps none.
    """

    values: Any
    conditions: Any
    scale: Any
    negative: Any
    numbers: Any
    known: Any


def denoiser(model, conditions, guidance_scale, weights, guidance):
    """See `SamplingMethods.denoiser`."""
    guidance_scale = check_guidance_scale(guidance_scale)
    guiding = read_guidance(guidance, guidance_scale)
    given, _ = validation.generation_conditions(conditions, None, model.network, model.class_names)
    check_two_scales(guiding, given)
    tensors = {key: ops.convert_to_tensor(value) for key, value in given.items()}
    inputs = DenoiserInputs(weight_values(model, weights), tensors, guidance_scale, {}, {}, ())
    return make_denoiser(model, guiding, inputs, guided=guidance_scale != 1.0)


def make_denoiser(model, guiding, inputs, guided):
    """The denoiser of a walk; runs inside the compiled program.

    Args:
        model: `DiffusionModel`.
        guiding: `Guiding`.
        inputs: `DenoiserInputs` of tensors.
        guided: whether there is guidance.
    """
    conditions, negative = inputs.conditions, inputs.negative
    null = null_conditions(model, like=conditions)

    def denoiser_of(given):
        return NetworkDenoiser(model.network, model.predictor, {**null, **given}, inputs.values)

    denoiser = denoiser_of(conditions)
    if guided:
        # Guidance exaggerates labels and words. Known channels are facts: they stay, unless they are all there is to
        # exaggerate.
        facts = {"concat": conditions["concat"]} if "concat" in conditions and len(conditions) > 1 else {}
        unconditional = denoiser_of({**facts, **negative})
        empty = denoiser_of({key: value for key, value in negative.items() if key != "concat"})
        denoiser = guiding.combine(denoiser, unconditional, inputs.scale, inputs.numbers, empty)
    return guiding.wrap(ReplaceKnown(denoiser, *inputs.known) if inputs.known else denoiser)


def null_conditions(model, like=()):
    """One row of each of the network's conditions that means "no condition", a dict of tensors.

    Args:
        model: `DiffusionModel`.
        like: dict of conditions; the null context is as long as the one in it, and has a mask if that one has. With
            "tokens" in place of a context, or contexts of a cache, the empty text's.
    """
    network, null = model.network, {}
    if "labels" in model.condition_keys and network.null_labels is not None:
        null["labels"] = as_tensor(np.full((1,), network.null_labels, "int32"))
    if "tokens" in like:
        null["tokens"] = as_tensor(model.null_tokens)
    elif ENCODED in like:
        null |= {key: as_tensor(value) for key, value in model.null_encoded().items()}
    elif "context" in model.condition_keys:
        context, mask = model.null_text()
        length = like["context"].shape[1] if "context" in like else len(context)
        null["context"] = as_tensor(np.broadcast_to(context, (1, length, context.shape[1])))
        if MASK_KEY in like:
            null[MASK_KEY] = as_tensor(np.broadcast_to(mask, (1, length)))
    if "concat" in model.condition_keys:  # one position, which stands for all of them
        channels = validation.concat_channels_of(network)
        null["concat"] = as_tensor(np.zeros((1,) * len(model.sample_shape) + (channels,), "float32"))
    if "augmentation" in model.condition_keys:
        null["augmentation"] = as_tensor(np.zeros((1, network.augmentation_dim), "float32"))
    return null


def weight_values(model, weights):
    """Values of the network's weights, a list of tensors: "ema", the average's, or "raw", its own."""
    if check_weights(weights) == "raw":
        return [variable.value for variable in model.network.variables]
    # The average is float32 throughout, the network's own weights may be half precision.
    pairs = zip(model.averaged_network().variables, model.network.variables, strict=True)
    return [
        ops.cast(variable.value, like.dtype) if variable.dtype != like.dtype else variable.value
        for variable, like in pairs
    ]
