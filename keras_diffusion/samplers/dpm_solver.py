"""DPM-Solver: the ODE's linear part solved exactly, ε extrapolated from its history.

DPM-Solver++ with ε in the place of x0. In λ = log(α/σ), with h = λ_s − λ_t and the share η of the reverse SDE's noise,

    x_s = α_s/α_t·x_t − (1+η)·α_s·∫ e^(−λ)·ε(λ) dλ + σ_s·√(η·(e^(2h) − 1))·z

The weights of the extrapolation are DPM-Solver++'s at z = −h, and as x_t = α_t·x0 + σ_t·ε nothing is divided by α:

    x_s = α_s·x0 + σ_s·(1 − η·(e^h − 1))·ε + (1+η)·σ_s·(φ₂·D₁ + 2φ₃·D₂) + σ_s·√(η·(e^(2h) − 1))·z

e^h is large where steps are: with strong guidance, few steps, or noise (η > 0) DPM-Solver++ is the steadier of the two.
A step from pure noise (h = ∞) is of first order, and with η > 0 DPM-Solver++'s.
"""

import numpy as np

from keras_diffusion.samplers.dpmpp import DPMppSampler
from keras_diffusion.samplers.sampler import SAMPLERS


@SAMPLERS.register("dpm_solver")
class DPMSolverSampler(DPMppSampler):
    """Multistep DPM-Solver of order 1, 2 or 3, in ε.

    One evaluation per step. Measured orders: 1, 2 and, started exactly, 3; started by itself, order 3 is held to 2 by
    its first steps.

    Args:
        order: 1 (DDIM), 2 or 3. Default 2.
        solver_type, reference_compatible, lower_order_final: see `DPMppSampler`.

    Raises:
        ValueError: unknown order or solver type.

    Example:

    >>> sampler = kd.samplers.DPMSolverSampler(order=3)
    >>> samples = sampler.sample(x, denoise, levels, schedule=schedule, seed=0)

    Reference:
        Lu et al. 2022, arXiv:2206.00927; its multistep form: diffusers' "dpmsolver".
    """

    predict_x0 = False

    def bends(self, levels):
        h = np.diff(0.5 * levels.log_snr)
        weights = np.stack([self.past_weights(-h[i], h, i) for i in range(len(h))])
        return (1.0 + self.eta) * levels.sigma[1:, None] * weights


SAMPLERS.variant("dpm_2m", DPMSolverSampler, order=2)
SAMPLERS.variant("dpm_3m", DPMSolverSampler, order=3)
