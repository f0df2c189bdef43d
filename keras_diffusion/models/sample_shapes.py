"""The shape of what a model makes: from its network, from given images or latents, or from the size asked for."""

import math

import numpy as np

from keras_diffusion.configs.checks import is_whole, shown
from keras_diffusion.models import validation
from keras_diffusion.runtime.devices import run_batch


def encoded(model, images, name):
    """What the network sees of images: they themselves, or their latents."""
    if images is None or model.autoencoder is None:
        return images
    images = np.asarray(images)
    images = images[None] if images.ndim == len(model.sample_shape) else images
    images = validation.start_images(images, len(images), (None,) * len(model.sample_shape), name)
    return run_batch(model.autoencoder.encode, images)


def sample_shape_of(model, init=None, size=None, concat=None):
    """The network's sample shape, whose free axes are taken from `init`, else `size`, else `concat`.

    Args:
        model: `DiffusionModel`.
        init: samples or latents, or None.
        size: of the images, an int or one per axis, or None.
        concat: known channels `(N, ..., K)`, or None.

    Raises:
        ValueError: free axes that nothing says the length of, a size that the network cannot take.
    """
    shape = model.sample_shape
    if init is not None:
        return tuple(np.shape(init)[-len(shape) :]) if None in shape else shape
    if size is None and concat is not None and None in shape:
        return (*np.shape(concat)[1:-1], shape[-1])
    if size is not None:
        axes, factor = len(shape) - 1, getattr(model.autoencoder, "size_multiple", 1)
        wanted = tuple(size) if isinstance(size, (list, tuple)) else (size,) * axes
        _check_wanted(model, size, wanted, axes, factor)
        wanted = (*(int(n) // factor for n in wanted), shape[-1])
        if any(known not in (None, n) for known, n in zip(shape, wanted, strict=True)):
            raise ValueError(f"This network makes samples of the shape {shape}. Received: size={size!r}")
        return wanted
    if None in shape:
        raise ValueError(
            "The network takes samples of any size: pass `size`, or `init`, `latents` or a condition “concat” of "
            f"the size that is wanted. Its shape: {shape}"
        )
    return shape


def _check_wanted(model, size, wanted, axes, factor):
    """Raises unless `wanted` is a size in pixels that the autoencoder, and behind it the network, divides."""
    # Latents of a size that the network does not take would be its error, in latents; without them it says it itself.
    halved = getattr(model.network, "size_multiple", 1) if factor > 1 and axes == 2 else 1
    multiple, whole = factor * halved, len(wanted) == axes and all(map(is_whole, wanted))
    if whole and all(n >= multiple and n % multiple == 0 for n in wanted):
        return
    who = "this autoencoder" if halved == 1 else "this autoencoder and network"
    multiples = f", multiples of {multiple} with {who}" if factor > 1 else ""
    works = ""
    if whole and factor > 1:
        near = (math.floor, math.ceil)
        sizes = dict.fromkeys(tuple(max(r(n / multiple), 1) * multiple for n in wanted) for r in near)
        works = f". Sizes that work: {' or '.join(map(str, sizes))}"
    raise ValueError(f"`size` is an int, or {axes} of them{multiples}. Received: size={shown(size)}{works}")
