"""What the arguments of a `DiffusionModel` may be, checked before anything is compiled or drawn."""

import difflib

import keras
import numpy as np

from keras_diffusion.configs.checks import check_array, check_choice, check_flag, check_number, check_whole, shown
from keras_diffusion.networks.network import NETWORKS as registry_of_networks
from keras_diffusion.samplers.repaint import RePaintSampler
from keras_diffusion.samplers.tables import check_noise_kind, recorded

BRIGHTEST = 1.5  # float pictures above it, with nothing below 0, are taken for pictures from 0 to 255
_NETWORK = (
    "`network` is a built Keras model on a dict {'x', 'noise_level', **conditions}, such as "
    "`networks.UNet((32, 32, 3))`"
)


def check_network(network):
    """Raises unless `network` is a built model that takes samples and noise levels by name."""
    layer = isinstance(network, keras.layers.Layer)
    try:
        inputs = network.input if layer else None
    except (AttributeError, ValueError):  # never called: it has none
        inputs = None
    by_name = isinstance(inputs, dict) and {"x", "noise_level"} <= set(inputs)
    unbuilt = layer and not network.built and not all(part.built for part in getattr(network, "layers", ()))
    if not layer or unbuilt or not (by_name or getattr(network, "sample_shape", None)):
        raise ValueError(
            f"{_NETWORK}. Received: network={shown(network)} of type {type(network).__name__}{_remedy(network)}"
        )


def _remedy(network):
    """What to pass in place of something that is no network, a sentence or nothing."""
    if isinstance(network, (str, dict)):
        known = {cls.__name__.lower(): cls.__name__ for cls in registry_of_networks.classes()}
        name = str(network.get("name") if isinstance(network, dict) else network).lower().replace("_", "")
        close = difflib.get_close_matches(name[:80], known, 1)
        return f". Make the network: `networks.{known[close[0]] if close else 'UNet'}(...)`"
    if isinstance(network, type):
        return f". Make one of it: `{network.__name__}(...)`"
    if isinstance(network, keras.Model):
        return ". Make it a functional model, or give it a `sample_shape` and build its layers"
    if callable(network) and not isinstance(network, keras.layers.Layer):
        return (
            ". Functions have no weights to train; samplers take them as they are: "
            "`sampler.sample(x, function, levels)`"
        )
    return ""


def check_autoencoder(autoencoder):
    """Raises unless `autoencoder` is None or has `encode` and `decode`."""
    if autoencoder is not None and not all(callable(getattr(autoencoder, name, None)) for name in ("encode", "decode")):
        raise ValueError(
            "`autoencoder` is a layer or model with `encode` and `decode`, such as `networks.AutoencoderKL`, or None. "
            f"Received: autoencoder={shown(autoencoder)} of type {type(autoencoder).__name__}"
        )


def check_trainable_autoencoder(autoencoder):
    """Raises unless `autoencoder` has what training one needs."""
    methods = all(callable(getattr(autoencoder, name, None)) for name in ("moments", "decode"))
    sizes = all(isinstance(getattr(autoencoder, name, None), int) for name in ("channels", "latent_channels"))
    if not (methods and sizes and isinstance(autoencoder, keras.layers.Layer)):
        raise ValueError(
            "`autoencoder` is a Keras model with `moments` and `decode`, `channels` and `latent_channels`, such as "
            f"`networks.AutoencoderKL`. Received: autoencoder={shown(autoencoder)} of type "
            f"{type(autoencoder).__name__}"
        )


def check_null_context(null_context, network):
    """`null_context` as a float32 array `(D,)` or `(L, D)`, or None."""
    if null_context is None:
        return None
    dim = getattr(network, "context_dim", None)
    array = check_array("null_context", null_context, "float32")
    if dim is None:
        raise ValueError(
            "`null_context` stands in for a context, and this network has none: leave it out, or make the network "
            "with `context_dim`. "
            f"Received: null_context of shape {array.shape}"
        )
    if array.ndim not in (1, 2) or array.shape[-1] != dim or array.size == 0:
        raise ValueError(
            f"`null_context` has the shape ({dim},) or (length, {dim}). Received: null_context of shape {array.shape}"
        )
    return array


