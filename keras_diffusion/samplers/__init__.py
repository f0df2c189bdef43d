"""Samplers: from noise to data along a grid of levels. A file for each method, named as the registry names it.

The examples in its docstrings begin with

>>> import numpy as np
>>> import keras_diffusion as kd
>>> schedule = kd.schedulers.get("cosine")
>>> levels = kd.schedulers.get_spacing("linspace").levels(schedule, 10)
>>> denoise = kd.denoisers.MixtureDenoiser([0.5, 0.5], [[-1.0], [1.0]], [0.2, 0.2])
>>> x = np.random.default_rng(0).standard_normal((4, 1))
"""

from keras_diffusion.samplers.adaptive import AdaptiveSampler
from keras_diffusion.samplers.consistency import ConsistencySampler
from keras_diffusion.samplers.ddim import DDIMSampler
from keras_diffusion.samplers.ddim_inversion import DDIMInversionSampler
from keras_diffusion.samplers.ddpm import DDPMSampler
from keras_diffusion.samplers.deis import DEISSampler
from keras_diffusion.samplers.dpm_2 import DPM2Sampler
from keras_diffusion.samplers.dpm_2_ancestral import DPM2AncestralSampler
from keras_diffusion.samplers.dpm_2m_sde import DPMSolverSDESampler
from keras_diffusion.samplers.dpm_adaptive import DPMAdaptiveSampler
from keras_diffusion.samplers.dpm_fast import DPMFastSampler
from keras_diffusion.samplers.dpm_singlestep import DPMSingleStepSampler
from keras_diffusion.samplers.dpm_solver import DPMSolverSampler
from keras_diffusion.samplers.dpmpp import DPMppSampler
from keras_diffusion.samplers.dpmpp_2m_sde import DPMppSDESampler
from keras_diffusion.samplers.dpmpp_2s_ancestral import DPMpp2SAncestralSampler
from keras_diffusion.samplers.dpmpp_inversion import DPMppInversionSampler
from keras_diffusion.samplers.dpmpp_sde import DPMppSDESingleStepSampler
from keras_diffusion.samplers.edm import EDMSampler
from keras_diffusion.samplers.euler import EulerSampler
from keras_diffusion.samplers.euler_ancestral import EulerAncestralSampler
from keras_diffusion.samplers.heun import HeunSampler
from keras_diffusion.samplers.ipndm import IPNDMSampler
from keras_diffusion.samplers.lcm import LCMSampler
from keras_diffusion.samplers.likelihood import ProbabilityFlow, log_likelihood
from keras_diffusion.samplers.lms import LMSSampler
from keras_diffusion.samplers.pndm import PNDMSampler
from keras_diffusion.samplers.repaint import RePaintSampler
from keras_diffusion.samplers.restart import RestartSampler
from keras_diffusion.samplers.rk4 import RK4Sampler
from keras_diffusion.samplers.runge_kutta import RungeKuttaSampler
from keras_diffusion.samplers.sa_solver import SASolverSampler
from keras_diffusion.samplers.sampler import SAMPLERS, Sampler
from keras_diffusion.samplers.tcd import TCDSampler
from keras_diffusion.samplers.unipc import UniPCSampler
from keras_diffusion.samplers.walk import Walk

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
