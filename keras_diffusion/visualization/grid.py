"""Many small images as one picture: grids of samples and film strips of a denoising run.

All functions take float images in [−1, 1] or uint8 images, channels last, and return one uint8 array. Enlarging repeats
pixels, so that the 64 pixels of a digit stay 64 visible squares instead of a blur.
"""

import io
import math

import numpy as np
from keras import ops

from keras_diffusion.configs.checks import check_whole
from keras_diffusion.runtime.files import write_whole
from keras_diffusion.runtime.optional import import_optional

_LONGEST_TITLE = 32  # characters
_VISIBLE = 64  # scale="auto" enlarges images until their longer side has this many pixels


def to_uint8(images):
    """uint8 images from floats in [−1, 1]; what leaves the range is clipped.

    Args:
        images: array or tensor of any shape `(...,)`, float in [−1, 1], or uint8, which is returned as it is.

    Returns:
        uint8 array of the same shape: −1 is 0, 1 is 255.

    Raises:
        ValueError: NaN or infinity, or a dtype other than uint8 and float.
    """
    images = _to_numpy(images)
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating):
        raise ValueError(f"Images must be uint8 or floats in [-1, 1]. Received: dtype={images.dtype}")
    if not np.isfinite(images).all():
        raise ValueError(
            f"Images must be finite to be drawn. Received: {int((~np.isfinite(images)).sum())} NaN or infinite values."
        )
    return np.clip(np.round((images + 1.0) * 127.5), 0, 255).astype("uint8")


