"""What all plots share: a figure with one or more axes, colours, and how it is written to a file.

They are drawn on a `matplotlib.figure.Figure` of their own. `pyplot`, with its hidden list of open figures and its
choice of a window system, is never touched, so that plots work on a server, in a thread and in a notebook alike. A
notebook shows the returned figure.
"""

import io
from pathlib import Path

from keras_diffusion.runtime.files import write_whole
from keras_diffusion.runtime.optional import import_optional

COLOURS = ("#2563eb", "#ea580c", "#16a34a", "#9333ea", "#dc2626", "#0891b2", "#ca8a04", "#475569")


def new_axes(size, title, rows=1, cols=1):
    """(figure, list of its `rows`·`cols` axes); `size` is (width, height) in inches."""
    figure = import_optional("matplotlib.figure", extra="viz", purpose="drawing plots").Figure(
        figsize=size, dpi=150, layout="constrained"
    )
    grid = figure.subplots(rows, cols, squeeze=False).ravel().tolist()
    for axes in grid:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(True, color="#e2e8f0", linewidth=0.8)
        axes.set_axisbelow(True)
    if title:
        (grid[0].set_title if len(grid) == 1 else figure.suptitle)(title)
    return figure, grid


def written(figure, path):
    """`figure`, written to `path` (.png, .pdf or .svg) unless that is None."""
    if path is not None:
        buffer = io.BytesIO()
        figure.savefig(buffer, format=Path(path).suffix.lstrip(".") or "png")
        write_whole(path, buffer.getvalue())
    return figure
