"""Samplers: from noise to data along a grid of levels."""

from keras_diffusion.samplers.adaptive import AdaptiveSampler
from keras_diffusion.samplers.ddim import DDIMSampler, DDPMSampler, EulerAncestralSampler
from keras_diffusion.samplers.ddim_inversion import DDIMInversionSampler
from keras_diffusion.samplers.deis import DEISSampler
from keras_diffusion.samplers.dpm_adaptive import DPMAdaptiveSampler
from keras_diffusion.samplers.dpm_fast import DPMFastSampler
from keras_diffusion.samplers.dpm_singlestep import DPMSingleStepSampler
from keras_diffusion.samplers.dpm_solver import DPMSolverSampler, DPMSolverSDESampler
from keras_diffusion.samplers.dpmpp import DPMppSampler, DPMppSDESampler
from keras_diffusion.samplers.dpmpp_inversion import DPMppInversionSampler
from keras_diffusion.samplers.ipndm import IPNDMSampler
from keras_diffusion.samplers.lcm import ConsistencySampler, LCMSampler
from keras_diffusion.samplers.likelihood import ProbabilityFlow, log_likelihood
from keras_diffusion.samplers.lms import LMSSampler
from keras_diffusion.samplers.pndm import PNDMSampler
from keras_diffusion.samplers.repaint import RePaintSampler
from keras_diffusion.samplers.restart import RestartSampler
from keras_diffusion.samplers.runge_kutta import (
    DPM2Sampler,
    EDMSampler,
    EulerSampler,
    HeunSampler,
    RK4Sampler,
    RungeKuttaSampler,
)
from keras_diffusion.samplers.sa_solver import SASolverSampler
from keras_diffusion.samplers.sampler import SAMPLERS, Sampler, Walk
from keras_diffusion.samplers.tcd import TCDSampler
from keras_diffusion.samplers.two_stage import DPM2AncestralSampler, DPMpp2SAncestralSampler, DPMppSDESingleStepSampler
from keras_diffusion.samplers.unipc import UniPCSampler

get, names = SAMPLERS.functions()

__all__ = [
    "AdaptiveSampler",
    "ConsistencySampler",
    "DDIMInversionSampler",
    "DDIMSampler",
    "DDPMSampler",
    "DEISSampler",
    "DPM2AncestralSampler",
    "DPM2Sampler",
    "DPMAdaptiveSampler",
    "DPMFastSampler",
    "DPMSingleStepSampler",
    "DPMSolverSDESampler",
    "DPMSolverSampler",
    "DPMpp2SAncestralSampler",
    "DPMppInversionSampler",
    "DPMppSDESampler",
    "DPMppSDESingleStepSampler",
    "DPMppSampler",
    "EDMSampler",
    "EulerAncestralSampler",
    "EulerSampler",
    "HeunSampler",
    "IPNDMSampler",
    "LCMSampler",
    "LMSSampler",
    "PNDMSampler",
    "ProbabilityFlow",
    "RK4Sampler",
    "RePaintSampler",
    "RestartSampler",
    "RungeKuttaSampler",
    "SASolverSampler",
    "Sampler",
    "TCDSampler",
    "UniPCSampler",
    "Walk",
    "get",
    "log_likelihood",
    "names",
]
__dir__ = __all__.copy
