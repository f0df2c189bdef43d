"""Quality against network evaluations: the plot of a sweep over samplers, steps and guidance."""

from keras_diffusion.visualization.figures import COLOURS, TEXT, new_axes, plain_numbers, styled, written

_MARKERS = "os^Dvph*"


@styled
def plot_sweep(found, path=None, title=None):
    """Draws a sweep: the metric over network evaluations, a curve for each sampler and guidance, and the floor.

    Args:
        found: `metrics.Sweep`.
        path: file to write (.png, .pdf or .svg), or None.
        title: str or None.

    Returns:
        `matplotlib.figure.Figure`.

    Raises:
        ImportError: matplotlib is missing.

    Example:

    >>> result = kd.metrics.MetricResult("mind", "MIND", "lower", 1.2, 500, 500)
    >>> cells = (kd.metrics.SweepCell("ddim", 8, 1.0, 8, result),)  # `kd.metrics.sweep` measures them
    >>> figure = kd.visualization.plot_sweep(kd.metrics.Sweep("MIND", "lower", cells, floor=None))
    """
    figure, (axes,) = new_axes((8.4, 4.2), title)
    scales = list(dict.fromkeys(cell.guidance_scale for cell in found.cells))
    names = list(dict.fromkeys(cell.sampler for cell in found.cells))
    for label, cells in found.curves().items():
        cells = [cell for cell in cells if cell.result is not None]
        if not cells:
            continue
        colour = COLOURS[names.index(cells[0].sampler) % len(COLOURS)]
        style = ("-", "--", ":", "-.")[scales.index(cells[0].guidance_scale) % 4]
        axes.errorbar(
            [cell.evaluations for cell in cells],
            [cell.result.value for cell in cells],
            yerr=[cell.result.standard_error or 0.0 for cell in cells],
            color=colour,
            linestyle=style,
            marker=_MARKERS[names.index(cells[0].sampler) % len(_MARKERS)],
            markersize=5,
            label=label,
        )
    if found.floor is not None:
        word = "floor" if found.better == "lower" else "ceiling"
        axes.axhline(found.floor.value, color=TEXT, linestyle=(0, (5, 4)), linewidth=1.2, label=f"{word}: real data")
    positive = all(cell.result is None or cell.result.value > 0 for cell in found.cells)
    lower = found.better == "lower" and positive and (found.floor is None or found.floor.value > 0)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda x, position: f"{x:g}")
    axes.set(
        xlabel="network evaluations of a sample",
        ylabel=f"{found.title}, {found.better} is better",
        yscale="log" if lower else "linear",
    )
    if lower:
        for formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            formatter(plain_numbers())
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))  # beside the plot: curves end in every corner of it
    return written(figure, path)
