"""Networks: from a noisy sample, its noise level and its conditions to an output of the same size."""

from keras_diffusion.networks.autoencoder_kl import AutoencoderKL
from keras_diffusion.networks.autoencoder_tiny import AutoencoderTiny
from keras_diffusion.networks.ddpm_unet import DDPMUNet
from keras_diffusion.networks.dit import SimpleDiT
from keras_diffusion.networks.dit_transformer import DiTTransformer2D
from keras_diffusion.networks.edm_unet import EDMUNet
from keras_diffusion.networks.flax_unet import FlaxUNet
from keras_diffusion.networks.hierarchical_mmdit import HierarchicalMMDiT
from keras_diffusion.networks.mlp import MLP
from keras_diffusion.networks.mmdit import SimpleMMDiT
from keras_diffusion.networks.network import NETWORKS, Network
from keras_diffusion.networks.patch_discriminator import DISCRIMINATORS, PatchDiscriminator
from keras_diffusion.networks.quantized_autoencoder import QuantizedAutoencoder
from keras_diffusion.networks.residual_unet import ResidualUNet
from keras_diffusion.networks.ssm_dit import HybridSSMAttentionDiT
from keras_diffusion.networks.udit import SimpleUDiT
from keras_diffusion.networks.unet import UNet
from keras_diffusion.networks.unet_2d import UNet2D
from keras_diffusion.networks.unet_2d_condition import UNet2DCondition
from keras_diffusion.networks.unet_3d import UNet3D
from keras_diffusion.networks.unet_sizes import UNET_SIZES, name_of_size, unet_size
from keras_diffusion.networks.uvit import UViT

get, names = NETWORKS.functions()
get_discriminator, discriminator_names = DISCRIMINATORS.functions("discriminator")

__all__ = [
    "MLP",
    "UNET_SIZES",
    "AutoencoderKL",
    "AutoencoderTiny",
    "DDPMUNet",
    "DiTTransformer2D",
    "EDMUNet",
    "FlaxUNet",
    "HierarchicalMMDiT",
    "HybridSSMAttentionDiT",
    "Network",
    "PatchDiscriminator",
    "QuantizedAutoencoder",
    "ResidualUNet",
    "SimpleDiT",
    "SimpleMMDiT",
    "SimpleUDiT",
    "UNet",
    "UNet2D",
    "UNet2DCondition",
    "UNet3D",
    "UViT",
    "discriminator_names",
    "get",
    "get_discriminator",
    "name_of_size",
    "names",
    "unet_size",
]
__dir__ = __all__.copy
