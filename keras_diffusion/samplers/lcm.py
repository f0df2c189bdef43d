"""Sampling from consistency models: predict x0, noise it to the next level, repeat.

    x_s = α_s·x0 + σ_s·z                              latent consistency models
    x_s = α_s·(x0 + √(σ̂_s² − σ̂_min²)·z),  σ̂ = σ/α     consistency models, which end at σ̂_min and not at σ = 0

A consistency model's x0 is already a sample, so a few steps with all noise fresh refine it. The same as DDIM with all
of the next level's noise drawn anew; with an ordinary denoiser it is a poor sampler. `denoisers/consistency.py` makes a
network a consistency model.
"""

import numpy as np

from keras_diffusion.configs.checks import check_number
from keras_diffusion.samplers.grids import pairs
from keras_diffusion.samplers.sampler import SAMPLERS, Sampler


@SAMPLERS.register("lcm")
class LCMSampler(Sampler):
    """Multistep sampling of latent consistency models. One evaluation and one draw per step.

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


@SAMPLERS.register("consistency")
class ConsistencySampler(LCMSampler):
    """Multistep consistency sampling. One evaluation and one draw per step.

    Args:
        sigma_min: ε, σ/α of what the model takes for clean samples, ≥ 0: below it no noise is added. Default 0.002.

    Raises:
        ValueError: negative `sigma_min`.

    Reference:
        Song et al. 2023, arXiv:2303.01469, algorithm 1.
    """

    table_options = ("sigma_min",)

    def __init__(self, sigma_min=0.002, **kwargs):
        super().__init__(**kwargs)
        rule = "`sigma_min` is the σ/α of clean samples and must not be negative"
        self.sigma_min = check_number("sigma_min", sigma_min, 0, rule=rule)

    def get_config(self):
        return {**super().get_config(), "sigma_min": self.sigma_min}
