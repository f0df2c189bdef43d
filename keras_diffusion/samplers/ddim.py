"""DDIM and its relatives: put the predicted x0 and ε together again at the next level.

    x_s = α_s·x0 + √(σ_s² − c²)·ε + c·z,      c = η·σ_s·√(1 − (α_t·σ_s/(α_s·σ_t))²)

c of the noise at the next level is fresh, the rest is the predicted one. η = 0 is the ODE's Euler step (DDIM), η = 1
draws from the posterior q(x_s | x_t, x0): DDPM's ancestral sampling, which k-diffusion calls Euler-ancestral. First
order either way.
"""

import numpy as np

from keras_diffusion.configs.checks import check_number
from keras_diffusion.samplers.grids import pairs
from keras_diffusion.samplers.sampler import SAMPLERS, Sampler


@SAMPLERS.register("ddim")
class DDIMSampler(Sampler):
    """Recombination of x0 and ε with a share of fresh noise.

    One evaluation and one draw per step; order 1 for η = 0.

    Args:
        eta: η in [0, 1]; 0 is deterministic, 1 is ancestral. Default 0.
        s_noise: factor on the fresh noise, a correction for denoisers that remove too much. Default 1.

    Raises:
        ValueError: `eta` outside [0, 1]: above, the fresh noise could exceed that of the level it leads to.

    Example:

    >>> sampler = kd.samplers.DDIMSampler(eta=0.5)
    >>> samples = sampler.sample(x, denoise, levels, schedule=schedule, seed=0)

    Reference:
        Song et al. 2021, arXiv:2010.02502, eq. 12 and 16.
    """

    noises_per_step = 1
    table_options = ("eta", "s_noise", "variance")

    def __init__(self, eta=0.0, s_noise=1.0, **kwargs):
        super().__init__(**kwargs)
        self.eta = check_number(
            "eta", eta, 0, 1, rule="`eta` is the share of fresh noise in a step and must lie in [0, 1]"
        )
        self.s_noise = check_number("s_noise", s_noise, 0)

    def plan(self, levels, schedule=None):
        _, _, alpha_s, sigma_s = pairs(levels)
        fresh = self.eta * ancestral_std(levels)
        return {"x0": alpha_s, "eps": np.sqrt(np.maximum(sigma_s**2 - fresh**2, 0.0)), "noise": self.s_noise * fresh}

    def step(self, denoise, x, row, state, noise):
        x0, eps = denoise(x, row["level"])
        return row["x0"] * x0 + row["eps"] * eps + row["noise"] * noise(0), state


def ancestral_std(levels):
    """σ_s·√(1 − (α_t·σ_s/(α_s·σ_t))²), the standard deviation of q(x_s | x_t, x0): array (n,)."""
    alpha_t, sigma_t, alpha_s, sigma_s = pairs(levels)
    return sigma_s * np.sqrt(np.maximum(1.0 - (alpha_t * sigma_s / (alpha_s * sigma_t)) ** 2, 0.0))
