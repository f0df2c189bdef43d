"""What training needs besides a network: time distributions, loss weightings, the average of the weights."""

from keras_diffusion.training.ema import WeightAverage
from keras_diffusion.training.loss_weighting import (
    EDMWeighting,
    LossWeighting,
    MinSNRWeighting,
    NoWeighting,
    P2Weighting,
    SigmoidWeighting,
    SNRWeighting,
    SoftMinSNRWeighting,
    TruncatedSNRWeighting,
    get_loss_weighting,
)
from keras_diffusion.training.time_distribution import (
    TIME_DISTRIBUTIONS,
    DiscreteTime,
    LogitNormalTime,
    LogNormalSigma,
    TimeDistribution,
    UniformTime,
)

get_time_distribution = TIME_DISTRIBUTIONS.get

__all__ = [
    "DiscreteTime",
    "EDMWeighting",
    "LogNormalSigma",
    "LogitNormalTime",
    "LossWeighting",
    "MinSNRWeighting",
    "NoWeighting",
    "P2Weighting",
    "SNRWeighting",
    "SigmoidWeighting",
    "SoftMinSNRWeighting",
    "TimeDistribution",
    "TruncatedSNRWeighting",
    "UniformTime",
    "WeightAverage",
    "get_loss_weighting",
    "get_time_distribution",
]
