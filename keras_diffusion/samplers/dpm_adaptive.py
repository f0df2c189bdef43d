"""Adaptive DPM-Solver: two orders of DPM-Solver on shared evaluations, in the frame of `adaptive.py`.

From x0, ε at λ = log(α/σ), ε′ and ε″ at r·h of the step on the way, to λ + h and the level (α, σ) there:

    order 1    x = α·x0 + σ·ε                                           the DDIM point
    order 2    x − σ·(eʰ − 1)/(2r)·(ε′ − ε)                             r = ½, or ⅓ as the lower of the orders 2 and 3
    order 3    x − σ/r·((eʰ − 1)/h − 1)·(ε″ − ε)                        r = ⅔
"""

from keras import ops

from keras_diffusion.samplers.adaptive import AdaptiveSampler
from keras_diffusion.samplers.sampler import SAMPLERS


@SAMPLERS.register("dpm_adaptive")
class DPMAdaptiveSampler(AdaptiveSampler):
    """Adaptive DPM-Solver: orders 1 and 2, or 2 and 3, in ε.

    `order` evaluations per trial. Arguments: see `AdaptiveSampler`; `order` is 2 or 3 (default).

    Raises:
        ValueError: another order, or an option out of range.

    Example:

    >>> sampler = kd.samplers.DPMAdaptiveSampler(rtol=0.1)
    >>> samples = sampler.sample(x, denoise, levels, schedule=schedule, seed=0)

    Reference:
        Lu et al. 2022, arXiv:2206.00927, DPM-Solver-12 and -23; controller and ancestral form: k-diffusion's
        `sample_dpm_adaptive`.
    """

    orders = (2, 3)

    def attempt(self, denoise, x, start, end, down, level):
        h = down - start
        x0, eps = denoise(x, level(start))

        def point(alpha, sigma, weight=0.0, bend=0.0):
            """The DDIM point, less a difference of ε."""
            return alpha * x0 + sigma * (eps - weight * bend)

        def stage(r, weight=0.0, bend=0.0):
            at = level(start + r * h)
            return denoise(point(at.alpha, at.sigma, weight, bend), at).eps - eps

        alpha = level(end).alpha
        sigma = alpha * ops.exp(-down)
        if self.order == 2:
            middle = stage(0.5)
            return point(alpha, sigma), point(alpha, sigma, ops.expm1(h), middle)
        first = stage(1 / 3)
        second = stage(2 / 3, 2.0 * _growth(h * (2 / 3)), first)
        return point(alpha, sigma, 1.5 * ops.expm1(h), first), point(alpha, sigma, 1.5 * _growth(h), second)


def _growth(h):
    """(eʰ − 1)/h − 1."""
    return ops.expm1(h) / h - 1.0
