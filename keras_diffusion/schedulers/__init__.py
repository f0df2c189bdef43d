"""Noise schedules (t → signal and noise scale) and spacings (which t a sampler visits)."""

from keras_diffusion.schedulers.alpha_bar import CosineBetaNoiseSchedule, ExpNoiseSchedule, LaplaceBetaNoiseSchedule
from keras_diffusion.schedulers.cosine import CosineNoiseSchedule, OffsetCosineNoiseSchedule
from keras_diffusion.schedulers.diffusers_spacing import DiffusersSpacing
from keras_diffusion.schedulers.discrete import DiscreteNoiseSchedule
from keras_diffusion.schedulers.flow import FlowNoiseSchedule, flow_shift
from keras_diffusion.schedulers.laplace import LaplaceNoiseSchedule
from keras_diffusion.schedulers.linear import LinearNoiseSchedule, ScaledLinearNoiseSchedule, SigmoidBetaNoiseSchedule
from keras_diffusion.schedulers.noise_schedule import SCHEDULES, NoiseSchedule
from keras_diffusion.schedulers.sigma_spacing import (
    AlignYourStepsSpacing,
    BetaSpacing,
    ExponentialSpacing,
    KarrasSpacing,
    KLOptimalSpacing,
    PolyexponentialSpacing,
)
from keras_diffusion.schedulers.sigmoid import SigmoidNoiseSchedule
from keras_diffusion.schedulers.sqrt import SqrtNoiseSchedule
from keras_diffusion.schedulers.time_spacing import (
    SPACINGS,
    LeadingSpacing,
    LinspaceSpacing,
    QuadraticSpacing,
    Spacing,
    TrailingSpacing,
)
from keras_diffusion.schedulers.variance_exploding import VarianceExplodingNoiseSchedule
from keras_diffusion.schedulers.variance_preserving import VariancePreservingNoiseSchedule

get, names = SCHEDULES.functions()
get_spacing, spacing_names = SPACINGS.functions("spacing")

__all__ = [
    "AlignYourStepsSpacing",
    "BetaSpacing",
    "CosineBetaNoiseSchedule",
    "CosineNoiseSchedule",
    "DiffusersSpacing",
    "DiscreteNoiseSchedule",
    "ExpNoiseSchedule",
    "ExponentialSpacing",
    "FlowNoiseSchedule",
    "KLOptimalSpacing",
    "KarrasSpacing",
    "LaplaceBetaNoiseSchedule",
    "LaplaceNoiseSchedule",
    "LeadingSpacing",
    "LinearNoiseSchedule",
    "LinspaceSpacing",
    "NoiseSchedule",
    "OffsetCosineNoiseSchedule",
    "PolyexponentialSpacing",
    "QuadraticSpacing",
    "ScaledLinearNoiseSchedule",
    "SigmoidBetaNoiseSchedule",
    "SigmoidNoiseSchedule",
    "Spacing",
    "SqrtNoiseSchedule",
    "TrailingSpacing",
    "VarianceExplodingNoiseSchedule",
    "VariancePreservingNoiseSchedule",
    "flow_shift",
    "get",
    "get_spacing",
    "names",
    "spacing_names",
]
__dir__ = __all__.copy
