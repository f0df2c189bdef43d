"""Denoisers: whatever returns (x0, ε).

The examples in the docstrings begin with

>>> import numpy as np
>>> import keras_diffusion as kd
>>> level = kd.schedulers.get("cosine").levels(0.5)
>>> x = np.random.default_rng(0).standard_normal((2, 2))
"""

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
