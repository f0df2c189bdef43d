"""Pictures: image grids, film strips, scatter plots and loss curves."""

from keras_diffusion.visualization.grid import film_strip, image_grid, png_bytes, save_png, to_uint8
from keras_diffusion.visualization.plots import loss_curve, scatter

__all__ = ["film_strip", "image_grid", "loss_curve", "png_bytes", "save_png", "scatter", "to_uint8"]
__dir__ = __all__.copy
