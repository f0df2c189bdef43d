"""Guidance: denoisers around denoisers."""

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
