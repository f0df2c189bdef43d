"""Step lengths of adaptive solvers from the errors of their steps."""

import numpy as np
from keras import ops

from keras_diffusion.configs.checks import check_number, check_numbers


class PIDController:
    """Step lengths from errors:  h ← h·(1 + atan(e₀^β₀·e₁^β₁·e₂^β₂ − 1)).

    e is 1/error of this trial (e₀) and of the last two that counted. A trial counts if that factor is at least
    `accept_safety`.

    Args:
        pcoeff, icoeff, dcoeff: P, I and D coefficients. Default 0, 1, 0: the error of this trial alone.
        accept_safety: Default 0.81.

    Reference:
        Söderlind 2003, "Digital filters in adaptive time-stepping"; coefficients and limiter as in k-diffusion.
    """

    def __init__(self, pcoeff=0.0, icoeff=1.0, dcoeff=0.0, accept_safety=0.81):
        self.pcoeff, self.icoeff, self.dcoeff = check_numbers(pcoeff=pcoeff, icoeff=icoeff, dcoeff=dcoeff)
        self.accept_safety = check_number("accept_safety", accept_safety, above=0)

    def exponents(self, order):
        """β₀, β₁, β₂ for a method of the given order: array (3,)."""
        p, i, d = self.pcoeff, self.icoeff, self.dcoeff
        return np.array([p + i + d, -(p + 2.0 * d), d]) / order

    @staticmethod
    def update(error, h, past, exponents, accept_safety):
        """After a trial of length `h`: (whether it counts, the next length, the new `past`).

        All tensors; `past` (2,) begins as zeros.
        """
        inverse = 1.0 / (error + 1e-8)
        past = ops.where(past > 0, past, inverse)
        factor = inverse ** exponents[0] * past[0] ** exponents[1] * past[1] ** exponents[2]
        factor = 1.0 + _arctan(factor - 1.0)
        accepted = factor >= accept_safety
        return accepted, h * factor, ops.where(accepted, ops.stack([inverse, past[0]]), past)


def _arctan(x):
    """arctan in the type of `x`; `ops.arctan` of float64 is a float32."""
    for _ in range(3):
        x = x / (1.0 + ops.sqrt(1.0 + x**2))  # the tangent of half the angle
    return 8.0 * sum((-1) ** k / (2 * k + 1) * x ** (2 * k + 1) for k in range(10))
