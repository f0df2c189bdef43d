"""The sigmoid schedule: α² falls along a piece of the logistic curve, stretched to reach 1 and 0."""

import math

from keras_diffusion.configs.checks import check_numbers
from keras_diffusion.schedulers.noise_schedule import SCHEDULES, NoiseSchedule


@SCHEDULES.register("sigmoid")
class SigmoidNoiseSchedule(NoiseSchedule):
    """Continuous sigmoid schedule.

    α² = (v₁ − S(u))/(v₁ − v₀), u = (start + t·(end − start))/τ, S the logistic function, v₀ and v₁ its values at the
    two ends.

    Args:
        start: argument of the logistic curve at t = 0. Default −3.
        end: argument at t = 1, > `start`. Default 3.
        tau: temperature > 0; a smaller one bends the curve more. Default 1.

    Raises:
        ValueError: `start` not below `end`, or `tau` not positive.

    Example:

    >>> kd.schedulers.SigmoidNoiseSchedule(tau=0.7).levels([0.1, 0.5, 0.9]).sigma.round(3)
    array([0.135, 0.707, 0.991])

    Reference:
        Jabri et al. 2022, arXiv:2212.11972; Chen 2023, arXiv:2301.10972, algorithm 1.
    """

    def __init__(self, start=-3.0, end=3.0, tau=1.0, **kwargs):
        super().__init__(**kwargs)
        check_numbers(start=start, end=end, tau=tau)
        if not start < end or not tau > 0:
            raise ValueError(
                f"The sigmoid needs start < end and tau > 0. Received: start={start}, end={end}, tau={tau}"
            )
        self._first, self._last = start / tau, end / tau

    def alpha_sigma(self, t, xp):
        u = self._first + t * (self._last - self._first)
        width = self._last - self._first
        # S(a) − S(b) = sinh((a − b)/2) / (2·cosh(a/2)·cosh(b/2)): exact where the difference is small.
        scale = math.sinh(0.5 * width)
        sigma2 = xp.sinh(0.5 * width * t) * math.cosh(0.5 * self._last) / (xp.cosh(0.5 * u) * scale)
        alpha2 = xp.sinh(0.5 * width * (1.0 - t)) * math.cosh(0.5 * self._first) / (xp.cosh(0.5 * u) * scale)
        return xp.sqrt(alpha2), xp.sqrt(sigma2)
