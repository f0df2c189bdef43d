"""Feature extractors: from pictures to the vectors that metrics compare."""

from keras_diffusion.metrics.extractors.applications import ApplicationsExtractor
from keras_diffusion.metrics.extractors.classifier import ClassifierExtractor
from keras_diffusion.metrics.extractors.clip_image import CLIPImageExtractor
from keras_diffusion.metrics.extractors.dinov2 import DINOv2Extractor
from keras_diffusion.metrics.extractors.extractor import EXTRACTORS, Extractor, extractor_names
from keras_diffusion.metrics.extractors.getting import get_extractor
from keras_diffusion.metrics.extractors.inception import InceptionExtractor
from keras_diffusion.metrics.extractors.models import FunctionExtractor, KerasExtractor
from keras_diffusion.metrics.extractors.pixels import PixelExtractor
from keras_diffusion.metrics.extractors.preprocessing import Preprocessing

__all__ = [
    "EXTRACTORS",
    "ApplicationsExtractor",
    "CLIPImageExtractor",
    "ClassifierExtractor",
    "DINOv2Extractor",
    "Extractor",
    "FunctionExtractor",
    "InceptionExtractor",
    "KerasExtractor",
    "PixelExtractor",
    "Preprocessing",
    "extractor_names",
    "get_extractor",
]
__dir__ = __all__.copy
