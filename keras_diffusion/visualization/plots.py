"""Plots for a first look: 2-D points and loss curves."""

import json
from pathlib import Path

import numpy as np
from keras import ops

from keras_diffusion.visualization.figures import COLOURS, TEXT, new_axes, styled, written


@styled
def scatter(points, path=None, labels=None, reference=None, title=None, limits=None):
    """Draws 2-D points, for example samples of a model beside its training data.

    Args:
        points: `(N, 2)`.
        path: file to write (.png, .pdf or .svg), or None.
        labels: class ids `(N,)`, one colour each, or None.
        reference: points `(M, 2)` drawn in grey underneath, or None.
        title: str or None.
        limits: (low, high) of both axes. Default: as the points need it.

    Returns:
        `matplotlib.figure.Figure`.

    Raises:
        ValueError: points that are not `(N, 2)`, or labels of another length.
    """
    points = as_points(points, "points")
    figure, (axes,) = new_axes((5.0, 5.0), title)
    if reference is not None:
        reference = as_points(reference, "reference")
        axes.scatter(
            *reference.T, s=marker_size(len(reference)), color=TEXT, alpha=0.35, linewidths=0, label="reference"
        )
    if labels is None:
        axes.scatter(*points.T, s=marker_size(len(points)), color=COLOURS[0], alpha=0.7, linewidths=0, label="points")
    else:
        labels = np.asarray(labels)
        if labels.shape != (len(points),):
            raise ValueError(
                f"labels must hold one class id per point. Received: shape={labels.shape} for {len(points)} points."
            )
        for i, label in enumerate(np.unique(labels)):
            chosen = points[labels == label]
            colour = COLOURS[i % len(COLOURS)]
            axes.scatter(
                *chosen.T, s=marker_size(len(points)), color=colour, alpha=0.7, linewidths=0, label=f"class {label}"
            )
    if reference is not None or labels is not None:
        axes.legend(markerscale=2.0)
    axes.set_aspect("equal")
    if limits is not None:
        axes.set(xlim=limits, ylim=limits)
    axes.set(xlabel="x₁", ylabel="x₂")
    return written(figure, path)


@styled
def loss_curve(history, path=None, keys=None, title=None, log=False):
    """Draws losses over the epochs.

    Args:
        history: what `fit` returned, its dict `{name: [value per epoch]}`, or the path of a file by
            `callbacks.MetricsJSONL`.
        path: file to write (.png, .pdf or .svg), or None.
        keys: names to draw. Default: "loss" and "val_loss", as far as they are there.
        title: str or None.
        log: whether the loss axis is logarithmic.

    Returns:
        `matplotlib.figure.Figure`. Epochs count from 1; a value that is not finite leaves a gap.

    Raises:
        ValueError: no such file or key, or nothing to draw.
    """
    epochs, values = _read_history(history)
    known = sorted(values)
    keys = [k for k in ("loss", "val_loss") if k in values] if keys is None else list(keys)
    missing = [k for k in keys if k not in values]
    if missing or not keys or not epochs:
        raise ValueError(
            f"A loss curve needs at least one epoch of a known metric. Received: keys={missing or keys}, known: {known}"
        )
    figure, (axes,) = new_axes((7.0, 4.0), title)
    for i, key in enumerate(keys):
        y = np.array([np.nan if v is None else v for v in values[key]], dtype="float64")
        y[~np.isfinite(y)] = np.nan
        marker = "o" if len(y) < 20 else None
        axes.plot(epochs, y, color=COLOURS[i % len(COLOURS)], label=key, marker=marker, markersize=3.5)
    if log:
        axes.set_yscale("log")
    axes.set(xlabel="epoch", ylabel="loss" if all(k.endswith("loss") for k in keys) else "value")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend()
    return written(figure, path)


def _read_history(history):
    """(epoch numbers from 1, {name: values})."""
    if isinstance(history, (str, Path)):
        path = Path(history)
        if not path.is_file():
            raise ValueError(
                f"A loss curve is drawn from fit's history or from a metrics file. Received: {str(path)!r}, which is "
                "no file."
            )
        try:
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
            epochs = [row["epoch"] for row in rows]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"Each line of a metrics file is a JSON object with 'epoch'. Received: {str(path)!r}: {error}"
            ) from error
        names = {key for row in rows for key in row if key != "epoch"}
        return epochs, {name: [row.get(name) for row in rows] for name in names}
    values = getattr(history, "history", history)
    if not isinstance(values, dict):
        raise TypeError(
            f"A loss curve is drawn from fit's history, its dict, or a path. Received: {type(history).__name__}"
        )
    lengths = {len(v) for v in values.values()}
    if len(lengths) > 1:
        # Keras evaluates only every validation_freq epochs; where the gaps lie, the history does not say.
        values = {k: v for k, v in values.items() if len(v) == max(lengths)}
    first = min(getattr(history, "epoch", None) or [0])
    return list(range(first + 1, first + 1 + max(lengths, default=0))), values


def as_points(points, name):
    """`points` as an array `(N, 2)`, or a ValueError that calls them `name`."""
    points = points if isinstance(points, np.ndarray) else ops.convert_to_numpy(points)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"{name} must be an array (N, 2). Received: shape={points.shape}")
    return points


def marker_size(n):
    """Marker area: thousands of points should not become one blot."""
    return float(np.clip(4000.0 / max(n, 1), 2.0, 24.0))
