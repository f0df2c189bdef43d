"""Spacings: which times a sampler visits.

A spacing turns a schedule and a number of steps n into n + 1 falling times, from `start` (where the sampler begins) to `end`. Each of
the first n is a level at which the network is evaluated once per step (solvers with inner stages add evaluations between them); the
last is where the sample arrives. Two families:

- spacings in t: linspace, leading, trailing, quadratic. On a discrete schedule they give whole timesteps.
- spacings in σ/α: Karras, exponential (the same as uniform in log-SNR), polyexponential. Where the curve ends at infinite log-SNR
  (σ = 0 or α = 0) they need a finite σ/α to end at: `sigma_min` and `sigma_max`; the step to the clean end is then the last one.
"""

import numpy as np

from keras_diffusion.core.registry import Registry

SPACINGS = Registry("spacing")


@SPACINGS.base
class Spacing:
    """Base class of spacings.

    Call arguments:
        schedule: a `NoiseSchedule`.
        num_steps: number of steps n ≥ 1.
        start: first time, in (0, 1]. Default 1.
        end: last time, in [0, start). Default 0.

    Returns:
        float64 array `(n + 1,)`, strictly decreasing.

    Raises:
        ValueError: n < 1, times out of order, or more steps than a discrete schedule has timesteps.
    """

    def __call__(self, schedule, num_steps, start=1.0, end=0.0):
        check_steps(num_steps)
        if not 0 <= end < start <= 1:
            raise ValueError(f"A sampler walks from `start` down to `end`, both in [0, 1]. Received: start={start}, end={end}")
        times = np.asarray(self.times(schedule, int(num_steps), float(start), float(end)), "float64")
        if not np.all(np.diff(times) < 0):
            room = (
                f" The schedule has {schedule.timesteps} timesteps, {round((start - end) * schedule.timesteps)} of them in this range."
                if schedule.timesteps
                else ""
            )
            raise ValueError(
                f"{num_steps} steps do not fit between t = {start:g} and t = {end:g}: times would repeat.{room} Take fewer steps."
            )
        return times

    def times(self, schedule, num_steps, start, end):
        """The n + 1 times; arguments are checked already."""
        raise NotImplementedError(f"{type(self).__name__} must implement times(schedule, num_steps, start, end)")

    def get_config(self):
        """Constructor arguments."""
        return {}

    @classmethod
    def from_config(cls, config):
        """The inverse of `get_config`."""
        return cls(**config)


@SPACINGS.register("linspace", "linear")
class LinspaceSpacing(Spacing):
    """Even times, both ends included. On a discrete schedule: n whole timesteps from the first to the last, then `end`."""

    def times(self, schedule, num_steps, start, end):
        steps = schedule.timesteps
        if steps is None:
            return np.linspace(start, end, num_steps + 1)
        # One step visits the noisiest level, not the cleanest: count down from the start.
        last, first = round(start * steps) - 1, round(end * steps)
        return np.append((np.round(np.linspace(last, first, num_steps)) + 1) / steps, end)


@SPACINGS.register("leading")
class LeadingSpacing(Spacing):
    """Every (T // n)-th timestep from the clean end, as DDIM's authors did; the noisiest level is not visited.

    Args:
        offset: added to every timestep; Stable Diffusion 1 and 2 use 1. Default 0.
        timesteps: T for schedules that are not discrete. Default 1000.
    """

    def __init__(self, offset=0, timesteps=1000):
        self.offset, self.timesteps = offset, timesteps

    def times(self, schedule, num_steps, start, end):
        steps = schedule.timesteps or self.timesteps
        low, high = end * steps, start * steps
        stride = (high - low) // num_steps
        index = low + np.arange(num_steps)[::-1] * stride + self.offset
        return np.append(np.minimum((index + 1) / steps, start), end)

    def get_config(self):
        return {"offset": self.offset, "timesteps": self.timesteps}


@SPACINGS.register("trailing")
class TrailingSpacing(Spacing):
    """Even steps counted from the noisy end, which is visited; the step from the last level to `end` is as long as the others.

    Reference:
        Lin et al. 2023, "Common diffusion noise schedules and sample steps are flawed", arXiv:2305.08891, section 3.3.
    """

    def times(self, schedule, num_steps, start, end):
        times = np.linspace(start, end, num_steps + 1)
        if schedule.timesteps is None:
            return times
        return np.append(np.round(times[:-1] * schedule.timesteps) / schedule.timesteps, end)


@SPACINGS.register("quadratic")
class QuadraticSpacing(Spacing):
    """t = end + (start − end)·u², u even: short steps near the data. Fractional timesteps on a discrete schedule."""

    def times(self, schedule, num_steps, start, end):
        return end + (start - end) * np.linspace(1.0, 0.0, num_steps + 1) ** 2


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


def check_steps(num_steps):
    """Raises unless `num_steps` is an integer of at least 1."""
    if isinstance(num_steps, bool) or not isinstance(num_steps, (int, np.integer)) or num_steps < 1:
        raise ValueError(f"A sampler takes at least one step: `num_steps` must be an integer ≥ 1. Received: num_steps={num_steps!r}")
