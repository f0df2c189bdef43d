"""Pictures of any size at one size: scaled until they cover it, then cropped.

Scaling down averages over all pixels that fall into one (Pillow's bicubic filter, as wide as the step), so that fine
patterns become grey instead of turning into stripes.
"""

import math

import numpy as np

from keras_diffusion.configs.checks import check_choice, is_whole, shown
from keras_diffusion.data.sources import Derived, collate, drawn_sample
from keras_diffusion.runtime import limits
from keras_diffusion.runtime.optional import import_optional

_CENTRE = (0.5, 0.5)


class Sized(Derived):
    """Base class: pictures of `source`, and "concat" beside them, scaled and cropped. A subclass gives `size_at`.

    Args:
        source: a `Source` of images `(H, W, C)`.
        crop: "center", or "random": which part of the longer side is kept then depends on two random numbers.
    """

    def __init__(self, source, crop="center"):
        super().__init__(source)
        rule = "crop says which part of the longer side is kept: 'center' or 'random'"
        self.crop = check_choice("crop", crop, ("center", "random"), rule)
        self._own_draws = 2 if crop == "random" else 0
        self.num_draws = source.num_draws + self._own_draws

    def size_at(self, index):
        """The size that a sample gets, (height, width)."""
        raise NotImplementedError(f"{type(self).__name__} must implement size_at(index)")

    def size_of(self, index):
        return self.size_at(index)

    def __getitem__(self, index):
        return self._cropped(self.source[index], index, _CENTRE)

    def drawn(self, indices, draws):
        self.prefetch(indices)
        places, rest = draws[:, : self._own_draws], draws[:, self._own_draws :]
        places = places if self._own_draws else [_CENTRE] * len(indices)
        rows = zip(indices, places, rest, strict=True)
        samples = [self._cropped(drawn_sample(self.source, int(i), others), int(i), place) for i, place, others in rows]
        return collate(samples, indices)

    def _cropped(self, sample, index, place):
        size, spatial = self.size_at(index), [key for key in ("images", "concat") if key in sample]
        return sample | {key: resize(np.asarray(sample[key]), size, place) for key in spatial}


class Resized(Sized):
    """The pictures of `source`, and "concat" beside them, at one size.

    Args:
        source: a `Source` of images `(H, W, C)`.
        image_size: (height, width).
        crop: "center" (default) or "random", as for `Sized`.
    """

    def __init__(self, source, image_size, crop="center"):
        super().__init__(source, crop)
        self.image_size = image_size

    def size_at(self, index):
        return self.image_size


def resize(image, image_size, place=_CENTRE):
    """Scales one image `(H, W, C)`, channel by channel, until it covers a size, and crops what is beyond it.

    Args:
        image: uint8 or float array; or a clip `(F, H, W, C)`, whose frames become all alike.
        image_size: (height, width).
        place: where the part that is kept lies, (from top to bottom, from left to right), each from 0 to 1. Default:
            the centre.

    Returns:
        array `(height, width, C)`, or `(F, height, width, C)`, of the image's type.

    Raises:
        ValueError: an array of another rank.
    """
    if image.ndim == 4:
        return np.stack([resize(frame, image_size, place) for frame in image])
    if image.ndim != 3:
        raise ValueError(
            "Only images (height, width, channels) and clips of them can be resized. Received: "
            f"shape={image.shape}. Leave image_size out."
        )
    height, width = image_size
    if image.shape[:2] == (height, width):
        return image
    pil, ops = (
        import_optional(f"PIL.{name}", extra="viz", purpose="resizing images") for name in ("Image", "ImageOps")
    )
    pixels = image if image.dtype == np.uint8 else image.astype("float32")
    channels = [pil.fromarray(np.ascontiguousarray(pixels[..., c])) for c in range(image.shape[-1])]
    options = {"method": pil.Resampling.BICUBIC, "centering": (float(place[1]), float(place[0]))}
    resized = np.stack([np.asarray(ops.fit(channel, (width, height), **options)) for channel in channels], axis=-1)
    # Bicubic interpolation overshoots at edges; Pillow clips uint8 by itself.
    return resized if image.dtype == np.uint8 else np.clip(resized, image.min(), image.max())


def check_size(image_size):
    """`image_size` as (height, width), or None for None.

    Raises:
        ValueError: what is neither a positive int nor two of them, or too many pixels.
    """
    size = (image_size, image_size) if is_whole(image_size) else image_size
    if size is None:
        return None
    if not isinstance(size, (tuple, list)) or len(size) != 2 or not all(is_whole(s) and s > 0 for s in size):
        raise ValueError(
            f"image_size must be a positive int or (height, width). Received: image_size={shown(image_size)}"
        )
    limits.check(math.prod(int(s) for s in size), "table_values", "The number of pixels of image_size")
    return tuple(int(s) for s in size)
