"""DDPM's ancestral sampling: draws from the posterior q(x_s | x_t, x0), which is DDIM with η = 1."""

import numpy as np

from keras_diffusion.configs.checks import check_choice
from keras_diffusion.samplers.ddim import DDIMSampler
from keras_diffusion.samplers.grids import pairs
from keras_diffusion.samplers.sampler import SAMPLERS


@SAMPLERS.register("ddpm", "SimpleDDPMSampler")
class DDPMSampler(DDIMSampler):
    """DDPM's ancestral sampling: DDIM with η = 1, whose mean is the posterior's, for any number of steps.

    Args:
        variance: "fixed_small", the posterior variance (default), or "fixed_large", β of the step, which DDPM found
            better at T steps and which is much too large at few.
        s_noise: see `DDIMSampler`.

    Example:

    >>> sampler = kd.samplers.DDPMSampler(variance="fixed_large")
    >>> samples = sampler.sample(x, denoise, levels, schedule=schedule, seed=0)

    Reference:
        Ho et al. 2020, arXiv:2006.11239, algorithm 2 and section 3.2.
    """

    fixed_arguments = ("eta",)

    def __init__(self, variance="fixed_small", s_noise=1.0, **kwargs):
        super().__init__(eta=1.0, s_noise=s_noise, **kwargs)
        rule = "`variance` must be 'fixed_small' or 'fixed_large'"
        self.variance = check_choice("variance", variance, ("fixed_small", "fixed_large"), rule)

    def plan(self, levels, schedule=None):
        plan = super().plan(levels, schedule)
        if self.variance == "fixed_large":
            alpha_t, sigma_t, alpha_s, sigma_s = pairs(levels)
            beta = sigma_t**2 - (alpha_t / alpha_s * sigma_s) ** 2
            plan["noise"] = self.s_noise * np.sqrt(beta) * (sigma_s > 0)
        return plan
