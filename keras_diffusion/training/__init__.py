"""What training needs besides a network: time distributions, loss weightings, the average of the weights."""

from keras_diffusion.training.ema import WeightAverage
from keras_diffusion.training.loss_weighting import (
    LOSS_WEIGHTINGS,
    EDMWeighting,
    LossWeighting,
    MinSNRWeighting,
    NoWeighting,
    P2Weighting,
    SigmoidWeighting,
    SNRWeighting,
    SoftMinSNRWeighting,
    TruncatedSNRWeighting,
)
from keras_diffusion.training.perceptual import PerceptualLoss
from keras_diffusion.training.reconstruction import RECONSTRUCTION_LOSSES, reconstruction_weights
from keras_diffusion.training.time_distribution import (
    TIME_DISTRIBUTIONS,
    DiscreteTime,
    LogitNormalTime,
    LogNormalSigma,
    TimeDistribution,
    UniformTime,
)

get_loss_weighting, loss_weighting_names = LOSS_WEIGHTINGS.functions("loss_weighting")
get_time_distribution, time_distribution_names = TIME_DISTRIBUTIONS.functions("time_distribution")

__all__ = [
    "RECONSTRUCTION_LOSSES",
    "DiscreteTime",
    "EDMWeighting",
    "LogNormalSigma",
    "LogitNormalTime",
    "LossWeighting",
    "MinSNRWeighting",
    "NoWeighting",
    "P2Weighting",
    "PerceptualLoss",
    "SNRWeighting",
    "SigmoidWeighting",
    "SoftMinSNRWeighting",
    "TimeDistribution",
    "TruncatedSNRWeighting",
    "UniformTime",
    "WeightAverage",
    "get_loss_weighting",
    "get_time_distribution",
    "loss_weighting_names",
    "reconstruction_weights",
    "time_distribution_names",
]
__dir__ = __all__.copy
