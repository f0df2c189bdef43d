"""Models: what is trained with `fit` and sampled with `generate`."""

from keras_diffusion.core.interpolation import interpolate_noise, slerp
from keras_diffusion.models.diffusion_model import DiffusionModel

__all__ = ["DiffusionModel", "interpolate_noise", "slerp"]
