"""Guidance: denoisers around denoisers.

The examples in the docstrings begin with

>>> import numpy as np
>>> import keras_diffusion as kd
>>> conditional = kd.denoisers.MixtureDenoiser([1.0], [[1.0, 0.0]], [0.2])
>>> unconditional = kd.denoisers.MixtureDenoiser([0.5, 0.5], [[1.0, 0.0], [-1.0, 0.0]], [0.2, 0.2])
>>> empty = weak = kd.denoisers.MixtureDenoiser([1.0], [[0.0, 0.0]], [1.0])
>>> level = kd.schedulers.get("cosine").levels(0.5)
>>> x = np.random.default_rng(0).standard_normal((2, 2))
"""

from keras_diffusion.guidance.adaptive_projected import AdaptiveProjectedGuidance
from keras_diffusion.guidance.autoguidance import Autoguidance
from keras_diffusion.guidance.classifier import ClassifierGuidance
from keras_diffusion.guidance.classifier_free import ClassifierFreeGuidance
from keras_diffusion.guidance.diff_pir import DiffPIR
from keras_diffusion.guidance.dps import DPS
from keras_diffusion.guidance.inpainting import ReplaceKnown
from keras_diffusion.guidance.operators import AveragePoolOperator, LinearOperator, MaskOperator, MatrixOperator
from keras_diffusion.guidance.pair import GUIDANCES, PairGuidance
from keras_diffusion.guidance.perturbed_attention import PerturbedAttention
from keras_diffusion.guidance.pi_gdm import PiGDM
from keras_diffusion.guidance.rescaled import RescaledGuidance
from keras_diffusion.guidance.threshold import THRESHOLDS, DynamicThreshold, StaticThreshold
from keras_diffusion.guidance.two_scales import TwoScaleGuidance
from keras_diffusion.guidance.zero_star import CFGZeroStarGuidance

get, names = GUIDANCES.functions()
get_threshold, threshold_names = THRESHOLDS.functions("threshold")

__all__ = [
    "DPS",
    "AdaptiveProjectedGuidance",
    "Autoguidance",
    "AveragePoolOperator",
    "CFGZeroStarGuidance",
    "ClassifierFreeGuidance",
    "ClassifierGuidance",
    "DiffPIR",
    "DynamicThreshold",
    "LinearOperator",
    "MaskOperator",
    "MatrixOperator",
    "PairGuidance",
    "PerturbedAttention",
    "PiGDM",
    "ReplaceKnown",
    "RescaledGuidance",
    "StaticThreshold",
    "TwoScaleGuidance",
    "get",
    "get_threshold",
    "names",
    "threshold_names",
]
__dir__ = __all__.copy
