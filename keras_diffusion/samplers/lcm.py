"""Sampling from consistency models: predict x0, noise it to the next level, repeat.

    x_s = α_s·x0 + σ_s·z                              latent consistency models
    x_s = α_s·(x0 + √(σ̂_s² − σ̂_min²)·z),  σ̂ = σ/α     consistency models, which end at σ̂_min and not at σ = 0

A consistency model's x0 is already a sample, so a few steps with all noise fresh refine it. The same as DDIM with all
of the next level's noise drawn anew; with an ordinary denoiser it is a poor sampler. `denoisers/consistency.py` makes a
network a consistency model.
"""

import numpy as np

from keras_diffusion.samplers.grids import pairs
from keras_diffusion.samplers.sampler import SAMPLERS, Sampler


@SAMPLERS.register("lcm")
class LCMSampler(Sampler):
    """Multistep sampling of latent consistency models. One evaluation and one draw per step.

    Example:

    >>> sampler = kd.samplers.LCMSampler()
    >>> samples = sampler.sample(x, denoise, levels, schedule=schedule, seed=0)

    Reference:
        Luo et al. 2023, arXiv:2310.04378, algorithm 3.
    """

    noises_per_step = 1
    sigma_min = 0.0

    def plan(self, levels, schedule=None):
        _, _, alpha_s, sigma_s = pairs(levels)
        return {"x0": alpha_s, "noise": np.sqrt(np.maximum(sigma_s**2 - (alpha_s * self.sigma_min) ** 2, 0.0))}

    def step(self, denoise, x, row, state, noise):
        return row["x0"] * denoise(x, row["level"]).x0 + row["noise"] * noise(0), state
