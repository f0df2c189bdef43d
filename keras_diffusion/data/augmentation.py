"""Changes of pictures in training: functions, Keras's layers for pictures, and several of them in a row.

    augment=keras.layers.RandomRotation(0.05)             a layer
    augment=[keras.layers.RandomZoom(0.1), my_function]   several
    augment=kd.data.NonLeaking(0.12)                      one that the network is told of, non_leaking.py
    augment={"name": "random_rotation", "factor": 0.05}   by name, as in a configuration

Whatever they draw comes from the batch's own generator, a function of (seed, epoch, index): a resumed run sees the same
pictures. The layers draw with the backend's random numbers, which differ between backends.
"""

import inspect

import keras
import numpy as np

from keras_diffusion.configs.checks import check_known, shown
from keras_diffusion.data.non_leaking import NonLeaking
from keras_diffusion.models.optimizers import snake

# Layers that keep the size of pictures, work on one picture at a time, and draw from the generator that they are given.
_LAYERS = (
    *("RandomBrightness", "RandomColorDegeneration", "RandomContrast", "RandomErasing"),
    *("RandomFlip", "RandomGaussianBlur", "RandomGrayscale", "RandomHue", "RandomInvert", "RandomPerspective"),
    *("RandomPosterization", "RandomRotation", "RandomSaturation", "RandomSharpness", "RandomShear"),
    *("RandomTranslation", "RandomZoom"),
)
_REFUSED = {
    **dict.fromkeys(
        ("AugMix", "RandAugment", "RandomColorJitter", "RandomElasticTransform"), "draws from a generator of its own"
    ),
    **dict.fromkeys(("CutMix", "MixUp"), "mixes pictures, so that no caption or label fits"),
    **dict.fromkeys(("CenterCrop", "RandomCrop", "Resizing"), "changes the size: image_size= and crop= do that"),
}
_RULE = (
    "augment must be a function (images, rng) -> images, a layer such as keras.layers.RandomRotation(0.05), a "
    "data.NonLeaking, the name of one or a table with its name and options, or a list of these"
)


def as_augmentation(augment):
    """What `Batches` calls for its argument `augment`.

    Args:
        augment: as for `Batches`.

    Returns:
        function (images, rng) → images or (images, vectors), or None for None.

    Raises:
        ValueError: anything else, or a layer that cannot be repeated.
    """
    if augment is None:
        return None
    if isinstance(augment, (list, tuple)) and augment:
        return _Chain([as_augmentation(part) for part in augment])
    if isinstance(augment, (str, dict)):
        return as_augmentation(_named(augment))
    if isinstance(augment, keras.layers.Layer):
        return KerasAugmentation(augment)
    if callable(augment):
        return augment
    raise ValueError(f"{_RULE}. Received: augment={shown(augment)}")


def augmented(augment, images, rng):
    """Pictures of a batch, changed.

    Args:
        augment: of `as_augmentation`.
        images: float32 `(B, H, W, C)`.
        rng: NumPy generator of this batch.

    Returns:
        (images of the same shape, float32; vectors `(B, D)` of what was done, or None).

    Raises:
        ValueError: an augmentation that changes the shape.
    """
    changed, vectors = _pair(augment(images, rng))
    changed = np.asarray(changed, dtype="float32")
    if changed.shape != images.shape:
        raise ValueError(f"augment must keep the shape of the batch. Received: {images.shape} in, {changed.shape} out.")
    return changed, None if vectors is None else np.asarray(vectors, "float32")


def _pair(result):
    return result if isinstance(result, tuple) else (result, None)


class _Chain:
    """Several augmentations, one after the other; their vectors stand beside each other."""

    def __init__(self, parts):
        self.parts = parts
        self.on_backend = any(getattr(part, "on_backend", False) for part in parts)

    def __call__(self, images, rng):
        told = []
        for part in self.parts:
            images, vectors = _pair(part(images, rng))
            told += [] if vectors is None else [vectors]
        return (images, np.concatenate(told, axis=1)) if told else images


class KerasAugmentation:
    """A Keras layer for pictures, as a function (images, rng) → images that runs on the CPU.

    Layers with a `value_range` get pictures in it; all others get them in [−1, 1]. All frames of a clip are changed
    alike.

    Args:
        layer: such as `keras.layers.RandomRotation`.

    Raises:
        ValueError: another kind of layer, or one that cannot be repeated from a seed.
    """

    on_backend = True

    def __init__(self, layer):
        kind = type(layer).__name__
        if kind in _REFUSED or not hasattr(layer, "get_random_transformation"):
            why = _REFUSED.get(kind, "is no layer that augments pictures")
            raise ValueError(f"{_RULE}. Received: augment={kind}, which {why}")
        self.layer = layer

    def __call__(self, images, rng):
        low, high = getattr(self.layer, "value_range", None) or (-1.0, 1.0)
        scale = (high - low) / 2
        with keras.device("cpu"):
            seeds = _Seeds(int(rng.integers(2**31)))
            data = keras.ops.convert_to_tensor((images + 1) * scale + low)
            frames = keras.ops.unstack(data, axis=1) if images.ndim == 5 else [data]
            transformation = self.layer.get_random_transformation(frames[0], training=True, seed=seeds)
            changed = [self.layer.transform_images(frame, transformation, training=True) for frame in frames]
            changed = [keras.ops.convert_to_numpy(frame) for frame in changed]
        changed = np.stack(changed, axis=1) if images.ndim == 5 else changed[0]
        changed = (changed.astype("float32") - low) / scale - 1
        return np.clip(changed, min(images.min(), -1.0), max(images.max(), 1.0))


class _Seeds(keras.random.SeedGenerator):
    """A generator of seeds without a variable: worker threads make one for each batch."""

    def __init__(self, seed):
        self.number, self.drawn = seed, 0

    def next(self, ordered=True):
        self.drawn += 1
        return keras.ops.convert_to_tensor(np.array([self.number, self.drawn - 1]), dtype=_seed_dtype())


def _seed_dtype():
    return "int32" if keras.backend.backend() == "torch" else "uint32"


def names():
    """Names of the augmentations that a configuration may hold, a list."""
    return ["non_leaking", *map(snake, _LAYERS)]


def _named(config):
    """An augmentation from its name, or from a table with its name and options."""
    options = {"name": config} if isinstance(config, str) else dict(config)
    name = options.pop("name", None)
    known = {"non_leaking": NonLeaking, **{snake(kind): getattr(keras.layers, kind) for kind in _LAYERS}}
    if name not in known:
        raise ValueError(f"{_RULE}. Received: augment={shown(config)}. Known names: {', '.join(known)}")
    parameters = inspect.signature(known[name].__init__).parameters
    allowed = [key for key in parameters if key not in ("self", "kwargs", "seed", "data_format")]
    check_known(name, options, allowed)
    try:
        return known[name](**options)
    except TypeError as error:  # an option without a default
        raise ValueError(f"{error}. Received: augment={shown(config)}") from error
