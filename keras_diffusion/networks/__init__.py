"""Networks: from a noisy sample, its noise level and its conditions to an output of the same size."""

from keras_diffusion.networks.mlp import MLP
from keras_diffusion.networks.network import Network, networks
from keras_diffusion.networks.unet import UNet

get = networks.get

__all__ = ["MLP", "Network", "UNet", "get"]
