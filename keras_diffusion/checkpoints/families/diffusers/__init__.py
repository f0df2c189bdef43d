"""Models of diffusers: what their configs and tensors are here, both ways. The import registers the components."""

from keras_diffusion.checkpoints.families.diffusers.autoencoder_kl import AutoencoderKL
from keras_diffusion.checkpoints.families.diffusers.autoencoder_tiny import AutoencoderTiny
from keras_diffusion.checkpoints.families.diffusers.clip_text import CLIPTextModel
from keras_diffusion.checkpoints.families.diffusers.component import (
    COMPONENTS,
    Component,
    component_of,
    component_of_network,
)
from keras_diffusion.checkpoints.families.diffusers.dit_transformer import DiTTransformer2DModel
from keras_diffusion.checkpoints.families.diffusers.schedule import read_sampling, read_schedule
from keras_diffusion.checkpoints.families.diffusers.schedule_writing import write_schedule
from keras_diffusion.checkpoints.families.diffusers.t5_text import T5EncoderModel
from keras_diffusion.checkpoints.families.diffusers.unet_2d import UNet2DModel
from keras_diffusion.checkpoints.families.diffusers.unet_2d_condition import UNet2DConditionModel
from keras_diffusion.checkpoints.links import Link, Tensors

__all__ = [
    "COMPONENTS",
    "AutoencoderKL",
    "AutoencoderTiny",
    "CLIPTextModel",
    "Component",
    "DiTTransformer2DModel",
    "Link",
    "T5EncoderModel",
    "Tensors",
    "UNet2DConditionModel",
    "UNet2DModel",
    "component_of",
    "component_of_network",
    "read_sampling",
    "read_schedule",
    "write_schedule",
]
