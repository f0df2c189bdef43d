"""Data: random-access sources and batches whose content depends on (seed, epoch, index) only."""

from keras_diffusion.data.batches import Batches
from keras_diffusion.data.image_folder import ImageFolder
from keras_diffusion.data.loading import load, names
from keras_diffusion.data.sources import ArraySource, Source, Subset
from keras_diffusion.data.tfds import TFDSSource
from keras_diffusion.data.unlabelled import without_labels

__all__ = ["ArraySource", "Batches", "ImageFolder", "Source", "Subset", "TFDSSource", "load", "names", "without_labels"]
__dir__ = __all__.copy
