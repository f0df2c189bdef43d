"""Pictures: grids, film strips and animations of images; plots of points, walks, losses, schedules and samplers.

`scatter`, `loss_curve` and all `plot_…` return a `matplotlib.figure.Figure`; functions of images return uint8 arrays,
which `save_png` writes. Both read on light and on dark pages, grids of images with `background=None`.

Example:

>>> model = kd.DiffusionModel(kd.networks.UNet((8, 8, 1), widths=(8,), num_res_blocks=1))
"""

from keras_diffusion.visualization.animation import save_animation
from keras_diffusion.visualization.attention import attention_maps, attention_overlay
from keras_diffusion.visualization.figures import COLOURS, STYLE, use_style
from keras_diffusion.visualization.grid import film_strip, image_grid, png_bytes, save_png, to_uint8
from keras_diffusion.visualization.level_losses import LevelLosses, level_losses, plot_level_losses
from keras_diffusion.visualization.plots import loss_curve, scatter
from keras_diffusion.visualization.schedule_plots import plot_schedule, plot_spacing, plot_table
from keras_diffusion.visualization.sweep_plot import plot_sweep
from keras_diffusion.visualization.trajectories import plot_trajectories

__all__ = [
    "COLOURS",
    "STYLE",
    "LevelLosses",
    "attention_maps",
    "attention_overlay",
    "film_strip",
    "image_grid",
    "level_losses",
    "loss_curve",
    "plot_level_losses",
    "plot_schedule",
    "plot_spacing",
    "plot_sweep",
    "plot_table",
    "plot_trajectories",
    "png_bytes",
    "save_animation",
    "save_png",
    "scatter",
    "to_uint8",
    "use_style",
]
__dir__ = __all__.copy
