"""Animations of a walk from noise to images, as GIF or animated WebP."""

import io
from pathlib import Path

import numpy as np

from keras_diffusion.configs.checks import check_number, check_whole
from keras_diffusion.runtime.files import write_whole
from keras_diffusion.runtime.optional import import_optional
from keras_diffusion.visualization.grid import image_grid, spread, to_numpy

_KINDS = {".gif": "GIF", ".webp": "WEBP"}


def save_animation(
    path,
    *trajectories,
    frames=40,
    seconds=3.0,
    hold=1.5,
    titles=None,
    cols=None,
    pad=1,
    scale="auto",
    background=255,
):
    """Writes the steps of a walk as a film that repeats: x, or x and x0 beside each other.

    Args:
        path: the file, .gif or .webp. WebP has all colours and is about half as large; GIF has 256 colours a frame and
            is shown everywhere.
        trajectories: one or more arrays `(n, B, H, W, C)` of as many steps, float in [−1, 1] or uint8, as
            `generate(trajectory=True)` and `Sampler.sample` return them. What leaves the range is clipped: most of the
            noise does.
        frames: at most so many, evenly spaced, the last step among them. Default 40.
        seconds: how long the walk takes. Default 3.
        hold: seconds for which the last frame stays. Default 1.5.
        titles: a text above each trajectory, such as ["x", "x0"]; or None (default).
        cols: samples in a row. Default: as square as possible.
        pad, scale, background: as in `image_grid`; scale defaults to "auto".

    Returns:
        the path, as `pathlib.Path`. The file is written whole or not at all; missing folders are made. Equal frames
        that follow each other become one that is shown for longer.

    Raises:
        ValueError: another ending, no trajectory, wrong ranks, numbers of steps or sizes that differ, NaN.
        ImportError: Pillow is missing.

    Example:

    >>> images, xs, x0s = model.generate(4, num_steps=20, trajectory="both", seed=0)
    >>> kd.visualization.save_animation("walk.gif", xs, x0s, titles=["x", "x0"]).name
    'walk.gif'
    """
    kind = _KINDS.get(Path(path).suffix.lower())
    if kind is None:
        raise ValueError(f"An animation is a .gif or .webp file. Received: path={str(path)!r}")
    trajectories = [to_numpy(trajectory) for trajectory in trajectories]
    shapes = {trajectory.shape for trajectory in trajectories}
    if len(shapes) != 1 or len(shape := next(iter(shapes))) != 5 or 0 in shape:
        raise ValueError(
            "An animation needs one or more trajectories (steps, batch, height, width, channels) of one shape. "
            f"Received: shapes {sorted(shapes)}"
        )
    frames = check_whole("frames", frames, 1, rule="frames must be an integer ≥ 1")
    seconds, hold = (check_number(name, value, 0) for name, value in (("seconds", seconds), ("hold", hold)))
    if titles is not None and len(titles) != len(trajectories):
        raise ValueError(
            f"titles need one text per trajectory. Received: {len(titles)} titles for {len(trajectories)} trajectories"
        )
    steps = spread(shape[0], frames)
    options = {"cols": cols, "pad": pad, "scale": scale, "background": background}
    image = import_optional("PIL.Image", extra="viz", purpose="writing animations")
    pictures = [image.fromarray(_frame([t[i] for t in trajectories], titles, options)) for i in steps]
    durations = [max(20, round(1000 * seconds / len(steps)))] * len(steps)
    durations[-1] += round(1000 * hold)
    buffer = io.BytesIO()
    how = {"quality": 85, "method": 4} if kind == "WEBP" else {"disposal": 2}
    pictures[0].save(
        buffer, kind, save_all=True, append_images=pictures[1:], duration=durations, loop=0, optimize=False, **how
    )
    return write_whole(path, buffer.getvalue())


def _frame(batches, titles, options):
    """One picture of a batch of each trajectory, `(H, W, 3 or 4)` or `(H, W)`, side by side."""
    grids = [image_grid(batch, **options) for batch in batches]
    if len(grids) == 1 and titles is None:
        picture = grids[0]
    else:
        outer = {"pad": 4, "background": options["background"], "column_titles": titles}
        picture = image_grid(np.stack(grids), rows=1, **outer)
    return picture[..., 0] if picture.shape[-1] == 1 else picture
