"""Plots of what is decided before any network runs: noise schedules, spacings, and the tables of samplers."""

import math

import numpy as np

from keras_diffusion import samplers, schedulers
from keras_diffusion.core.levels import Levels
from keras_diffusion.visualization.figures import COLOURS, new_axes, styled, written

_TIMES = np.linspace(0.0, 1.0, 501)
_SIGNS = {"alpha": "α", "sigma": "σ"}
_WIDEST = 8  # parts of a column that are drawn as lines of their own


@styled
def plot_schedule(schedules, path=None, title=None):
    """Draws α, σ and the log-SNR of noise schedules over the time.

    Args:
        schedules: a `NoiseSchedule`, its name, or a dict with options; or a list of these.
        path: file to write (.png, .pdf or .svg), or None.
        title: str or None.

    Returns:
        `matplotlib.figure.Figure` with three axes. An infinite log-SNR, at an end of a schedule, leaves a gap.

    Raises:
        ValueError: an unknown name, or no schedule at all.

    Example:

    >>> figure = kd.visualization.plot_schedule(["cosine", "linear", {"name": "flow", "shift": 3.0}])
    """
    figure, (signal, noise, ratio) = new_axes((11.0, 3.4), title, cols=3)
    for i, (label, schedule) in enumerate(_each(schedules, schedulers.get, "schedules")):
        levels = schedule.levels(_TIMES)
        for axes, values in ((signal, levels.alpha), (noise, levels.sigma), (ratio, levels.log_snr)):
            axes.plot(_TIMES, _finite(values), color=_colour(i), label=label)
    signal.set(xlabel="t", ylabel="α, signal")
    noise.set(xlabel="t", ylabel="σ, noise")
    ratio.set(xlabel="t", ylabel="log-SNR, log(α²/σ²)")
    if max(line.get_ydata().max() for line in noise.lines) > 2.0:  # variance exploding
        noise.set_yscale("log")
    signal.legend()
    return written(figure, path)


@styled
def plot_spacing(spacings, schedule="cosine", num_steps=10, path=None, title=None, start=1.0, end=0.0):
    """Draws the levels that samplers visit: their times, and their σ/α, over the steps.

    Args:
        spacings: a `Spacing`, its name, or a dict with options; or a list of these.
        schedule: the `NoiseSchedule` on which they lie, its name, or a dict with options. Default "cosine".
        num_steps: number of steps n ≥ 1: there are n + 1 levels. Default 10.
        path: file to write (.png, .pdf or .svg), or None.
        title: str or None.
        start, end: the times of the first and of the last level. Default 1 and 0.

    Returns:
        `matplotlib.figure.Figure` with two axes. On the logarithmic axis of σ/α, a clean level and one of pure noise
        leave a gap.

    Raises:
        ValueError: an unknown name, no spacing at all, or steps that do not fit.

    Example:

    >>> figure = kd.visualization.plot_spacing(["linspace", "karras"], schedule="linear", num_steps=20)
    """
    schedule = schedulers.get(schedule)
    figure, (times, ratios) = new_axes((9.0, 3.6), title, cols=2)
    for i, (label, spacing) in enumerate(_each(spacings, schedulers.get_spacing, "spacings")):
        levels = spacing.levels(schedule, num_steps, start, end)
        steps = np.arange(len(levels.t))
        with np.errstate(divide="ignore"):
            ratio = levels.sigma / levels.alpha
        ratio[ratio == 0] = np.nan
        for axes, values in ((times, levels.t), (ratios, _finite(ratio))):
            axes.plot(steps, values, color=_colour(i), label=label, linewidth=1.4, marker="o", markersize=3.5)
    times.set(xlabel="step", ylabel="t")
    ratios.set(xlabel="step", ylabel="σ/α", yscale="log")
    times.legend()
    for axes in (times, ratios):
        axes.xaxis.get_major_locator().set_params(integer=True)
    return written(figure, path)


