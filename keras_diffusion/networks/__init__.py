"""Networks: from a noisy sample, its noise level and its conditions to an output of the same size."""

from keras_diffusion.networks.autoencoder_kl import AutoencoderKL
from keras_diffusion.networks.ddpm_unet import DDPMUNet
from keras_diffusion.networks.mlp import MLP
from keras_diffusion.networks.network import Network, networks
from keras_diffusion.networks.residual_unet import ResidualUNet
from keras_diffusion.networks.unet import UNet
from keras_diffusion.networks.unet_2d_condition import UNet2DCondition

get = networks.get

__all__ = ["MLP", "AutoencoderKL", "DDPMUNet", "Network", "ResidualUNet", "UNet", "UNet2DCondition", "get"]
