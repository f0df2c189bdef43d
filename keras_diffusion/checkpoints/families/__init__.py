"""Families of checkpoints: whose networks are known. One file each; the import registers it."""

from keras_diffusion.checkpoints.families.diffusers import Diffusers
from keras_diffusion.checkpoints.families.family import Family, Parts, Source, families, family_of, register
from keras_diffusion.checkpoints.families.flaxdiff_transformers import FlaxDiffTransformer
from keras_diffusion.checkpoints.families.flaxdiff_unet import FlaxDiffUNet
from keras_diffusion.checkpoints.families.flaxdiff_unet3d import FlaxDiffUNet3D
from keras_diffusion.checkpoints.families.keras_cv import KerasCVStableDiffusion
from keras_diffusion.checkpoints.families.keras_ddim import KerasDDIM
from keras_diffusion.checkpoints.families.keras_ddpm import KerasDDPM
from keras_diffusion.checkpoints.families.nvidia_edm import NVIDIAEDM
from keras_diffusion.checkpoints.families.openai_unet import OpenAIUNet

__all__ = [
    "NVIDIAEDM",
    "Diffusers",
    "Family",
    "FlaxDiffTransformer",
    "FlaxDiffUNet",
    "FlaxDiffUNet3D",
    "KerasCVStableDiffusion",
    "KerasDDIM",
    "KerasDDPM",
    "OpenAIUNet",
    "Parts",
    "Source",
    "families",
    "family_of",
    "register",
]
