"""EDM's stochastic sampler: churn raises the noise before a step of Heun's method."""

from keras_diffusion.samplers.heun import HeunSampler
from keras_diffusion.samplers.sampler import SAMPLERS


@SAMPLERS.register("edm")
class EDMSampler(HeunSampler):
    """EDM's stochastic sampler: Heun's method with churn.

    Args:
        s_churn: total churn. Default 40, of the order that EDM uses on ImageNet; 0 is deterministic.
        s_tmin, s_tmax: range of σ/α in which noise is added. Default 0.05 and 50.
        s_noise: factor on the added noise. Default 1.003.
        coordinate: see `RungeKuttaSampler`.

    Example:

    >>> sampler = kd.samplers.EDMSampler(s_churn=10.0)
    >>> samples = sampler.sample(x, denoise, levels, schedule=schedule, seed=0)

    Reference:
        Karras et al. 2022, arXiv:2206.00364, algorithm 2 and table 5.
    """

    def __init__(self, s_churn=40.0, s_tmin=0.05, s_tmax=50.0, s_noise=1.003, coordinate="auto", **kwargs):
        super().__init__(s_churn, s_tmin, s_tmax, s_noise, coordinate, **kwargs)
