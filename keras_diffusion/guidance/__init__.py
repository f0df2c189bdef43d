"""Guidance: denoisers around denoisers."""

from keras_diffusion.guidance.classifier_free import ClassifierFreeGuidance
from keras_diffusion.guidance.inpainting import ReplaceKnown
from keras_diffusion.guidance.threshold import DynamicThreshold, StaticThreshold

__all__ = ["ClassifierFreeGuidance", "DynamicThreshold", "ReplaceKnown", "StaticThreshold"]
