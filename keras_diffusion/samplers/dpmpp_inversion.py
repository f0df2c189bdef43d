"""DPM-Solver++ upwards: from a sample to the noise that it is made of.

The probability-flow ODE has no preferred direction, and nor have the formulas of `dpmpp.py`: with h = λ_s − λ_t < 0 the
same table leads from a level to a noisier one,

    x_s = α_s·x0 + σ_s·ε + α_s·(φ₂·D₁ + 2φ₃·D₂)

Every step evaluates the network where x stands. Only a clean sample, where ε says nothing, is looked at with the eyes
of the next level, as DDIM inversion does: x_s = α_s/α_t·x + σ_s·ε(x, level s).
"""

import numpy as np

from keras_diffusion.core.levels import Levels
from keras_diffusion.samplers.dpmpp import DPMppSampler
from keras_diffusion.samplers.grids import upwards
from keras_diffusion.samplers.sampler import SAMPLERS


@SAMPLERS.register("dpmpp_2m_inversion")
class DPMppInversionSampler(DPMppSampler):
    """Multistep DPM-Solver++ of order 1, 2 or 3 that walks from clean to noisy.

    Takes the falling levels that sampling takes, and walks them from the end, or rising ones. `x` is a sample at the
    cleanest level. One evaluation per step, no draws; measured orders 1 and 2 between noisy levels. A step from a clean
    level is of order 1.

    Args:
        order, solver_type, reference_compatible, lower_order_final: see `DPMppSampler`.

    Raises:
        ValueError: unknown order or solver type, or levels that neither fall nor rise.

    Example:

    >>> samples = denoise.sample(4)
    >>> noise = kd.samplers.DPMppInversionSampler(order=2).sample(samples, denoise, levels)
    >>> again = kd.samplers.get("dpmpp_2m").sample(noise, denoise, levels)

    Reference:
        Lu et al. 2022, arXiv:2211.01095, algorithm 2, with rising noise; as diffusers'
        `DPMSolverMultistepInverseScheduler`.
    """

    ascends = True

    def check(self, levels):
        return upwards(levels)

    def plan(self, levels, schedule=None):
        clean = levels.sigma[:-1] == 0
        lower, upper = levels.map(lambda v: v[:-1]), levels.map(lambda v: v[1:])
        return {
            **super().plan(levels, schedule),
            "level": Levels(*(np.where(clean, high, low) for low, high in zip(lower, upper, strict=True))),
            "x": np.where(clean, upper.alpha / lower.alpha, 0.0),
            "x0": np.where(clean, 0.0, upper.alpha),
        }

    def step(self, denoise, x, row, state, noise):
        following, state = super().step(denoise, x, row, state, noise)
        return following + row["x"] * x, state
