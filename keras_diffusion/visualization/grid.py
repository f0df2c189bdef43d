"""Many small images as one picture: grids of samples and film strips of a denoising run.

All functions take float images in [−1, 1] or uint8 images, channels last, and return one uint8 array. Enlarging repeats
pixels, so that the 64 pixels of a digit stay 64 visible squares instead of a blur.
"""

import io
import math

import numpy as np
from keras import ops

from keras_diffusion.configs.checks import check_whole
from keras_diffusion.core.levels import Levels
from keras_diffusion.runtime.files import write_whole
from keras_diffusion.runtime.optional import import_optional
from keras_diffusion.visualization.lettering import Cells, Lettering

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
    images = to_numpy(images)
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating):
        raise ValueError(f"Images must be uint8 or floats in [-1, 1]. Received: dtype={images.dtype}")
    if not np.isfinite(images).all():
        raise ValueError(
            f"Images must be finite to be drawn. Received: {int((~np.isfinite(images)).sum())} NaN or infinite values."
        )
    return np.clip(np.round((images + 1.0) * 127.5), 0, 255).astype("uint8")


def image_grid(
    images,
    rows=None,
    cols=None,
    pad=1,
    scale=1,
    background=255,
    titles=None,
    column_titles=None,
    captions=None,
):
    """Lays images out row by row.

    Args:
        images: `(N, H, W, C)`, float in [−1, 1] or uint8; C is 1, 3 or 4.
        rows, cols: int; what is left out is found: as square as possible, or as many as N needs.
        pad: pixels between images and around them, in the finished grid.
        scale: int factor of enlargement by repeating pixels, or "auto": until the longer side of an image has 64
            pixels.
        background: grey value 0…255 of padding and empty places; or None: transparent, with texts that read on light
            and on dark pages.
        titles: a text for each row, such as the names of classes, to be written on the left of it; or None (default).
        column_titles: a text for each column, to be written above it, cut to its width; or None (default).
        captions: a text for each image, to be written under it in up to three lines; or None (default).

    Returns:
        uint8 array `(rows·(H·scale + pad) + pad, cols·(W·scale + pad) + pad, C)`; texts make it larger, and without a
        background C is 4.

    Raises:
        ValueError: wrong rank or channel count, no images, a grid too small for them, or another number of titles than
            of rows or columns, or of captions than of images.

    Example:

    >>> kd.visualization.image_grid(np.zeros((10, 8, 8, 1)), cols=5).shape
    (19, 46, 1)
    """
    images = to_uint8(images)
    if images.ndim != 4 or images.shape[-1] not in (1, 3, 4) or 0 in images.shape:
        raise ValueError(
            "A grid needs images (N, height, width, channels) with 1, 3 or 4 channels and N ≥ 1. "
            f"Received: shape={images.shape}. Append an axis to grey images without one: images[..., None]."
        )
    n, height, width, _ = images.shape
    rows, cols = _layout(n, rows, cols)
    scale = _scale(scale, height, width)
    pad = check_whole("pad", pad, 0, rule="pad must be an integer ≥ 0")
    rule = "background is a grey value, an integer from 0 to 255, or None"
    check_whole("background", background, 0, 255, rule=rule, optional=True)
    titles = _texts("titles", titles, rows, "row")
    column_titles = _texts("column_titles", column_titles, cols, "column")
    captions = _texts("captions", captions, n, "image")
    images = images.repeat(scale, axis=1).repeat(scale, axis=2)
    images = _with_alpha(images) if background is None else images
    cells = Cells(rows, cols, images.shape[1], images.shape[2], pad)
    written = Lettering(cells, titles, column_titles, captions) if titles or column_titles or captions else None
    canvas = np.full((*(written or cells).size, images.shape[-1]), background or 0, "uint8")
    for i, image in enumerate(images):
        top, left = (written or cells).corner(*divmod(i, cols))
        canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
    return canvas if written is None else written.on(canvas, background)


def _texts(name, texts, count, what):
    texts = None if texts is None else [str(text) for text in texts]
    if texts is not None and len(texts) != count:
        raise ValueError(f"{name} need one text per {what}. Received: {len(texts)} {name} for {count} {what}s")
    return texts


def _with_alpha(images):
    colours = images[..., :3].repeat(3 if images.shape[-1] == 1 else 1, axis=-1)
    alpha = images[..., 3:] if images.shape[-1] == 4 else np.full_like(images[..., :1], 255)
    return np.concatenate([colours, alpha], axis=-1)


def film_strip(trajectory, steps=8, pad=1, scale=1, background=255, titles=None, levels=None):
    """The way from noise to image: one row per sample, time from left to right.

    Args:
        trajectory: `(n, B, H, W, C)`: every x after a step, as `generate(trajectory=True)` and `Sampler.sample` return
            it.
        steps: int: that many columns, evenly spaced, the first and the last step among them; or a sequence of step
            indices.
        pad, scale, background: as in `image_grid`.
        titles: a text for each sample, on the left of its row; or None (default).
        levels: what is written above the columns: the `Levels` of the walk, n + 1 of them, for the time after each
            step; a text or a number for each of the n steps; or None (default) for nothing.

    Returns:
        uint8 array, the grid of B rows.

    Raises:
        ValueError: wrong rank, steps that the trajectory does not have, or another number of levels.

    Example:

    >>> xs = np.random.default_rng(0).uniform(-1, 1, (10, 2, 8, 8, 1))
    >>> levels = kd.schedulers.get_spacing("linspace").levels(kd.schedulers.get("cosine"), 10)
    >>> kd.visualization.film_strip(xs, steps=3, scale=8, levels=levels).shape
    (144, 196, 1)
    """
    trajectory = to_numpy(trajectory)
    if trajectory.ndim != 5 or 0 in trajectory.shape:
        raise ValueError(
            "A film strip needs a trajectory (steps, batch, height, width, channels). Received: "
            f"shape={trajectory.shape}"
        )
    n, batch = trajectory.shape[:2]
    if isinstance(steps, (int, np.integer)):
        if steps < 1:
            raise ValueError(f"A film strip needs at least one step. Received: steps={steps}")
        chosen = spread(n, steps)
    else:
        chosen = np.asarray(steps, dtype=int)
        if chosen.ndim != 1 or chosen.size == 0 or chosen.min() < -n or chosen.max() >= n:
            raise ValueError(f"steps must be indices into the {n} steps of the trajectory. Received: steps={steps!r}")
    frames = trajectory[chosen].swapaxes(0, 1)  # (B, columns, H, W, C)
    labels = _level_labels(levels, n)
    return image_grid(
        frames.reshape(-1, *frames.shape[2:]),
        rows=batch,
        cols=len(chosen),
        pad=pad,
        scale=scale,
        background=background,
        titles=titles,
        column_titles=None if labels is None else [labels[i] for i in chosen],
    )


def spread(n, count):
    """At most `count` of the numbers 0…n − 1, evenly spaced; the last one, the finished image, is always there."""
    return np.round(np.linspace(n - 1, 0, min(count, n))).astype(int)[::-1]


def _level_labels(levels, n):
    """A text for each of the n steps, or None."""
    if levels is None:
        return None
    if isinstance(levels, Levels):
        levels = np.atleast_1d(levels.t)[1:]
    if len(levels) != n:
        raise ValueError(
            f"levels are the n + 1 `Levels` of a walk, or one text per step. Received: {len(levels)} after steps, for "
            f"a trajectory of {n} steps."
        )
    return [level if isinstance(level, str) else f"t = {level:.2f}" for level in levels]


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


def to_numpy(images):
    """A NumPy array of an array or tensor."""
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