def check_null_mask(mask, null_context):
    """`null_context_mask` as booleans `(L,)`, or None."""
    if mask is None:
        return None
    length = None if null_context is None or null_context.ndim == 1 else len(null_context)
    array = check_array("null_context_mask", mask)
    if array.shape != (length,):
        raise ValueError(
            "`null_context_mask` says which vectors of `null_context` (L, D) are seen: booleans (L,). Received: "
            f"null_context_mask of shape {array.shape}, "
            f"{'no null_context' if null_context is None else f'null_context of shape {null_context.shape}'}"
        )
    return array.astype(bool)


def check_share(name, value, optional=False):
    """A share of samples as a float in [0, 1], or None where it is optional."""
    rule = f"`{name}` is a share of samples and must lie in [0, 1]"
    return check_number(name, value, 0, 1, rule=rule, optional=optional)


def check_fit(options):
    """Checks the numbers among the arguments of Keras's `fit` and `evaluate`, a dict; those that are not given are
    Keras's affair.
    """
    counts = dict.fromkeys(("steps", "batch_size", "steps_per_epoch", "validation_steps", "validation_batch_size"), 1)
    for name, least in {"epochs": 0, "initial_epoch": 0, **counts}.items():
        if name in options:
            check_whole(name, options[name], least, optional=least == 1)
    if "validation_split" in options:
        check_number("validation_split", options["validation_split"], 0, below=1)


def check_data(x):
    """Raises for what no data can be read from: nothing, texts and numbers, empty arrays, arrays of different lengths
    in one dict.
    """
    arrays = x if isinstance(x, dict) else {"x": x}
    nothing = (
        x is None
        or not arrays
        or any(value is None or isinstance(value, (str, bytes, int, float)) for value in arrays.values())
    )
    if nothing:
        raise ValueError(
            "Data are arrays, a dict of arrays, or something that yields batches: tf.data, a DataLoader, "
            "`data.Batches`. "
            f"Received: x={shown(x)}. A name or a path goes into `data.load`"
        )
    held = {key: value for key, value in arrays.items() if isinstance(value, (np.ndarray, list, tuple))}
    lengths = {key: len(value) for key, value in held.items() if isinstance(value, (list, tuple)) or value.ndim}
    if lengths and (min(lengths.values()) == 0 or len(set(lengths.values())) > 1):
        raise ValueError(
            "Data need at least one sample, and as many of each kind as of the others. Received: lengths "
            f"{shown(lengths)}"
        )


def check_guidance_scale(guidance_scale):
    """`guidance_scale` as a float."""
    return check_number(
        "guidance_scale", guidance_scale, rule="`guidance_scale` must be a finite number; 1 is no guidance"
    )


def check_batch_size(batch_size):
    """`batch_size` as an int ≥ 1, or None."""
    return check_whole("batch_size", batch_size, 1, optional=True)


def check_weights(weights):
    """`weights`, which says whose values are used: "ema", the average's, or "raw", the network's own."""
    return check_choice("weights", weights, ("ema", "raw"), "`weights` must be 'ema' or 'raw'")


def check_walk(given):
    """Checks those of the `GenerateArguments` that need nothing else to be checked.

    Returns:
        `GenerateArguments` whose guidance scale, strength and batch size are numbers of Python.
    """
    rule = "`strength` is the time that generation starts from and must lie in [0, 1]"
    checked = given._replace(
        guidance_scale=check_guidance_scale(given.guidance_scale),
        strength=check_number("strength", given.strength, 0, 1, rule=rule),
        batch_size=check_batch_size(given.batch_size),
    )
    if not isinstance(given.clip, str) or given.clip != "auto":
        check_flag_or("clip", given.clip, "'auto'")
    check_choice("dtype", given.dtype, ("float32", "uint8"), "Generated samples are 'float32' or 'uint8'")
    check_weights(given.weights)
    check_verbose(given.verbose)
    recorded(given.trajectory)
    if given.noise is not None:
        check_noise_kind(given.noise)
    if given.on_step is not None and not callable(given.on_step):
        raise ValueError(f"`on_step` is a function of a `StepInfo`, or None. Received: on_step={shown(given.on_step)}")
    return checked


def check_flag_or(name, value, other):
    """Raises unless `value` is True or False; `other` says what else it might have been."""
    try:
        return check_flag(name, value)
    except ValueError:
        raise ValueError(f"`{name}` must be {other}, True or False. Received: {name}={shown(value)}") from None


def check_verbose(verbose):
    """Raises unless `verbose` is "auto", a bool, 0, 1 or 2."""
    check_choice("verbose", verbose, ("auto", True, False, 0, 1, 2), "`verbose` is 'auto', 0 or 1")


