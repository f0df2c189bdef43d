"""Discrete schedules: DDPM's T noise levels, given by a table of betas.

    q(x_i | x_{i−1}) = N(√(1 − β_i)·x_{i−1}, β_i·I)     ⇒    α_i² = ᾱ_i = Π_{j ≤ i} (1 − β_j),   σ_i² = 1 − ᾱ_i

Index i = 0 … T−1 (a "timestep") is the time t = (i + 1)/T; t = 0 is clean. Between two levels log(σ/α) is linear in t,
as in k-diffusion, so a network trained on the table can be sampled at any level in between; below the first level σ/α
goes linearly to 0.

The cumulative product is formed in float64 on the host: in float32 the first σ would be wrong in the fourth digit.
"""

import numpy as np
from keras import ops

from keras_diffusion.configs.checks import check_flag, check_whole, shown
from keras_diffusion.runtime import limits
from keras_diffusion.schedulers.noise_schedule import SCHEDULES, NoiseSchedule


@SCHEDULES.register("discrete")
class DiscreteNoiseSchedule(NoiseSchedule):
    """Noise levels from a table of betas.

    Args:
        betas: sequence of T ≥ 2 numbers in (0, 1), β_T = 1 being allowed.
        zero_terminal_snr: shift and stretch α so that the last level is pure noise, α = 0. Needs a predictor that is
            defined there (v or velocity; ε-prediction is not). Default False.

    Raises:
        ValueError: fewer than two betas (three where the last level is pure noise), or betas outside (0, 1).

    Example:

    >>> schedule = kd.schedulers.DiscreteNoiseSchedule([0.1, 0.2, 0.5])
    >>> schedule.levels([1 / 3, 2 / 3, 1]).alpha.round(3)
    array([0.949, 0.849, 0.6  ])

    Reference:
        Ho et al. 2020, arXiv:2006.11239; zero terminal SNR: Lin et al. 2023, arXiv:2305.08891, algorithm 1.
    """

    spacing = "trailing"

    def __init__(self, betas, zero_terminal_snr=False, **kwargs):
        super().__init__(**kwargs)
        betas = _numbers(betas)
        if betas.ndim != 1 or len(betas) < 2 or not np.all((betas > 0) & (betas <= 1)) or np.any(betas[:-1] == 1):
            raise ValueError(
                "A discrete schedule needs at least two betas in (0, 1), only the last of which may be 1. "
                f"Received: {betas.size} betas from {betas.min(initial=np.inf):.4g} to {betas.max(initial=-np.inf):.4g}"
            )
        self.zero_terminal_snr = check_flag("zero_terminal_snr", zero_terminal_snr)
        self.timesteps = len(betas)
        alpha = np.sqrt(np.cumprod(1.0 - betas))
        if zero_terminal_snr:
            alpha = alpha[0] * (alpha - alpha[-1]) / (alpha[0] - alpha[-1])
        self.alphas = alpha
        self.alphas_cumprod = alpha**2
        self.betas = 1.0 - self.alphas_cumprod / np.concatenate([[1.0], self.alphas_cumprod[:-1]])
        with np.errstate(divide="ignore"):
            # log(σ/α), rising; +∞ at the end of a zero-terminal-SNR table.
            self._table = 0.5 * np.log1p(-self.alphas_cumprod) - np.log(alpha)
        self._ends_in_noise = bool(alpha[-1] == 0)
        if self._ends_in_noise and len(betas) < 3:
            raise ValueError(
                f"A table that ends in pure noise needs at least three levels. Received: {len(betas)} betas"
            )

    def timestep(self, t):
        """The timestep of a time: i = t·T − 1, fractional between two of them.

        Args:
            t: times in [0, 1], a tensor or an array of any shape `(...,)`.

        Returns:
            timesteps from −1 (clean) to T − 1, shaped like `t`.
        """
        return t * self.timesteps - 1.0

    def alpha_sigma(self, t, xp):
        index = self.timestep(t)
        left = xp.clip(xp.floor(index), 0, self._last_pair)
        part = xp.clip(index - left, 0.0, 1.0)
        low, high = self._at(left, xp), self._at(left + 1, xp)
        # Below the first level `part` is 0 and the second factor takes σ/α to 0.
        ratio = xp.exp(low + part * (high - low)) * xp.clip(index + 1.0, 0.0, 1.0)
        alpha = 1.0 / xp.sqrt(1.0 + ratio**2)
        sigma = ratio * alpha
        if self._ends_in_noise:  # log(σ/α) is infinite at the last level: there α goes linearly to 0.
            rest = self.alphas[-2] * xp.clip(self.timesteps - 1.0 - index, 0.0, 1.0)
            last = index > self.timesteps - 2
            alpha, sigma = xp.where(last, rest, alpha), xp.where(last, xp.sqrt(1.0 - rest**2), sigma)
        return alpha, sigma

    def time_at(self, log_snr, xp):
        half = -0.5 * log_snr
        table = self._table[:-1] if self._ends_in_noise else self._table
        left = xp.clip(xp.searchsorted(self._constant(table, xp), half, side="right") - 1, 0, self._last_pair)
        low, high = self._at(left, xp), self._at(left + 1, xp)
        index = xp.cast(left, low.dtype) if xp is ops else left
        index = index + xp.clip((half - low) / (high - low), 0.0, 1.0)
        index = index + xp.clip(xp.exp(half - self._table[0]), 0.0, 1.0) - 1.0
        if self._ends_in_noise:
            alpha = 1.0 / xp.sqrt(1.0 + xp.exp(2.0 * half))
            beyond = self.timesteps - 1.0 - alpha / self.alphas[-2]
            index = xp.where(half > self._table[-2], beyond, index)
        return (index + 1.0) / self.timesteps

    @property
    def _last_pair(self):
        # Left index of the last pair of levels between which log(σ/α) can be interpolated.
        return self.timesteps - (3 if self._ends_in_noise else 2)

    def _constant(self, value, xp):
        return value if xp is np else ops.convert_to_tensor(value, dtype=self.compute_dtype)

    def _at(self, index, xp):
        return xp.take(self._constant(self._table, xp), index.astype("int64") if xp is np else ops.cast(index, "int32"))

    def get_config(self):
        config = super().get_config()
        if "betas" in config:  # they are the rescaled ones
            config["zero_terminal_snr"] = False
        return config


