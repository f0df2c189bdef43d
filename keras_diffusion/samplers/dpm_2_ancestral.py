"""DPM-Solver-2 with ancestral noise."""

import numpy as np

from keras_diffusion.samplers.sampler import SAMPLERS
from keras_diffusion.samplers.two_stage import TwoStageSampler


@SAMPLERS.register("dpm_2_ancestral")
class DPM2AncestralSampler(TwoStageSampler):
    """DPM-Solver-2 with ancestral noise. Two evaluations and one draw per step; order 2 for η = 0. Arguments: see
    `TwoStageSampler`.

    Example:

    >>> sampler = kd.samplers.DPM2AncestralSampler(eta=0.5)
    >>> samples = sampler.sample(x, denoise, levels, schedule=schedule, seed=0)

    Reference:
        Karras et al. 2022, arXiv:2206.00364, algorithm 2 with the midpoint rule; ancestral form: k-diffusion.
    """

    def bends(self, start, down):
        return np.zeros_like(start), down - start
