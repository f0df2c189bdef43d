"""Denoisers: whatever returns (x0, ε)."""

from keras_diffusion.denoisers.consistency import ConsistencyDenoiser, EDMConsistencyDenoiser
from keras_diffusion.denoisers.dataset import DatasetDenoiser
from keras_diffusion.denoisers.denoiser import Denoiser, NetworkDenoiser
from keras_diffusion.denoisers.mixture import MixtureDenoiser

__all__ = [
    "ConsistencyDenoiser",
    "DatasetDenoiser",
    "Denoiser",
    "EDMConsistencyDenoiser",
    "MixtureDenoiser",
    "NetworkDenoiser",
]
__dir__ = __all__.copy
