"""Metrics: are the samples good, and are they new?

train_classifier, classifier_accuracy    does a classifier trained on real data recognize the requested class?
nearest_neighbours, memorization         is a sample a copy of a training sample?
"""

from keras_diffusion.metrics.classifier import classifier_accuracy, train_classifier
from keras_diffusion.metrics.neighbours import Memorization, Neighbours, memorization, nearest_neighbours

__all__ = [
    "Memorization",
    "Neighbours",
    "classifier_accuracy",
    "memorization",
    "nearest_neighbours",
    "train_classifier",
]
__dir__ = __all__.copy