def check_mask_use(sampler, mask):
    """Raises where a sampler repeats steps for the sake of a mask, and there is none."""
    if isinstance(sampler, RePaintSampler) and mask is None:
        raise ValueError(
            "RePaint fills in what a mask leaves open. Received: sampler='repaint', mask=None. Pass `init` and "
            "`mask`, or another sampler"
        )


def mask_of(mask, num_samples, sample_shape):
    """A mask of `generate` as an array of the samples' rank.

    Args:
        mask: for samples `(H, W, C)`: `(H, W)`, `(N, H, W)`, `(H, W, 1)`, `(N, H, W, 1)`, with C in place of 1, or a
            number; likewise for samples of another rank. Any axis may be 1.
        num_samples: N.
        sample_shape: shape of one sample.

    Returns:
        float32 array `(N or 1, *sample_shape)` with axes of 1 where the mask has them.
    """
    array = check_array("mask", mask)
    if array.size and (array.min() < 0 or array.max() > 1):
        raise ValueError(
            "A mask is 1 where the image is kept and 0 where the model fills in. Received: values outside [0, 1], "
            f"mask from {array.min():g} to {array.max():g}"
        )
    array, rank, spatial = array.astype("float32"), len(sample_shape), tuple(sample_shape[:-1])
    if array.ndim == 0:
        return array.reshape((1,) * (rank + 1))
    if array.ndim == rank + 1 and _broadcasts(array.shape, (num_samples, *sample_shape)):
        return array
    if array.ndim == rank and _broadcasts(array.shape, sample_shape):
        return array[None]
    if spatial and array.shape == spatial:
        return array[None, ..., None]
    if spatial and array.ndim == rank and array.shape[1:] == spatial and len(array) in (1, num_samples):
        return array[..., None]
    whole = (num_samples, *spatial, 1) if spatial else (num_samples, *sample_shape)
    forms = [whole, whole[1:], *([whole[:-1], spatial] if spatial else [])]
    raise ValueError(
        f"The mask of {num_samples} samples of shape {tuple(sample_shape)} has one of the shapes "
        f"{', '.join(map(str, forms))}. "
        f"Received: mask of shape {array.shape}"
    )


def latent_mask_of(mask, num_samples, sample_shape, factor):
    """`mask_of` where the samples are latents, a `factor` smaller than the pictures: a mask of either size.

    A position of latents is kept as far as all of its pixels are: what is to be filled in holds nothing of the old.

    Args:
        mask: as in `mask_of`, for pictures `(factor·H, factor·W, 1)` or for latents `(H, W, C)`.
        num_samples: N.
        sample_shape: shape of the latents of one sample.
        factor: pixels per position of latents.

    Returns:
        float32 array `(N or 1, *sample_shape)` with axes of 1 where the mask has them.
    """
    size = tuple(sample_shape[:-1])
    shape = np.shape(mask)
    of_latents = len(shape) < 2 or any(shape[i : i + len(size)] == size for i in range(2))
    if factor == 1 or of_latents:
        return mask_of(mask, num_samples, sample_shape)
    pixels = tuple(factor * n for n in size)
    array = mask_of(mask, num_samples, (*pixels, 1))
    array = np.broadcast_to(array, (len(array), *pixels, 1))
    for axis, n in enumerate(size, 1):
        array = array.reshape(*array.shape[:axis], n, factor, *array.shape[axis + 1 :]).min(axis=axis + 1)
    return array


def _broadcasts(shape, wanted):
    return all(n in (1, want) for n, want in zip(shape, wanted, strict=True))


def check_image_values(name, images, sample_rank):
    """Raises for pictures on another scale than [−1, 1]: integers other than uint8, and floats that can only be of 0 to
    255.
    """
    if images.dtype.kind in "iub" and images.dtype != np.uint8:
        raise ValueError(
            f"`{name}` holds floats in [-1, 1], or uint8 from 0 to 255 (which are scaled). Received: {name} of dtype "
            f"{images.dtype}. "
            "Convert it: x.astype('uint8'), or x / 127.5 - 1"
        )
    if images.dtype == np.uint8 or sample_rank < 3 or not images.size:
        return
    low, high = float(images.min()), float(images.max())
    if (low >= 0 and high > BRIGHTEST) or max(-low, high) > 32:
        raise ValueError(
            f"Pictures lie in [-1, 1]. Received: {name} with values from {low:g} to {high:g}. "
            "Pass uint8 (which is scaled), or x / 127.5 - 1"
        )
