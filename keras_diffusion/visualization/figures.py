"""What all plots share: one style, a figure with one or more axes, and how it is written to a file.

The style reads on white and on dark pages alike: nothing is painted behind a plot, and every colour is of middle
lightness, at a contrast of 3 or more with both (WCAG 2.2 asks for that of graphics).

Plots are drawn on a `matplotlib.figure.Figure` of their own. `pyplot`, with its hidden list of open figures and its
choice of a window system, is never touched, so that plots work on a server, in a thread and in a notebook alike. A
notebook shows the returned figure.
"""

import functools
import io
import threading
from pathlib import Path

from keras_diffusion.runtime.files import write_whole
from keras_diffusion.runtime.optional import import_optional

COLOURS = ("#3b82f6", "#e0620d", "#1a9a48", "#9d5cf5", "#e0559d", "#0d9488", "#b7860b", "#778087")
TEXT = "#797e86"  # as far from white as from the greys of dark pages

STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": TEXT,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": TEXT,
    "axes.prop_cycle": f"cycler('color', {list(COLOURS)})",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": TEXT,
    "figure.dpi": 100,
    "figure.edgecolor": "none",
    "figure.facecolor": "none",
    "grid.alpha": 0.25,
    "grid.color": TEXT,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.labelcolor": TEXT,
    "lines.linewidth": 1.8,
    "savefig.dpi": 150,
    "savefig.facecolor": "none",
    "text.color": TEXT,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
}

_one_at_a_time = threading.RLock()  # matplotlib's settings are global


def use_style():
    """Gives the plots that you draw yourself with matplotlib the style of this library's.

    It sets `matplotlib.rcParams` until the end of the program, or until `matplotlib.rcdefaults()`. For a part of a
    program there is `with matplotlib.rc_context(kd.visualization.STYLE):`, and `kd.visualization.COLOURS` are the
    colours by themselves. The functions of this room have the style anyway.

    Raises:
        ImportError: matplotlib is missing.

    Example:

    >>> kd.visualization.use_style()
    """
    _matplotlib().rcParams.update(STYLE)


def styled(draw):
    """`draw`, a function that makes a figure, in the style."""

    @functools.wraps(draw)
    def drawn(*args, **kwargs):
        with _one_at_a_time, _matplotlib().rc_context(STYLE):
            return draw(*args, **kwargs)

    return drawn


def new_axes(size, title, rows=1, cols=1):
    """(figure, list of its `rows`·`cols` axes); `size` is (width, height) in inches."""
    figure = import_optional("matplotlib.figure", extra="viz", purpose="drawing plots").Figure(
        figsize=size, layout="constrained"
    )
    grid = figure.subplots(rows, cols, squeeze=False).ravel().tolist()
    for axes in grid:
        axes.tick_params(colors=TEXT)  # ticks come into being when the figure is shown, after `styled` has ended
    if title:
        (grid[0].set_title if len(grid) == 1 else figure.suptitle)(title)
    return figure, grid


def plain_numbers():
    """A formatter of logarithmic axes that writes 0.05 rather than 5e-02."""
    formatter = import_optional("matplotlib.ticker", extra="viz", purpose="drawing plots").LogFormatter

    class Plain(formatter):
        def __call__(self, x, pos=None):
            return f"{x:g}" if super().__call__(x, pos) else ""

    return Plain()


def written(figure, path):
    """`figure`, written to `path` (.png, .pdf or .svg) unless that is None."""
    if path is not None:
        buffer = io.BytesIO()
        figure.savefig(buffer, format=Path(path).suffix.lstrip(".") or "png")
        write_whole(path, buffer.getvalue())
    return figure


def _matplotlib():
    return import_optional("matplotlib", extra="viz", purpose="drawing plots")
