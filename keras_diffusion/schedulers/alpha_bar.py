"""Beta tables that follow a curve ᾱ(u): cosine, exponential, Laplace."""

import numpy as np

from keras_diffusion.configs.checks import check_number
from keras_diffusion.schedulers.discrete import DiscreteNoiseSchedule, betas_from_alpha_bar, check_timesteps
from keras_diffusion.schedulers.noise_schedule import SCHEDULES


class _AlphaBarNoiseSchedule(DiscreteNoiseSchedule):
    """A table that follows the curve `alpha_bar`, which a subclass writes as a method."""

    fixed_arguments = ("betas",)

    def alpha_bar(self, u):
        """The curve that the table follows.

        Args:
            u: float64 array (T + 1,) of times in [0, 1].

        Returns:
            ᾱ(u) = α², float64 array (T + 1,).
        """
        raise NotImplementedError(f"{type(self).__name__} must implement alpha_bar(u)")

    def __init__(self, timesteps=1000, max_beta=0.999, zero_terminal_snr=False, **kwargs):
        rule = "`max_beta` caps the betas and must lie in (0, 1]"
        self.max_beta = check_number("max_beta", max_beta, above=0, most=1, rule=rule)
        betas = betas_from_alpha_bar(self.alpha_bar, check_timesteps(timesteps), self.max_beta)
        super().__init__(betas, zero_terminal_snr, **kwargs)


@SCHEDULES.register("cosine_beta", "squaredcos_cap_v2", "CosineNoiseScheduler")
class CosineBetaNoiseSchedule(_AlphaBarNoiseSchedule):
    """Improved DDPM's table: ᾱ(u) = cos²((u + s)/(1 + s)·π/2).

    Args:
        timesteps: T ≥ 2. Default 1000.
        offset: s ≥ 0. Default 0.008.
        max_beta: cap on the betas, in (0, 1]. Default 0.999; with 1 the last level is pure noise (see
            `zero_terminal_snr`).
        zero_terminal_snr: see `DiscreteNoiseSchedule`.

    Example:

    >>> schedule = kd.schedulers.CosineBetaNoiseSchedule(timesteps=100)
    >>> schedule.alphas_cumprod[[0, 49, 99]].round(4)
    array([0.9994, 0.4938, 0.    ])

    Reference:
        Nichol & Dhariwal 2021, arXiv:2102.09672, eq. 17.
    """

    def __init__(self, timesteps=1000, offset=0.008, max_beta=0.999, zero_terminal_snr=False, **kwargs):
        self.offset = check_number("offset", offset, 0)
        super().__init__(timesteps, max_beta, zero_terminal_snr, **kwargs)

    def alpha_bar(self, u):
        return np.cos((u + self.offset) / (1.0 + self.offset) * 0.5 * np.pi) ** 2


@SCHEDULES.register("exp", "exponential")
class ExpNoiseSchedule(_AlphaBarNoiseSchedule):
    """ᾱ(u) = e^(−rate·u): every step keeps the same share of the signal.

    Args:
        timesteps: T ≥ 2. Default 1000.
        rate: decay over the whole schedule, > 0. Default 12, so that ᾱ ends at 6e-6.
        max_beta: cap on the betas, in (0, 1]. Default 0.999.
        zero_terminal_snr: see `DiscreteNoiseSchedule`.

    Example:

    >>> schedule = kd.schedulers.ExpNoiseSchedule(timesteps=100, rate=10.0)
    >>> schedule.betas[[0, 50, 99]].round(4)  # the same share of the signal at every step
    array([0.0952, 0.0952, 0.0952])

    Reference:
        FlaxDiff's `ExpNoiseSchedule`.
    """

    def __init__(self, timesteps=1000, rate=12.0, max_beta=0.999, zero_terminal_snr=False, **kwargs):
        self.rate = check_number("rate", rate, above=0, rule="`rate` is the decay of the signal and must be positive")
        super().__init__(timesteps, max_beta, zero_terminal_snr, **kwargs)

    def alpha_bar(self, u):
        return np.exp(-self.rate * u)


@SCHEDULES.register("laplace_beta")
class LaplaceBetaNoiseSchedule(_AlphaBarNoiseSchedule):
    """diffusers' "laplace" table: ᾱ(u) = √(SNR/(1 + SNR)), log SNR = −½·sign(½ − u)·log(1 − 2·|½ − u| + 1e-6).

    Not the table of `LaplaceNoiseSchedule`: the square root makes ᾱ what that schedule calls α. Kept for networks
    trained with it.

    Args:
        timesteps: T ≥ 2. Default 1000.
        max_beta: cap on the betas, in (0, 1]. Default 0.999.
        zero_terminal_snr: see `DiscreteNoiseSchedule`.

    Example:

    >>> kd.schedulers.get("laplace_beta").levels([0.25, 0.5, 1.0]).sigma.round(3)
    array([0.484, 0.541, 0.984])

    Reference:
        diffusers' `betas_for_alpha_bar` with the "laplace" transform; the curve it goes back to: Hang et al. 2024,
        arXiv:2407.03297.
    """

    def alpha_bar(self, u):
        log_snr = -0.5 * np.copysign(1.0, 0.5 - u) * np.log(1.0 - 2.0 * np.abs(0.5 - u) + 1e-6)
        return 1.0 / np.sqrt(1.0 + np.exp(-log_snr))
