"""Backends side by side: the same weights, batches, noise and latents on JAX, TensorFlow and PyTorch, each in a process
of its own.
"""

from keras_diffusion.comparison.inputs import Settings
from keras_diffusion.comparison.run import BACKENDS, compare

__all__ = ["BACKENDS", "Settings", "compare"]
__dir__ = __all__.copy
