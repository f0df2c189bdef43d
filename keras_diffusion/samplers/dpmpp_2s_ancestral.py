"""DPM-Solver++(2S) with ancestral noise."""

import numpy as np

from keras_diffusion.samplers.sampler import SAMPLERS
from keras_diffusion.samplers.two_stage import TwoStageSampler


@SAMPLERS.register("dpmpp_2s_ancestral")
class DPMpp2SAncestralSampler(TwoStageSampler):
    """DPM-Solver++(2S) with ancestral noise. Two evaluations and one draw per step; order 2 for η = 0. Arguments: see
    `TwoStageSampler`.

    Example:

    >>> sampler = kd.samplers.DPMpp2SAncestralSampler(eta=0.5)
    >>> samples = sampler.sample(x, denoise, levels, schedule=schedule, seed=0)

    Reference:
        Lu et al. 2022, arXiv:2211.01095, algorithm 1; ancestral form: k-diffusion.
    """

    def bends(self, start, down):
        return 1.0 - down / start, np.zeros_like(start)