def betas_from_alpha_bar(alpha_bar, timesteps, max_beta=0.999):
    """Betas whose cumulative product follows ᾱ(u) on u = 0, 1/T, …, 1:  β_i = min(1 − ᾱ((i + 1)/T)/ᾱ(i/T), max_beta).

    Args:
        alpha_bar: function from a float64 array `(T + 1,)` in [0, 1] to ᾱ.
        timesteps: T.
        max_beta: cap that keeps the last steps finite, in (0, 1].

    Returns:
        float64 array `(T,)`.
    """
    table = alpha_bar(np.linspace(0.0, 1.0, timesteps + 1))
    return np.clip(1.0 - table[1:] / table[:-1], 0.0, max_beta)


def check_timesteps(timesteps):
    """`timesteps` as an int ≥ 2."""
    rule = "`timesteps` counts noise levels and must be an integer of at least 2"
    count = int(check_whole("timesteps", int(timesteps) if _is_whole(timesteps) else timesteps, 2, rule=rule))
    return limits.check(count, "timesteps", "The number of timesteps of a noise schedule")


def _is_whole(value):
    """Whether a float is a whole number, as JSON and TOML files of older writers have it."""
    return isinstance(value, float) and value.is_integer()


def _numbers(betas):
    try:
        return np.asarray(betas, "float64")
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"`betas` is a sequence of numbers in (0, 1). Received: betas={shown(betas)}") from error
