"""Pictures of any size at one size: scaled until they cover it, then cropped.

Scaling down averages over all pixels that fall into one (Pillow's bicubic filter, as wide as the step), so that fine
patterns become grey instead of turning into stripes.
"""

import numpy as np

from keras_diffusion.data.sources import Derived
from keras_diffusion.runtime.optional import import_optional


class Resized(Derived):
    """The pictures of `source`, and "concat" beside them, at one size.

    The shorter side is scaled, the longer one cropped around the centre.

    Args:
        source: a `Source` of images `(H, W, C)`.
        image_size: (height, width).
    """

    def __init__(self, source, image_size):
        super().__init__(source)
        self.image_size = image_size

    def __getitem__(self, index):
        sample = self.source[index]
        spatial = ("images", "concat")
        return sample | {key: resize(np.asarray(sample[key]), self.image_size) for key in spatial if key in sample}


def resize(image, image_size):
    """Scales and centre-crops one image `(H, W, C)`, channel by channel, to `image_size` = (height, width)."""
    if image.ndim != 3:
        raise ValueError(
            "Only images (height, width, channels) can be resized. Received: "
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
    resized = np.stack(
        [np.asarray(ops.fit(channel, (width, height), pil.Resampling.BICUBIC)) for channel in channels], axis=-1
    )
    # Bicubic interpolation overshoots at edges; Pillow clips uint8 by itself.
    return resized if image.dtype == np.uint8 else np.clip(resized, image.min(), image.max())
