"""Sampling from consistency models, which end at σ/α = σ_min; see `lcm.py` for the formula."""

from keras_diffusion.configs.checks import check_number
from keras_diffusion.samplers.lcm import LCMSampler
from keras_diffusion.samplers.sampler import SAMPLERS


@SAMPLERS.register("consistency")
class ConsistencySampler(LCMSampler):
    """Multistep consistency sampling. One evaluation and one draw per step.

    Args:
        sigma_min: ε, σ/α of what the model takes for clean samples, ≥ 0: below it no noise is added. Default 0.002.

    Raises:
        ValueError: negative `sigma_min`.

    Example:

    >>> sampler = kd.samplers.ConsistencySampler(sigma_min=0.01)
    >>> samples = sampler.sample(x, denoise, levels, schedule=schedule, seed=0)

    Reference:
        Song et al. 2023, arXiv:2303.01469, algorithm 1.
    """

    table_options = ("sigma_min",)

    def __init__(self, sigma_min=0.002, **kwargs):
        super().__init__(**kwargs)
        rule = "`sigma_min` is the σ/α of clean samples and must not be negative"
        self.sigma_min = check_number("sigma_min", sigma_min, 0, rule=rule)
