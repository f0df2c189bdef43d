"""Decodes one image file, of any kind, into 8 bits per channel.

transparency      composed onto a background; colours under transparent pixels are never seen
16 bits           scaled, not clipped; larger 32-bit integers are refused
floats            scaled if from 0 to 1; otherwise refused, since nothing says which value is white
EXIF              rotated upright
animations        first frame only
"""

import io
import math
from pathlib import Path

import numpy as np

from keras_diffusion.configs.checks import is_whole, shown
from keras_diffusion.runtime import limits
from keras_diffusion.runtime.arrays import check_unpacked
from keras_diffusion.runtime.optional import import_optional

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
# The formats of the file endings in image_folder.py. Pillow knows more, some of which call other programs.
_FORMATS = ("PNG", "JPEG", "BMP", "DIB", "GIF", "WEBP", "TIFF")
_PURPOSE = "reading image files"
_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)  # of EXIF: the values that swap height and width


def read_image(path, channels=3, background="white", name=None):
    """Decodes one image file.

    Args:
        path: the file, or its bytes.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA).
        background: colour behind transparent pixels, as in `colour_of`; with 4 channels, the colour of those that are
            fully transparent.
        name: what the bytes are, for errors.

    Returns:
        uint8 array `(H, W, channels)`.

    Raises:
        ValueError: a damaged file, or one whose values have no known scale; the message names it.
    """
    image_module, ops = (
        import_optional(f"PIL.{name}", extra="viz", purpose=_PURPOSE) for name in ("Image", "ImageOps")
    )
    is_bytes = isinstance(path, bytes)
    name = name or ("bytes" if is_bytes else path)
    try:
        with image_module.open(io.BytesIO(path) if is_bytes else path, formats=_FORMATS) as file:
            _check_size(file, len(path) if is_bytes else Path(path).stat().st_size)
            return _pixels(image_module, ops.exif_transpose(file), channels, background)
    except Exception as error:  # each format in Pillow raises its own: OSError, SyntaxError, struct.error, ValueError …
        raise ValueError(f"Cannot read the image {str(name)!r}: {error}. Remove or replace the file.") from error


def convert_image(image, channels=3, background="white", name="image"):
    """An opened PIL image as `read_image` gives it.

    Args:
        image: `PIL.Image.Image`.
        channels, background: as in `read_image`.
        name: what the image is, for errors.

    Returns:
        uint8 array `(H, W, channels)`.

    Raises:
        ValueError: values that have no known scale, or data that are cut off.
    """
    image_module, ops = (
        import_optional(f"PIL.{name}", extra="viz", purpose=_PURPOSE) for name in ("Image", "ImageOps")
    )
    limits.check(math.prod(image.size), "image_pixels", f"The size of {name}")
    try:
        return _pixels(image_module, ops.exif_transpose(image), channels, background)
    except Exception as error:  # it may be decoded only now
        raise ValueError(f"Cannot read the image {name!r}: {error}. Remove or replace it.") from error


def _pixels(image_module, image, channels, background):
    """An upright PIL image as uint8 `(H, W, channels)`."""
    image = _composed(image_module, _eight_bits(image_module, image), channels, colour_of(background))
    pixels = np.asarray(image.convert(MODES[channels]))
    return pixels[..., None] if channels == 1 else pixels


def read_size(path, name=None):
    """The size of an image file, read from its header.

    Args:
        path: the file, or an open one.
        name: what an open one is, for errors.

    Returns:
        (height, width) of what `read_image` makes of it.

    Raises:
        ValueError: a file without a readable header; the message names it.
    """
    image_module = import_optional("PIL.Image", extra="viz", purpose=_PURPOSE)
    try:
        with image_module.open(path, formats=_FORMATS) as file:
            width, height = file.size
            # The method of the base class: that of PNG files decodes those without EXIF.
            turned = image_module.Image.getexif(file).get(_ORIENTATION) in _TURNED
    except Exception as error:  # as in `read_image`
        raise ValueError(
            f"Cannot read the image {str(name or path)!r}: {error}. Remove or replace the file."
        ) from error
    return (width, height) if turned else (height, width)


def colour_of(background):
    """A colour as (red, green, blue), ints from 0 to 255.

    Args:
        background: a name that Pillow knows ("white", "#ff8800", "hsl(120, 50%, 50%)"), or three ints from 0 to 255.

    Raises:
        ValueError: anything else.
    """
    if isinstance(background, str):
        colours = import_optional("PIL.ImageColor", extra="viz", purpose=_PURPOSE)
        try:
            return tuple(colours.getrgb(background)[:3])
        except ValueError:
            pass
    elif (
        isinstance(background, (tuple, list))
        and len(background) == 3
        and all(is_whole(n) and 0 <= n <= 255 for n in background)
    ):
        return tuple(int(n) for n in background)
    raise ValueError(
        "`background` is the colour under transparent pixels: a name such as 'white' or '#ffffff', or three integers "
        f"from 0 to 255. Received: background={shown(background)}"
    )


def _check_size(image, stored):
    """Raises ValueError, before decoding, for a picture far larger than its file.

    50 kB of PNG can be a gigabyte.
    """
    pixels, width = math.prod(image.size), 4 if image.mode.startswith(("I", "F")) else 1
    limits.check(pixels, "image_pixels", "its size")
    check_unpacked(pixels * width * len(image.getbands()), stored, "its size")


def _eight_bits(image_module, image):
    """The image with 8 bits per channel; Pillow's own conversion would clip at 255 instead of scaling."""
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image, "float64")
    low, high = float(values.min()), float(values.max())
    kind, most = ("integers", 65535) if image.mode.startswith("I") else ("floats", 1)
    if not (0 <= low and high <= most):  # NaN fails both comparisons
        raise ValueError(
            f"pictures of {kind} are read with values from 0 to {most}, and these go from {low:g} to {high:g}. Scale "
            "them and save them with 8 or 16 bits, or pass them as arrays"
        )
    return image_module.fromarray((values * (255 / most)).round().astype("uint8"))


def _composed(image_module, image, channels, colour):
    """The image without the colours under its transparent pixels."""
    if image.mode not in ("RGBA", "LA", "PA", "RGBa", "La") and "transparency" not in image.info:
        return image
    image = image.convert("RGBA")
    if channels == 4:
        pixels = np.array(image)
        pixels[pixels[..., 3] == 0, :3] = colour
        return image_module.fromarray(pixels, "RGBA")
    return image_module.alpha_composite(image_module.new("RGBA", image.size, (*colour, 255)), image)
