"""iPNDM: Adams–Bashforth as on an even grid, whatever the grid.

In x̂ = x/α against σ̂ = σ/α the probability-flow ODE is dx̂/dσ̂ = ε. Its mean slope over a step is extrapolated with
the textbook's numbers, from ε for the first step, (3ε − ε₋₁)/2 for the second, up to (55ε − 59ε₋₁ + 37ε₋₂ − 9ε₋₃)/24:

    x_s = α_s·x0 + σ_s·ε + (σ_s − α_s·σ_t/α_t)·Σ_{k ≥ 1} β_k·(ε_{−k} − ε)

which is DDIM with that mean in place of ε. The numbers are right where the grid is even in σ/α; on other grids the
method is of second order, and `lms`, which computes them for the grid, is the one of its own order. A step from pure
noise (α = 0) is DDIM's.
"""

import numpy as np

from keras_diffusion.samplers.grids import pairs
from keras_diffusion.samplers.multistep import ADAMS_BASHFORTH, MultistepSampler, check_order
from keras_diffusion.samplers.sampler import SAMPLERS


@SAMPLERS.register("ipndm")
class IPNDMSampler(MultistepSampler):
    """Improved PNDM: multistep from the first step on, without a Runge–Kutta start.

    One evaluation per step. Measured order: 2, and 4 on grids even in σ/α, where it is `lms`. As that one it takes the
    closing step with its own coefficients.

    Args:
        order: 1 (DDIM) to 4. Default 4.

    Raises:
        ValueError: unknown order.

    Example:

    >>> sampler = kd.samplers.IPNDMSampler()
    >>> samples = sampler.sample(x, denoise, levels, schedule=schedule, seed=0)

    Reference:
        Zhang & Chen 2022, arXiv:2204.13902 (iPNDM), after Liu et al. 2022, arXiv:2202.09778. diffusers' first step,
        from α = 0, puts x0 = 0; here it is the denoiser's x0.
    """

    def __init__(self, order=4, **kwargs):
        super().__init__(**kwargs)
        self.order = check_order(order, 4)
        self.remembered = self.order - 1

    def plan(self, levels, schedule=None):
        _, _, alpha_s, sigma_s = pairs(levels)
        bend = np.zeros((len(alpha_s), self.remembered))
        for i, length in enumerate(transfer(levels)):
            past = ADAMS_BASHFORTH[min(i + 1, self.order) - 1][1:]
            bend[i, : len(past)] = length * past
        return {"x0": alpha_s, "eps": sigma_s, "bend": bend}


def transfer(levels):
    """α_s·(σ_s/α_s − σ_t/α_t), what a step makes of a change of ε: array (n,), 0 for a step from pure noise."""
    alpha_t, sigma_t, alpha_s, sigma_s = pairs(levels)
    pure = alpha_t == 0
    return np.where(pure, 0.0, sigma_s - alpha_s * sigma_t / np.where(pure, 1.0, alpha_t))
