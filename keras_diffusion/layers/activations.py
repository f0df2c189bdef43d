"""The two approximations of GELU that published transformers were trained with.

    gelu(x)        = x·Φ(x)                                        exact, Φ the normal distribution function
    gelu_tanh(x)   = x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³)))      within 5e-4 of it; KerasCV's Stable Diffusion
    quick_gelu(x)  = x·sigmoid(1.702·x)                            within 2e-2; CLIP of Stable Diffusion 1

A network must be run with the one that it was trained with. Keras's own "gelu" is the exact one.

Reference: Hendrycks & Gimpel, "Gaussian error linear units", arXiv:1606.08415.
"""

import keras
from keras import ops

from keras_diffusion.configs.registry import serializable


@serializable
def gelu_tanh(x):
    """x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³)))."""
    return ops.gelu(x, approximate=True)


@serializable
def quick_gelu(x):
    """x·sigmoid(1.702·x)."""
    return x * keras.activations.sigmoid(1.702 * x)


ACTIVATIONS = {"gelu_tanh": gelu_tanh, "quick_gelu": quick_gelu}
