"""Spacings in the noise-to-signal ratio σ/α: Karras, exponential, polyexponential, beta, KL-optimal, Align Your Steps.

How fine a step has to be depends on σ/α rather than on t, which only labels the curve. Where the curve ends at infinite log-SNR (σ = 0 or
α = 0), such a spacing needs a finite σ/α to end at: `sigma_min` and `sigma_max`; the step to the clean end is then the last one.
"""

import numpy as np

from keras_diffusion.schedulers.spacing import SPACINGS, Spacing


class RatioSpacing(Spacing):
    """Base of the spacings in σ/α.

    Args:
        sigma_min: smallest σ/α visited. `None` (default): that of the schedule at `end`; where it is 0 there, that of the cleanest
            timestep of a discrete schedule, else 0.002.
        sigma_max: largest σ/α visited. `None` (default): that of the schedule at `start`; where that is infinite, 80.
    """

    def __init__(self, sigma_min=None, sigma_max=None):
        low, high = 0.0 if sigma_min is None else sigma_min, np.inf if sigma_max is None else sigma_max
        if not low < high or not (sigma_min is None or sigma_min > 0):
            raise ValueError(f"σ/α must satisfy 0 < sigma_min < sigma_max. Received: sigma_min={sigma_min}, sigma_max={sigma_max}")
        self.sigma_min, self.sigma_max = sigma_min, sigma_max

    def times(self, schedule, num_steps, start, end):
        low, high, leaves_start, reaches_end = self._range(schedule, start, end)
        # One node per evaluation. Where the last node is not the end itself, the end follows it.
        ratios = self.ratios(high, low, num_steps + 1 if reaches_end else num_steps)
        times = schedule.time(-2.0 * np.log(ratios))
        if leaves_start:
            times[0] = start
        return np.append(times[:-1] if reaches_end else times, end)

    def ratios(self, high, low, count):
        """`count` falling values of σ/α from `high` to `low`."""
        raise NotImplementedError(f"{type(self).__name__} must implement ratios(high, low, count)")

    def _range(self, schedule, start, end):
        first, last = np.exp(-0.5 * schedule.log_snr(np.array([start, end])))
        # Never above the start: a walk that begins half way (img2img) keeps to it.
        high = min(first, self.sigma_max or (first if np.isfinite(first) else 80.0))
        reaches_end = last > 0 and self.sigma_min is None
        floor = schedule.levels(1 / schedule.timesteps) if schedule.timesteps else None
        low = last if reaches_end else self.sigma_min or (float(floor.sigma / floor.alpha) if floor else 0.002)
        if not low < high:
            raise ValueError(
                f"The noise of a sampler must fall, but the spacing would go from σ/α = {high:.4g} to {low:.4g}. "
                f"Received: start={start}, end={end}, sigma_min={self.sigma_min}, sigma_max={self.sigma_max}"
            )
        return low, high, high == first, reaches_end

    def get_config(self):
        return {"sigma_min": self.sigma_min, "sigma_max": self.sigma_max}


@SPACINGS.register("karras")
class KarrasSpacing(RatioSpacing):
    """(σ/α)^(1/ρ) even: short steps at low noise, where the eye looks.

    Args:
        rho: ρ ≥ 1; 1 is even in σ/α, ∞ even in its logarithm. Default 7.
        sigma_min: see `RatioSpacing`.
        sigma_max: see `RatioSpacing`.

    Reference:
        Karras et al. 2022, arXiv:2206.00364, eq. 5.
    """

    def __init__(self, rho=7.0, sigma_min=None, sigma_max=None):
        super().__init__(sigma_min, sigma_max)
        if not rho > 0:
            raise ValueError(f"`rho` is a root and must be positive. Received: rho={rho}")
        self.rho = rho

    def ratios(self, high, low, count):
        return np.linspace(high ** (1 / self.rho), low ** (1 / self.rho), count) ** self.rho

    def get_config(self):
        return {"rho": self.rho, **super().get_config()}


@SPACINGS.register("polyexponential")
class PolyexponentialSpacing(RatioSpacing):
    """log(σ/α) falls as a power: log(σ/α) = log σ_min + u^ρ·log(σ_max/σ_min), u even from 1 to 0.

    Args:
        rho: ρ > 0; above 1 it spends more steps at low noise. Default 1 (exponential).
        sigma_min: see `RatioSpacing`.
        sigma_max: see `RatioSpacing`.
    """

    def __init__(self, rho=1.0, sigma_min=None, sigma_max=None):
        super().__init__(sigma_min, sigma_max)
        if not rho > 0:
            raise ValueError(f"`rho` is a power and must be positive. Received: rho={rho}")
        self.rho = rho

    def ratios(self, high, low, count):
        return low * (high / low) ** (np.linspace(1.0, 0.0, count) ** self.rho)

    def get_config(self):
        return {"rho": self.rho, **super().get_config()}


@SPACINGS.register("exponential", "log_snr", "LogSNRSpacing")
class ExponentialSpacing(RatioSpacing):
    """log(σ/α) even, which is uniform in log-SNR."""

    def ratios(self, high, low, count):
        return np.exp(np.linspace(np.log(high), np.log(low), count))