@styled
def plot_table(sampler, schedule="cosine", spacing=None, num_steps=10, path=None, title=None):
    """Draws what a sampler will do: the columns of its table, each over the rows.

    Most samplers have one row for a step; those with several evaluations per step may have more. Each column has axes
    of its own. `Sampler.plan` and the module of a sampler say what its columns are: "x0", "eps" and "noise" are the
    weights of the predicted x0, of ε and of fresh noise.

    Args:
        sampler: a `Sampler`, its name, or a dict with options.
        schedule: a `NoiseSchedule`, its name, or a dict with options. Default "cosine".
        spacing: a `Spacing`, its name, or a dict with options. Default: that of the schedule.
        num_steps: number of steps n ≥ 1. Default 10.
        path: file to write (.png, .pdf or .svg), or None.
        title: str or None (default): the sampler.

    Returns:
        `matplotlib.figure.Figure`, whose axes have the columns' names as titles. A column of many numbers in each row,
        such as the tabulated curve of an adaptive sampler, is drawn over their places, with a line for each row.

    Raises:
        ValueError: an unknown name, or steps that do not fit.

    Example:

    >>> figure = kd.visualization.plot_table("dpmpp_2m", num_steps=10)
    >>> [axes.get_title() for axes in figure.axes]
    ['level t', 'level α', 'level σ', 'x0', 'eps', 'bend']
    """
    sampler, schedule = samplers.get(sampler), schedulers.get(schedule)
    levels = schedulers.get_spacing(spacing or schedule.spacing).levels(schedule, num_steps)
    columns = _columns(sampler.table(levels, schedule))
    cols = min(3, len(columns))
    rows = math.ceil(len(columns) / cols)
    figure, grid = new_axes((3.4 * cols, 0.6 + 2.1 * rows), title or repr(sampler), rows, cols)
    for axes in grid[len(columns) :]:
        axes.remove()
    for axes, (name, lines) in zip(grid, columns.items(), strict=False):
        for i, (label, values) in enumerate(lines.items()):
            axes.plot(_finite(values), color=_colour(i), label=label, linewidth=1.4, marker="o", markersize=3.0)
        axes.set_title(name, fontsize="medium")
        axes.xaxis.get_major_locator().set_params(integer=True)
        if 1 < len(lines) <= _WIDEST:
            axes.legend(fontsize="small")
    figure.supxlabel("row of the table", fontsize="medium")
    return written(figure, path)


def _columns(table):
    """{name: {label: values}}: the parts of a column that differ by a number alone share a name."""
    columns = {}
    for keys, column in _parts(table):
        name = " ".join(_SIGNS.get(key, key) for key in keys if isinstance(key, str))
        place = ".".join(str(key) for key in keys if not isinstance(key, str))
        column = column.reshape(len(column), -1)
        parts = column.T if column.shape[1] <= _WIDEST else column
        for i, values in enumerate(parts):
            label = ".".join(filter(None, (place, str(i) if len(parts) > 1 else "")))
            columns.setdefault(name, {})[label] = values
    return columns


def _parts(value, keys=()):
    """Pairs (keys, column) of a table, in its order."""
    value = value._asdict() if isinstance(value, Levels) else value
    if not isinstance(value, (dict, tuple)):
        yield keys, np.asarray(value)
        return
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        yield from _parts(item, (*keys, key))


def _each(given, get, name):
    """Pairs (label, object) of one thing or a list of things."""
    things = list(given) if isinstance(given, (list, tuple)) else [given]
    if not things:
        raise ValueError(
            f"There must be something to draw. Received: {name}={given!r}. Pass a name, or a list of names"
        )
    objects = [get(thing) for thing in things]
    return [
        (thing if isinstance(thing, str) else repr(made), made) for thing, made in zip(things, objects, strict=True)
    ]


def _finite(values):
    return np.where(np.isfinite(values), values, np.nan)


def _colour(i):
    return COLOURS[i % len(COLOURS)]
