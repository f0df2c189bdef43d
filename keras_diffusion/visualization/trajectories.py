"""Walks of a sampler in two dimensions, over the density that they should end in."""

import numpy as np
from keras import ops

from keras_diffusion.configs.checks import check_whole
from keras_diffusion.visualization.figures import COLOURS, TEXT, new_axes, styled, written
from keras_diffusion.visualization.grid import to_numpy
from keras_diffusion.visualization.plots import as_points, marker_size

_SIDE = 160  # points of the grid on which a density is evaluated, in each direction
_BANDS = 8


@styled
def plot_trajectories(
    trajectory,
    path=None,
    density=None,
    start=None,
    labels=None,
    title=None,
    limits=None,
    most=64,
):
    """Draws the ways of points from noise to data, a line each, with a dot at its end.

    Args:
        trajectory: `(n, B, 2)`: every x after a step, as `Sampler.sample(trajectory=True)` and `generate` return it;
            or a dict of names and such arrays, each of which gets axes of its own.
        path: file to write (.png, .pdf or .svg), or None.
        density: what lies underneath: a function of points `(M, 2)` that returns their log-density `(M,)`, such as
            `MixtureDenoiser.log_prob`; or points `(M, 2)`; or None (default).
        start: the noise at which the walks start, `(B, 2)`, to be drawn as their first points; or None (default).
        labels: class ids `(B,)`, one colour each, or None (default): the walks take turns at all colours.
        title: str or None.
        limits: (low, high) of both axes. Default: as the ends of the walks and the density need it.
        most: number of walks drawn, the first of the batch. Default 64.

    Returns:
        `matplotlib.figure.Figure` with axes for each trajectory.

    Raises:
        ValueError: trajectories or starts of other shapes, labels of another length, a density of another kind.

    Example:

    >>> denoise = kd.denoisers.MixtureDenoiser([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.0]], [0.2, 0.2])
    >>> levels = kd.schedulers.get_spacing("linspace").levels(kd.schedulers.get("cosine"), 10)
    >>> noise = np.random.default_rng(0).standard_normal((20, 2))
    >>> _, xs = kd.samplers.get("heun").sample(noise, denoise, levels, trajectory=True)
    >>> figure = kd.visualization.plot_trajectories(xs, density=denoise.log_prob, start=noise)
    """
    most = check_whole("most", most, 1)
    several = trajectory if isinstance(trajectory, dict) else {title: trajectory}
    if not several:
        raise ValueError("There must be a trajectory to draw. Received: an empty dict")
    walks = {name: _walks(xs, start)[:, :most] for name, xs in several.items()}
    points = as_points(density, "density") if density is not None and not callable(density) else None
    limits = _limits(list(walks.values()), points) if limits is None else limits
    figure, grid = new_axes((4.6 * len(walks), 4.8), title if isinstance(trajectory, dict) else None, cols=len(walks))
    for axes, (name, xs) in zip(grid, walks.items(), strict=True):
        if points is not None:
            axes.scatter(*points.T, s=marker_size(len(points)), color=TEXT, alpha=0.35, linewidths=0)
        elif density is not None:
            _contours(axes, density, limits)
        for i, colour in enumerate(_colours(labels, xs.shape[1], to_numpy(next(iter(several.values()))).shape[1])):
            axes.plot(*xs[:, i].T, color=colour, linewidth=0.9, alpha=0.7)
            axes.plot(*xs[-1, i], "o", color=colour, markersize=3.5)
        axes.set(xlim=limits, ylim=limits, xlabel="x₁", ylabel="x₂", aspect="equal", title=name)
    return written(figure, path)


def _walks(trajectory, start):
    xs = to_numpy(trajectory)
    if xs.ndim != 3 or xs.shape[-1] != 2 or 0 in xs.shape:
        raise ValueError(
            f"A trajectory in two dimensions is an array (steps, batch, 2). Received: shape={xs.shape}. "
            "`film_strip` and `save_animation` show those of images."
        )
    if start is None:
        return xs
    start = as_points(start, "start")
    if start.shape != xs.shape[1:]:
        raise ValueError(f"start must hold one point per walk. Received: shape={start.shape} for {xs.shape[1]} walks.")
    return np.concatenate([start[None], xs])


def _limits(walks, points):
    ends = np.concatenate([xs[[0, -1]].reshape(-1, 2) for xs in walks] + ([] if points is None else [points]))
    furthest = 1.1 * float(np.abs(ends).max())
    return -furthest, furthest


def _contours(axes, log_density, limits):
    """The density in eight bands of grey, the densest darkest."""
    ticks = np.linspace(*limits, _SIDE)
    grid = np.stack(np.meshgrid(ticks, ticks), axis=-1)
    values = to_numpy(log_density(ops.convert_to_tensor(grid.reshape(-1, 2), "float32")))
    if values.size != _SIDE**2:
        raise ValueError(
            "density is a function from points (M, 2) to their log-densities (M,), or points. Received: a function "
            f"that answers {_SIDE**2} points with shape={values.shape}"
        )
    values = np.exp(values - values.max()).reshape(_SIDE, _SIDE)
    bands = np.linspace(0.02, 1.0, _BANDS + 1)
    axes.contourf(ticks, ticks, values, bands, colors=[(TEXT, 0.1 + 0.6 * i / _BANDS) for i in range(_BANDS)])


def _colours(labels, drawn, count):
    if labels is None:
        return [COLOURS[i % len(COLOURS)] for i in range(drawn)]
    labels = np.asarray(labels)
    if labels.shape != (count,):
        raise ValueError(f"labels must hold one class id per walk. Received: shape={labels.shape} for {count} walks.")
    ids = np.unique(labels, return_inverse=True)[1]
    return [COLOURS[i % len(COLOURS)] for i in ids[:drawn]]