def image_grid(images, rows=None, cols=None, pad=1, scale=1, background=255, titles=None):
    """Lays images out row by row.

    Args:
        images: `(N, H, W, C)`, float in [−1, 1] or uint8; C is 1, 3 or 4.
        rows, cols: int; what is left out is found: as square as possible, or as many as N needs.
        pad: pixels between images and around them, in the finished grid.
        scale: int factor of enlargement by repeating pixels, or "auto": until the longer side of an image has 64
            pixels.
        background: grey value 0…255 of padding and empty places.
        titles: a text for each row, such as the names of classes, to be written on the left of it; or None (default).

    Returns:
        uint8 array `(rows·(H·scale + pad) + pad, cols·(W·scale + pad) + pad, C)`; with titles, their width more.

    Raises:
        ValueError: wrong rank or channel count, no images, a grid too small for them, or another number of titles than
            of rows.

    Example:

    >>> image_grid(np.zeros((10, 8, 8, 1)), cols=5).shape
    (19, 46, 1)
    """
    images = to_uint8(images)
    if images.ndim != 4 or images.shape[-1] not in (1, 3, 4) or 0 in images.shape:
        raise ValueError(
            "A grid needs images (N, height, width, channels) with 1, 3 or 4 channels and N ≥ 1. "
            f"Received: shape={images.shape}. Append an axis to grey images without one: images[..., None]."
        )
    n, height, width, channels = images.shape
    rows, cols = _layout(n, rows, cols)
    scale = _scale(scale, height, width)
    pad = check_whole("pad", pad, 0, rule="pad must be an integer ≥ 0")
    check_whole("background", background, 0, 255, rule="background is a grey value, an integer from 0 to 255")
    images = images.repeat(scale, axis=1).repeat(scale, axis=2)
    height, width = height * scale, width * scale
    canvas = np.full((rows * (height + pad) + pad, cols * (width + pad) + pad, channels), background, "uint8")
    for i, image in enumerate(images):
        top, left = pad + (i // cols) * (height + pad), pad + (i % cols) * (width + pad)
        canvas[top : top + height, left : left + width] = image
    return canvas if titles is None else _titled(canvas, list(titles), rows, height + pad, pad, background)


def _titled(canvas, titles, rows, row_height, pad, background):
    """The grid with a text on the left of each row."""
    if len(titles) != rows:
        raise ValueError(f"titles need one text per row. Received: {len(titles)} titles for {rows} rows")
    image, draw, font = (
        import_optional(f"PIL.{name}", extra="viz", purpose="titles of rows")
        for name in ("Image", "ImageDraw", "ImageFont")
    )
    size = int(np.clip(row_height // 4, 8, 20))
    font = font.load_default(size)
    texts = [
        str(title) if len(str(title)) <= _LONGEST_TITLE else f"{str(title)[: _LONGEST_TITLE - 1]}…" for title in titles
    ]
    width = max(math.ceil(font.getlength(text)) for text in texts) + size
    margin = image.new("L", (width, canvas.shape[0]), background)
    pen = draw.Draw(margin)
    for row, text in enumerate(texts):
        middle = pad + row * row_height + (row_height - pad) / 2
        pen.text((width - size / 2, middle), text, fill=0 if background > 127 else 255, font=font, anchor="rm")
    grey = np.asarray(margin)[..., None]
    channels = canvas.shape[-1]
    opaque = np.full_like(grey, 255)
    parts = [grey] * min(channels, 3) + ([opaque] if channels == 4 else [])
    return np.concatenate([np.concatenate(parts, axis=-1), canvas], axis=1)


def film_strip(trajectory, steps=8, pad=1, scale=1, background=255):
    """The way from noise to image: one row per sample, time from left to right.

    Args:
        trajectory: `(n, B, H, W, C)`: every x after a step, as `generate(trajectory=True)` and `Sampler.sample` return
            it.
        steps: int: that many columns, evenly spaced, the first and the last step among them; or a sequence of step
            indices.
        pad, scale, background: as in `image_grid`.

    Returns:
        uint8 array, the grid of B rows.

    Raises:
        ValueError: wrong rank, or steps that the trajectory does not have.
    """
    trajectory = _to_numpy(trajectory)
    if trajectory.ndim != 5 or 0 in trajectory.shape:
        raise ValueError(
            "A film strip needs a trajectory (steps, batch, height, width, channels). Received: "
            f"shape={trajectory.shape}"
        )
    n, batch = trajectory.shape[:2]
    if isinstance(steps, (int, np.integer)):
        if steps < 1:
            raise ValueError(f"A film strip needs at least one step. Received: steps={steps}")
        # The last column is the finished image; a single column shows that one.
        chosen = np.round(np.linspace(n - 1, 0, min(steps, n))).astype(int)[::-1]
    else:
        chosen = np.asarray(steps, dtype=int)
        if chosen.ndim != 1 or chosen.size == 0 or chosen.min() < -n or chosen.max() >= n:
            raise ValueError(f"steps must be indices into the {n} steps of the trajectory. Received: steps={steps!r}")
    frames = trajectory[chosen].swapaxes(0, 1)  # (B, columns, H, W, C)
    return image_grid(
        frames.reshape(-1, *frames.shape[2:]), rows=batch, cols=len(chosen), pad=pad, scale=scale, background=background
    )


def png_bytes(image):
    """One image as the bytes of a PNG file.

    Args:
        image: `(H, W, C)` or `(H, W)`, float in [−1, 1] or uint8; C is 1, 3 or 4.

    Returns:
        bytes.

    Raises:
        ValueError: another shape or dtype, or values that are not finite.
        ImportError: Pillow is missing.
    """
    image = to_uint8(image)
    if image.ndim == 3 and image.shape[-1] == 1:
        image = image[..., 0]
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[-1] not in (3, 4)):
        raise ValueError(
            f"A PNG holds one image (height, width, channels) with 1, 3 or 4 channels. Received: shape={image.shape}"
        )
    buffer = io.BytesIO()
    import_optional("PIL.Image", extra="viz", purpose="writing PNG files").fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def save_png(path, image):
    """Writes one image as a PNG file, whole or not at all; missing folders are made.

    Args:
        path: the file; its name should end in .png.
        image: `(H, W, C)` or `(H, W)`, float in [−1, 1] or uint8; C is 1, 3 or 4.

    Returns:
        the path, as `pathlib.Path`.

    Raises:
        ValueError: as `png_bytes`.
        OSError: the file could not be written.
    """
    return write_whole(path, png_bytes(image))


def _to_numpy(images):
    return images if isinstance(images, np.ndarray) else ops.convert_to_numpy(images)


def _layout(n, rows, cols):
    for name, value in (("rows", rows), ("cols", cols)):
        check_whole(name, value, 1, rule=f"{name} must be an integer ≥ 1 or None", optional=True)
    if cols is None:
        cols = math.ceil(math.sqrt(n)) if rows is None else math.ceil(n / rows)
    rows = math.ceil(n / cols) if rows is None else rows
    if rows * cols < n:
        raise ValueError(f"The grid must have a place for each image. Received: {n} images, rows={rows}, cols={cols}")
    return rows, cols


def _scale(scale, height, width):
    if isinstance(scale, str) and scale == "auto":
        return math.ceil(_VISIBLE / max(height, width))
    return check_whole("scale", scale, 1, rule="scale must be an integer ≥ 1 or 'auto'")
