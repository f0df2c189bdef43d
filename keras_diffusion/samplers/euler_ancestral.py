"""Euler-ancestral, k-diffusion's name for DDIM with η = 1."""

from keras_diffusion.samplers.ddim import DDIMSampler
from keras_diffusion.samplers.sampler import SAMPLERS


@SAMPLERS.register("euler_ancestral")
class EulerAncestralSampler(DDIMSampler):
    """k-diffusion's Euler-ancestral: an Euler step to a lower noise level, then fresh noise up to the wanted one.
    DDIM(η).

    Args:
        eta: η in [0, 1]. Default 1.
        s_noise: see `DDIMSampler`.

    Example:

    >>> sampler = kd.samplers.EulerAncestralSampler(eta=0.8)
    >>> samples = sampler.sample(x, denoise, levels, schedule=schedule, seed=0)
    """

    def __init__(self, eta=1.0, s_noise=1.0, **kwargs):
        super().__init__(eta, s_noise, **kwargs)
