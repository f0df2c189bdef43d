"""Models: what is trained with `fit` and sampled with `generate`."""

from keras_diffusion.core.interpolation import interpolate_noise, slerp
from keras_diffusion.models.autoencoder_model import AutoencoderModel
from keras_diffusion.models.diffusion_model import DiffusionModel
from keras_diffusion.models.known_channels import inpainting_condition, pix2pix_condition
from keras_diffusion.models.text_to_image import TextToImage

__all__ = [
    "AutoencoderModel",
    "DiffusionModel",
    "TextToImage",
    "inpainting_condition",
    "interpolate_noise",
    "pix2pix_condition",
    "slerp",
]
__dir__ = __all__.copy
