"""Spacings in the noise-to-signal ratio σ/α: Karras, exponential, polyexponential, beta, KL-optimal, Align Your Steps.

How fine a step has to be depends on σ/α rather than on t, which only labels the curve. Where the curve ends at infinite
log-SNR (σ = 0 or α = 0), such a spacing needs a finite σ/α to end at: `sigma_min` and `sigma_max`; the step to the
clean end is then the last one.
"""

import numpy as np

from keras_diffusion.configs.checks import check_choice, check_number, check_numbers, shown
from keras_diffusion.schedulers.time_spacing import SPACINGS, Spacing


class RatioSpacing(Spacing):
    """Base of the spacings in σ/α.

    Args:
        sigma_min: smallest σ/α visited. `None` (default): that of the schedule at `end`; where it is 0 there, that of
            the cleanest timestep of a discrete schedule, else 0.002.
        sigma_max: largest σ/α visited. `None` (default): that of the schedule at `start`; where that is infinite, 80.
        coordinate: what is spaced: "sigma" (default), σ/α; or "flow", σ/(α + σ), which is 1 at pure noise: the σ of
            flow matching. The limits are then in that coordinate.

    Raises:
        ValueError: limits out of order or range, or an unknown coordinate.
    """

    def __init__(self, sigma_min=None, sigma_max=None, coordinate="sigma"):
        check_numbers(sigma_min=sigma_min, sigma_max=sigma_max, optional=True)
        low, high = 0.0 if sigma_min is None else sigma_min, np.inf if sigma_max is None else sigma_max
        if not low < high or not (sigma_min is None or sigma_min > 0):
            raise ValueError(
                f"σ/α must satisfy 0 < sigma_min < sigma_max. Received: sigma_min={sigma_min}, sigma_max={sigma_max}"
            )
        check_choice("coordinate", coordinate, ("sigma", "flow"), "`coordinate` must be 'sigma' or 'flow'")

    def times(self, schedule, num_steps, start, end):
        low, high, leaves_start, reaches_end = self._range(schedule, start, end)
        # One node per evaluation. Where the last node is not the end itself, the end follows it.
        nodes = self.ratios(high, low, num_steps + 1 if reaches_end else num_steps)
        with np.errstate(divide="ignore"):
            log_ratios = np.log(nodes) - (np.log1p(-nodes) if self.coordinate == "flow" else 0.0)
        times = schedule.time(-2.0 * log_ratios)
        if leaves_start:
            times[0] = start
        return np.append(times[:-1] if reaches_end else times, end)

    def ratios(self, high, low, count):
        """The formula of the spacing.

        Args:
            high, low: ends of the coordinate, σ/α or σ/(α + σ), high > low > 0.
            count: number of values ≥ 1.

        Returns:
            float64 array (count,), falling from `high` to `low`.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement ratios(high, low, count)")

    def _range(self, schedule, start, end):
        first, last = self._position(schedule.levels(np.array([start, end])))
        # Never above the start: a walk that begins half way (img2img) keeps to it.
        high = min(first, self.sigma_max or (first if np.isfinite(first) else 80.0))
        reaches_end = last > 0 and (self.sigma_min is None or self.sigma_min <= last * (1 + 1e-9))
        floor = float(self._position(schedule.levels(1 / schedule.timesteps))) if schedule.timesteps else 0.002
        low = last if reaches_end else self.sigma_min or floor
        if not low < high:
            raise ValueError(
                f"The noise of a sampler must fall, but the spacing would go from σ/α = {high:.4g} to {low:.4g}. "
                f"Received: start={start}, end={end}, sigma_min={self.sigma_min}, sigma_max={self.sigma_max}"
            )
        return low, high, high == first, reaches_end

    def _position(self, levels):
        with np.errstate(divide="ignore"):
            return levels.sigma / (levels.alpha + levels.sigma if self.coordinate == "flow" else levels.alpha)


@SPACINGS.register("karras")
class KarrasSpacing(RatioSpacing):
    """(σ/α)^(1/ρ) even: short steps at low noise, where the eye looks.

    Args:
        rho: ρ ≥ 1; 1 is even in σ/α, ∞ even in its logarithm. Default 7.
        sigma_min, sigma_max, coordinate: see `RatioSpacing`.

    Example:

    >>> schedule = kd.schedulers.get("variance_exploding")
    >>> kd.schedulers.KarrasSpacing(rho=7.0).levels(schedule, 4).sigma.round(3)
    array([8.0000e+01, 1.7528e+01, 2.5150e+00, 1.7000e-01, 2.0000e-03])

    Reference:
        Karras et al. 2022, arXiv:2206.00364, eq. 5.
    """

    def __init__(self, rho=7.0, sigma_min=None, sigma_max=None, coordinate="sigma"):
        super().__init__(sigma_min, sigma_max, coordinate)
        self.rho = check_number("rho", rho, above=0, rule="`rho` is a root and must be positive", finite=False)

    def ratios(self, high, low, count):
        return np.linspace(high ** (1 / self.rho), low ** (1 / self.rho), count) ** self.rho


@SPACINGS.register("polyexponential")
class PolyexponentialSpacing(RatioSpacing):
    """log(σ/α) falls as a power: log(σ/α) = log σ_min + u^ρ·log(σ_max/σ_min), u even from 1 to 0.

    Args:
        rho: ρ > 0; above 1 it spends more steps at low noise. Default 1 (exponential).
        sigma_min, sigma_max, coordinate: see `RatioSpacing`.

    Example:

    >>> schedule = kd.schedulers.get("variance_exploding")
    >>> kd.schedulers.PolyexponentialSpacing(rho=2.0).levels(schedule, 4).sigma.round(3)
    array([8.00e+01, 7.76e-01, 2.80e-02, 4.00e-03, 2.00e-03])

    Reference:
        k-diffusion's `get_sigmas_polyexponential`.
    """

    def __init__(self, rho=1.0, sigma_min=None, sigma_max=None, coordinate="sigma"):
        super().__init__(sigma_min, sigma_max, coordinate)
        self.rho = check_number("rho", rho, above=0, rule="`rho` is a power and must be positive")

    def ratios(self, high, low, count):
        return low * (high / low) ** (np.linspace(1.0, 0.0, count) ** self.rho)


@SPACINGS.register("exponential", "log_snr", "LogSNRSpacing")
class ExponentialSpacing(RatioSpacing):
    """log(σ/α) even, which is uniform in log-SNR.

    Args:
        sigma_min, sigma_max, coordinate: see `RatioSpacing`.

    Example:

    >>> schedule = kd.schedulers.get("variance_exploding")
    >>> kd.schedulers.ExponentialSpacing().levels(schedule, 4).sigma.round(3)
    array([8.000e+01, 5.657e+00, 4.000e-01, 2.800e-02, 2.000e-03])

    Reference:
        Lu et al. 2022, arXiv:2206.00927, section 3.4 (uniform steps in log-SNR); k-diffusion's
        `get_sigmas_exponential`.
    """

    def ratios(self, high, low, count):
        return np.exp(np.linspace(np.log(high), np.log(low), count))


@SPACINGS.register("kl_optimal")
class KLOptimalSpacing(RatioSpacing):
    """arctan(σ/α) even: the best spacing of Euler steps for data that are standard normal.

    Args:
        sigma_min, sigma_max, coordinate: see `RatioSpacing`.

    Example:

    >>> schedule = kd.schedulers.get("variance_exploding")
    >>> kd.schedulers.KLOptimalSpacing().levels(schedule, 4).sigma.round(3)
    array([8.000e+01, 2.355e+00, 9.900e-01, 4.120e-01, 2.000e-03])

    Reference:
        Sabour et al. 2024, arXiv:2404.14507, section 3.1 (theorem on isotropic Gaussians).
    """

    def ratios(self, high, low, count):
        return np.tan(np.linspace(np.arctan(high), np.arctan(low), count))


@SPACINGS.register("beta")
class BetaSpacing(RatioSpacing):
    """Quantiles of a beta distribution: below 1, both parameters crowd the steps at both ends.

    σ/α = low + (high − low)·F⁻¹(u; a, b), u even from 1 to 0: diffusers' `use_beta_sigmas`. The paper takes such
    quantiles in t.

    Args:
        a, b: parameters of the beta distribution, > 0. Default 0.6 each.
        sigma_min, sigma_max, coordinate: see `RatioSpacing`.

    Raises:
        ValueError: a parameter that is not positive.

    Example:

    >>> schedule = kd.schedulers.get("variance_exploding")
    >>> kd.schedulers.BetaSpacing(a=0.5, b=0.5).levels(schedule, 4).sigma.round(3)
    array([8.0000e+01, 6.8285e+01, 4.0001e+01, 1.1717e+01, 2.0000e-03])

    Reference:
        Lee et al. 2024, "Beta sampling is all you need", arXiv:2407.12173.
    """

    def __init__(self, a=0.6, b=0.6, sigma_min=None, sigma_max=None, coordinate="sigma"):
        super().__init__(sigma_min, sigma_max, coordinate)
        check_numbers(a=a, b=b)
        if not (a > 0 and b > 0):
            raise ValueError(f"The parameters of a beta distribution are positive. Received: a={a}, b={b}")

    def ratios(self, high, low, count):
        from scipy.special import betaincinv

        return low + (high - low) * betaincinv(self.a, self.b, np.linspace(1.0, 0.0, count))


# σ/α of ten optimized steps and of the last one's end: Sabour et al. 2024, arXiv:2404.14507, table 3.
_ALIGNED = {
    "sd15": (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029),
    "sdxl": (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029),
    "deepfloyd": (160.41, 8.081, 3.315, 1.885, 1.207, 0.785, 0.553, 0.293, 0.186, 0.030, 0.006),
    "svd": (700.00, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002),
}


@SPACINGS.register("align_your_steps", "ays")
class AlignYourStepsSpacing(Spacing):
    """Steps that were optimized for a network, tabulated for ten and interpolated in log(σ/α) for other numbers.

    Where the walk begins below the table's first entry, or ends above its last one, the table is squeezed to fit.

    Args:
        table: "sd15" (Stable Diffusion 1.5, default), "sdxl", "deepfloyd" or "svd" (Stable Video Diffusion); or falling
            values of σ/α, one more than steps.

    Raises:
        ValueError: an unknown name, or values that do not fall or are not positive.

    Example:

    >>> schedule = kd.schedulers.get("scaled_linear")
    >>> kd.schedulers.AlignYourStepsSpacing("sdxl")(schedule, 4).round(3)
    array([1.   , 0.662, 0.311, 0.081, 0.   ])

    Reference:
        Sabour et al. 2024, "Align your steps", arXiv:2404.14507, table 3.
    """

    def __init__(self, table="sd15"):
        try:
            values = np.asarray(_ALIGNED.get(table, ()) if isinstance(table, str) else table, "float64")
        except (TypeError, ValueError, OverflowError):
            values = np.zeros(0)
        if (
            values.ndim != 1
            or len(values) < 2
            or not np.all(np.isfinite(values))
            or not np.all(np.diff(values) < 0)
            or not values[-1] > 0
        ):
            raise ValueError(
                f"`table` is one of {', '.join(_ALIGNED)}, or at least two falling, positive values of σ/α. Received: "
                f"table={shown(table)}"
            )
        self.table = table if isinstance(table, str) else values.tolist()
        self._log_ratios = np.log(values)

    def times(self, schedule, num_steps, start, end):
        places = np.linspace(0.0, 1.0, num_steps + 1)
        shape = np.interp(places, np.linspace(0.0, 1.0, len(self._log_ratios)), self._log_ratios)
        first, last = -0.5 * schedule.log_snr(np.array([start, end]))
        high, low = min(shape[0], first), max(shape[-1], last)
        squeezed = low + (shape - shape[-1]) * (high - low) / (shape[0] - shape[-1])
        times = schedule.time(-2.0 * squeezed)
        times[0] = start if high == first else times[0]
        return np.append(times[:-1], end)
