"""Linear multistep (Adams–Bashforth on an uneven grid): ε extrapolated from its history.

In x̂ = x/α against σ̂ = σ/α the probability-flow ODE is dx̂/dσ̂ = ε. The polynomial through the last ε's, integrated
over the step, gives

    x̂_s = x̂_t + Σ_k B_k·ε_{−k},     B_k = ∫ ℓ_k(σ̂) dσ̂ from σ̂_t to σ̂_s,     ΣB = σ̂_s − σ̂_t

and, since x̂_t = x0 + σ̂_t·ε, the same without dividing by α:   x_s = α_s·x0 + σ_s·ε + α_s·Σ_{k ≥ 1} B_k·(ε_{−k} − ε).
"""

import numpy as np

from keras_diffusion.samplers.grids import pairs
from keras_diffusion.samplers.multistep import MultistepSampler, check_order
from keras_diffusion.samplers.sampler import SAMPLERS


@SAMPLERS.register("lms")
class LMSSampler(MultistepSampler):
    """Linear multistep method of order 1 to 4.

    One evaluation per step. The first steps have less history and are of lower order. Unlike most samplers it takes the
    closing step with its own coefficients, as k-diffusion does.

    Args:
        order: 1 (Euler) to 4. Default 4.

    Raises:
        ValueError: another order.

    Example:

    >>> sampler = kd.samplers.LMSSampler(order=3)
    >>> samples = sampler.sample(x, denoise, levels, schedule=schedule, seed=0)

    Reference:
        k-diffusion's `sample_lms`; Adams–Bashforth methods on uneven grids: Hairer, Nørsett & Wanner, "Solving ordinary
        differential equations I", section III.5.
    """

    def __init__(self, order=4, **kwargs):
        super().__init__(**kwargs)
        self.order = check_order(order, 4)
        self.remembered = self.order - 1

    def plan(self, levels, schedule=None):
        _, _, alpha_s, sigma_s = pairs(levels)
        with np.errstate(divide="ignore"):
            ratio = levels.sigma / levels.alpha
        bend = np.zeros((len(alpha_s), self.remembered))
        for i in range(len(alpha_s)):
            known = [k for k in range(i, max(i - self.order, -1), -1) if np.isfinite(ratio[k])]  # pure noise is no node
            for j in range(1, len(known)):
                bend[i, j - 1] = _lagrange_integral(ratio[known], j, ratio[i], ratio[i + 1])
        return {"x0": alpha_s, "eps": sigma_s, "bend": alpha_s[:, None] * bend}


def _lagrange_integral(nodes, j, start, end):
    """∫ ℓ_j from `start` to `end`, ℓ_j being 1 at nodes[j] and 0 at the others."""
    others = np.delete(nodes, j)
    basis = np.poly1d(np.poly(others)) / np.prod(nodes[j] - others)
    integral = basis.integ()
    return integral(end) - integral(start)
