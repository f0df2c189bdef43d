"""Guidance: denoisers around denoisers."""

from keras_diffusion.guidance.adaptive_projected import AdaptiveProjectedGuidance
from keras_diffusion.guidance.autoguidance import Autoguidance
from keras_diffusion.guidance.classifier_free import ClassifierFreeGuidance
from keras_diffusion.guidance.inpainting import ReplaceKnown
from keras_diffusion.guidance.pair import GUIDANCES, PairGuidance
from keras_diffusion.guidance.rescaled import RescaledGuidance
from keras_diffusion.guidance.threshold import DynamicThreshold, StaticThreshold
from keras_diffusion.guidance.zero_star import CFGZeroStarGuidance

get = GUIDANCES.get

__all__ = [
    "AdaptiveProjectedGuidance",
    "Autoguidance",
    "CFGZeroStarGuidance",
    "ClassifierFreeGuidance",
    "DynamicThreshold",
    "PairGuidance",
    "ReplaceKnown",
    "RescaledGuidance",
    "StaticThreshold",
    "get",
]
