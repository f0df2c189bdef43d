"""DPM-Solver SDE as a multistep method: DPM-Solver's exponential integrator with fresh noise."""

from keras_diffusion.samplers.dpm_solver import DPMSolverSampler
from keras_diffusion.samplers.dpmpp_2m_sde import DPMppSDESampler
from keras_diffusion.samplers.sampler import SAMPLERS


@SAMPLERS.register("dpm_2m_sde")
class DPMSolverSDESampler(DPMSolverSampler, DPMppSDESampler):
    """Multistep DPM-Solver on the reverse SDE. Arguments: see `DPMppSDESampler`.

    One evaluation and one draw per step. The noise is Brownian by default.

    Example:

    >>> sampler = kd.samplers.DPMSolverSDESampler(eta=0.5)
    >>> samples = sampler.sample(x, denoise, levels, schedule=schedule, seed=0)

    Reference:
        diffusers' "sde-dpmsolver".
    """
