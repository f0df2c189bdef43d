"""Families of checkpoints: whose networks are known. One file each; the import registers it."""

from keras_diffusion.checkpoints.families.diffusers.family import Diffusers
from keras_diffusion.checkpoints.families.family import Family, Parts, Source, families, family_of, register
from keras_diffusion.checkpoints.families.flaxdiff.transformers import FlaxDiffTransformer
from keras_diffusion.checkpoints.families.flaxdiff.unet import FlaxDiffUNet
from keras_diffusion.checkpoints.families.flaxdiff.unet_3d import FlaxDiffUNet3D
from keras_diffusion.checkpoints.families.keras_cv.stable_diffusion import KerasCVStableDiffusion
from keras_diffusion.checkpoints.families.keras_examples.ddim import KerasDDIM
from keras_diffusion.checkpoints.families.keras_examples.ddpm import KerasDDPM
from keras_diffusion.checkpoints.families.nvidia.edm import NVIDIAEDM
from keras_diffusion.checkpoints.families.openai.unet import OpenAIUNet

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
