"""DEIS: ε as a polynomial in log(σ/α), integrated exactly over σ/α.

In x̂ = x/α against σ̂ = σ/α the probability-flow ODE is dx̂/dσ̂ = ε. As in `lms` the last ε's are interpolated, but in
log σ̂, in which a denoiser's ε is smoother than in σ̂ itself:

    x_s = α_s·x0 + σ_s·ε + α_s·Σ_{k ≥ 1} B_k·(ε_{−k} − ε),      B_k = ∫ ℓ_k(log σ̂) dσ̂ from σ̂_t to σ̂_s

A step from pure noise (α = 0) is of first order, and ε there, infinitely far away in log σ̂, is no node.
"""

import numpy as np

from keras_diffusion.configs.checks import check_flag
from keras_diffusion.samplers.grids import pairs
from keras_diffusion.samplers.multistep import (
    MultistepSampler,
    check_order,
    exponential_moments,
    known_nodes,
    quadrature_weights,
)
from keras_diffusion.samplers.sampler import SAMPLERS

_FEW_STEPS = 15


@SAMPLERS.register("deis")
class DEISSampler(MultistepSampler):
    """Diffusion exponential integrator sampler, Adams–Bashforth in log(σ/α).

    One evaluation per step. Measured orders: 1, 2 and, started exactly, 3. The same as the "heun" form of DPM-Solver at
    order 2, and as DPM-Solver at order 3.

    Args:
        order: 1 (DDIM), 2 or 3. Default 2.
        lower_order_final: lower orders in the last steps of grids of fewer than 15 steps, as diffusers does. Default
            True.

    Raises:
        ValueError: unknown order.

    Example:

    >>> sampler = kd.samplers.DEISSampler(order=3)
    >>> samples = sampler.sample(x, denoise, levels, schedule=schedule, seed=0)

    Reference:
        Zhang & Chen 2022, arXiv:2204.13902, with the Lagrange polynomials in log ρ; diffusers' "logrho".
    """

    table_options = ("lower_order_final",)

    def __init__(self, order=2, lower_order_final=True, **kwargs):
        super().__init__(**kwargs)
        self.order, self.lower_order_final = check_order(order, 3), check_flag("lower_order_final", lower_order_final)
        self.remembered = self.order - 1

    def plan(self, levels, schedule=None):
        _, _, alpha_s, sigma_s = pairs(levels)
        half = 0.5 * levels.log_snr  # λ = −log σ̂
        n = len(alpha_s)
        bend = np.zeros((n, self.remembered))
        for i in range(n):
            order = min(self.order, n - i) if self.lower_order_final and n < _FEW_STEPS else self.order
            nodes = known_nodes(half, i, order)
            h = half[i + 1] - half[i]
            if np.isfinite(h):
                weights = quadrature_weights((nodes - half[i]) / h, exponential_moments(h, len(nodes), rising=False))
                bend[i, : len(nodes) - 1] = -sigma_s[i] * np.exp(h) * h * weights[1:]  # dσ̂ = −e^(−λ) dλ
        return {"x0": alpha_s, "eps": sigma_s, "bend": bend}
