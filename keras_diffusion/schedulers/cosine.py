"""Cosine schedules: the angle of (α, σ) on the unit circle runs evenly.

    α = cos θ,  σ = sin θ,  θ from 0 at t = 0 to π/2 at t = 1        so  λ = −2·log tan θ

The most even of the variance-preserving schedules and the library's default. Large images keep more signal at the same
σ, because neighbouring pixels average the noise away; `shift` multiplies σ/α to make up for it.
"""

import math

from keras_diffusion.configs.checks import check_number
from keras_diffusion.schedulers.noise_schedule import SCHEDULES, NoiseSchedule


@SCHEDULES.register("cosine", "CosineContinuousNoiseScheduler")
class CosineNoiseSchedule(NoiseSchedule):
    """Continuous cosine schedule, α = cos(πt/2), σ = sin(πt/2), with an optional shift and log-SNR limits.

    Args:
        shift: factor on σ/α, > 0. For images of side d, `d / 64` keeps the noise of 64×64 images (simple diffusion).
            Default 1.
        log_snr_min: log-SNR at t = 1, before the shift; `None` (default) is −∞: α(1) = 0 exactly.
        log_snr_max: log-SNR at t = 0, before the shift; `None` (default) is +∞: σ(0) = 0 exactly.

    Raises:
        ValueError: `shift` ≤ 0 or limits in the wrong order.

    Example:

    >>> schedule = kd.schedulers.CosineNoiseSchedule(shift=2.0)
    >>> schedule.levels([0.0, 0.5, 1.0]).sigma.round(3)
    array([0.   , 0.894, 1.   ])

    Reference:
        Nichol & Dhariwal 2021, arXiv:2102.09672; shift: Hoogeboom et al. 2023, arXiv:2301.11093, section 3.1; limits:
        Salimans & Ho 2022, arXiv:2202.00512.
    """

    def __init__(self, shift=1.0, log_snr_min=None, log_snr_max=None, **kwargs):
        super().__init__(**kwargs)
        self.shift = check_number("shift", shift, above=0, rule="`shift` multiplies σ/α and must be positive")
        for name, limit in (("log_snr_min", log_snr_min), ("log_snr_max", log_snr_max)):
            check_number(name, limit, -1000, 1000, optional=True)
        if log_snr_min is not None and log_snr_max is not None and not log_snr_min < log_snr_max:
            raise ValueError(
                "The log-SNR falls with t, so `log_snr_min` (at t = 1) must lie below `log_snr_max` (at t = 0). "
                f"Received: log_snr_min={log_snr_min}, log_snr_max={log_snr_max}"
            )
        # θ at t = 0, and its complement π/2 − θ at t = 1; both 0 without limits.
        self._first = 0.0 if log_snr_max is None else math.atan(math.exp(-0.5 * log_snr_max))
        self._rest = 0.0 if log_snr_min is None else math.atan(math.exp(0.5 * log_snr_min))
        self._range = 0.5 * math.pi - self._first - self._rest

    def alpha_sigma(self, t, xp):
        # α as the sine of the complement: cos(π/2) is not 0 in floating point, sin(0) is.
        alpha = xp.sin(self._rest + (1.0 - t) * self._range)
        sigma = self.shift * xp.sin(self._first + t * self._range)
        norm = xp.sqrt(alpha**2 + sigma**2)
        return alpha / norm, sigma / norm

    def time_at(self, log_snr, xp):
        theta = xp.arctan(xp.exp(-0.5 * log_snr) / self.shift)
        return (theta - self._first) / self._range


# FlaxDiff's CosineGeneralNoiseScheduler covers the same angle, from σ/α = 0.02 to 80, and divides x by α.
SCHEDULES.variant(
    "cosine_general",
    CosineNoiseSchedule,
    "CosineGeneralNoiseScheduler",
    log_snr_min=-2 * math.log(80.0),
    log_snr_max=-2 * math.log(0.02),
)


@SCHEDULES.register("cosine_offset")
class OffsetCosineNoiseSchedule(NoiseSchedule):
    """The cosine of improved DDPM in continuous time: α = cos(θ)/cos(θ₀), θ = (t + s)/(1 + s)·π/2.

    The offset s keeps the first steps from being too small. `CosineBetaNoiseSchedule` is its table for discretely
    trained networks.

    Args:
        offset: s ≥ 0. Default 0.008.

    Example:

    >>> kd.schedulers.get("cosine_offset").log_snr([0.25, 0.5, 0.75]).round(2)
    array([ 1.71, -0.02, -1.78])

    Reference:
        Nichol & Dhariwal 2021, arXiv:2102.09672, eq. 17.
    """

    def __init__(self, offset=0.008, **kwargs):
        super().__init__(**kwargs)
        self.offset = check_number("offset", offset, 0, rule="`offset` must not be negative")
        self._start = offset / (1 + offset) * 0.5 * math.pi
        self._range = 0.5 * math.pi - self._start

    def alpha_sigma(self, t, xp):
        step = t * self._range
        alpha = xp.sin((1.0 - t) * self._range) / math.cos(self._start)
        # 1 − cos²θ/cos²θ₀ = sin(θ − θ₀)·sin(θ + θ₀)/cos²θ₀, without the cancellation at small t.
        sigma = xp.sqrt(xp.sin(step) * xp.sin(step + 2 * self._start)) / math.cos(self._start)
        return alpha, sigma
