"""Pictures: image grids, film strips, scatter plots, loss curves, schedules, spacings, and samplers' tables."""

from keras_diffusion.visualization.figures import COLOURS, STYLE, use_style
from keras_diffusion.visualization.grid import film_strip, image_grid, png_bytes, save_png, to_uint8
from keras_diffusion.visualization.plots import loss_curve, scatter
from keras_diffusion.visualization.schedule_plots import plot_schedule, plot_spacing, plot_table

__all__ = [
    "COLOURS",
    "STYLE",
    "film_strip",
    "image_grid",
    "loss_curve",
    "plot_schedule",
    "plot_spacing",
    "plot_table",
    "png_bytes",
    "save_png",
    "scatter",
    "to_uint8",
    "use_style",
]
__dir__ = __all__.copy
