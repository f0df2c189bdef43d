"""Metrics: are the samples good, do they vary, and are they new?

A metric by name (`names`, `get`) compares features of generated samples with features of real ones, `(N, width)`, and
returns a value with its standard error. Examples begin with

    >>> import numpy as np
    >>> import keras_diffusion as kd

FrechetDistance, KernelDistance          the same in batches, as Keras metrics; SampleMetric for the others
clip_score, r_precision                  do pictures show what their captions say?
train_classifier, classifier_accuracy    does a classifier trained on real data recognize the requested class?
nearest_neighbours, memorization         is a sample a copy of a training sample?
psnr, ssim, ms_ssim, LPIPS               how like its original is a picture?
sliced_wasserstein, mmd, …               distances between sets of vectors, and what a known density says of them
get_extractor, extractor_names           from pictures to the vectors that distances between sets compare
GenerationEvaluator                      a model's samples against real ones, each number with its floor
ReconstructionEvaluator                  an autoencoder's reconstructions against their originals, likewise
sweep                                    which sampler, how many steps, what guidance?
"""

from keras_diffusion.metrics.classifier import classifier_accuracy, train_classifier
from keras_diffusion.metrics.clip_score import clip_score, r_precision
from keras_diffusion.metrics.extractors import (
    ApplicationsExtractor,
    ClassifierExtractor,
    CLIPImageExtractor,
    DINOv2Extractor,
    Extractor,
    FunctionExtractor,
    InceptionExtractor,
    KerasExtractor,
    PixelExtractor,
    Preprocessing,
    extractor_names,
    get_extractor,
)
from keras_diffusion.metrics.feature_metric import FEATURE_METRICS, Estimate, FeatureMetric
from keras_diffusion.metrics.frechet import FD, FDInfinity, frechet_distance
from keras_diffusion.metrics.generation import GenerationEvaluator
from keras_diffusion.metrics.inception_score import InceptionScore
from keras_diffusion.metrics.keras_metrics import FrechetDistance, KernelDistance, SampleMetric
from keras_diffusion.metrics.kernel_distance import CMMD, KID, kernel_distance
from keras_diffusion.metrics.lpips import LPIPS
from keras_diffusion.metrics.manifold import Coverage, Density, Precision, Recall
from keras_diffusion.metrics.neighbours import AuthPct, Memorization, Neighbours, memorization, nearest_neighbours
from keras_diffusion.metrics.picture_quality import ms_ssim, psnr, ssim
from keras_diffusion.metrics.reconstruction import ReconstructionEvaluator
from keras_diffusion.metrics.reference import Reference, load_features
from keras_diffusion.metrics.result import Floor, MetricResult
from keras_diffusion.metrics.sliced import MIND, mind
from keras_diffusion.metrics.statistics import FeatureStatistics
from keras_diffusion.metrics.sweep import Sweep, SweepCell, network_evaluations, sweep
from keras_diffusion.metrics.vectors import (
    ModeCoverage,
    energy_distance,
    mmd,
    mode_coverage,
    negative_log_likelihood,
    sliced_wasserstein,
)
from keras_diffusion.metrics.vendi import Vendi

get, names = FEATURE_METRICS.functions()

__all__ = [
    "CMMD",
    "FD",
    "KID",
    "LPIPS",
    "MIND",
    "ApplicationsExtractor",
    "AuthPct",
    "CLIPImageExtractor",
    "ClassifierExtractor",
    "Coverage",
    "DINOv2Extractor",
    "Density",
    "Estimate",
    "Extractor",
    "FDInfinity",
    "FeatureMetric",
    "FeatureStatistics",
    "Floor",
    "FrechetDistance",
    "FunctionExtractor",
    "GenerationEvaluator",
    "InceptionExtractor",
    "InceptionScore",
    "KerasExtractor",
    "KernelDistance",
    "Memorization",
    "MetricResult",
    "ModeCoverage",
    "Neighbours",
    "PixelExtractor",
    "Precision",
    "Preprocessing",
    "Recall",
    "ReconstructionEvaluator",
    "Reference",
    "SampleMetric",
    "Sweep",
    "SweepCell",
    "Vendi",
    "classifier_accuracy",
    "clip_score",
    "energy_distance",
    "extractor_names",
    "frechet_distance",
    "get",
    "get_extractor",
    "kernel_distance",
    "load_features",
    "memorization",
    "mind",
    "mmd",
    "mode_coverage",
    "ms_ssim",
    "names",
    "nearest_neighbours",
    "negative_log_likelihood",
    "network_evaluations",
    "psnr",
    "r_precision",
    "sliced_wasserstein",
    "ssim",
    "sweep",
    "train_classifier",
]
__dir__ = __all__.copy
