"""Backends side by side: one model on JAX, TensorFlow and PyTorch, each in its own process.

All get the same weights, batches, noise and latents.
"""

from keras_diffusion.comparison.inputs import Settings
from keras_diffusion.comparison.run import BACKENDS, compare

__all__ = ["BACKENDS", "Settings", "compare"]
__dir__ = __all__.copy
