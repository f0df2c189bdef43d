"""Samplers: from noise to data along a grid of levels."""

from keras_diffusion.samplers.ddim import DDIMSampler, DDPMSampler, EulerAncestralSampler
from keras_diffusion.samplers.dpmpp import DPMppSampler, DPMppSDESampler
from keras_diffusion.samplers.runge_kutta import EDMSampler, EulerSampler, HeunSampler, RK4Sampler, RungeKuttaSampler
from keras_diffusion.samplers.sampler import SAMPLERS, Sampler

get = SAMPLERS.get

__all__ = [
    "DDIMSampler",
    "DDPMSampler",
    "DPMppSDESampler",
    "DPMppSampler",
    "EDMSampler",
    "EulerAncestralSampler",
    "EulerSampler",
    "HeunSampler",
    "RK4Sampler",
    "RungeKuttaSampler",
    "Sampler",
    "get",
]
