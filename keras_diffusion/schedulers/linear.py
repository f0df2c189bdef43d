"""Betas on a straight line: DDPM's schedule, and Stable Diffusion's, whose square roots are on a line."""

import numpy as np

from keras_diffusion.configs.checks import check_numbers
from keras_diffusion.schedulers.discrete import DiscreteNoiseSchedule, check_timesteps
from keras_diffusion.schedulers.noise_schedule import SCHEDULES


class _BetaRangeNoiseSchedule(DiscreteNoiseSchedule):
    """A table between two betas, which are meant for 1000 steps and scaled by 1000/T so that α_T does not
    depend on T.
    """

    fixed_arguments = ("betas",)

    @staticmethod
    def table(start, end, timesteps):
        """The betas.

        Args:
            start, end: the first and the last beta, in (0, 1), scaled already.
            timesteps: T.

        Returns:
            float64 array (T,).
        """
        raise NotImplementedError("a schedule of betas must implement table(start, end, timesteps)")

    def __init__(self, timesteps=1000, beta_start=1e-4, beta_end=0.02, zero_terminal_snr=False, **kwargs):
        timesteps = check_timesteps(timesteps)
        check_numbers(beta_start=beta_start, beta_end=beta_end)
        scale = 1000.0 / timesteps
        if not 0 < beta_start * scale < 1 or not 0 < beta_end * scale < 1:
            raise ValueError(
                f"A beta is the share of variance replaced in one step and must lie in (0, 1); with {timesteps} steps "
                "the betas are "
                f"scaled by 1000/{timesteps}. Received: beta_start={beta_start} and beta_end={beta_end}, which become "
                f"{beta_start * scale:.4g} and {beta_end * scale:.4g}. Take more timesteps or smaller betas."
            )
        super().__init__(self.table(scale * beta_start, scale * beta_end, timesteps), zero_terminal_snr, **kwargs)


@SCHEDULES.register("linear")
class LinearNoiseSchedule(_BetaRangeNoiseSchedule):
    """DDPM's betas, evenly from `beta_start` to `beta_end`.

    Args:
        timesteps: T ≥ 2. Default 1000.
        beta_start: first beta for T = 1000. Default 1e-4.
        beta_end: last beta for T = 1000. Default 0.02.
        zero_terminal_snr: see `DiscreteNoiseSchedule`.

    Raises:
        ValueError: fewer than two timesteps, or a beta that, multiplied by 1000/T, is outside (0, 1).

    Example:

    >>> schedule = kd.schedulers.LinearNoiseSchedule(timesteps=1000)
    >>> schedule.betas[[0, 999]].round(4)
    array([0.0001, 0.02  ])

    Reference:
        Ho et al. 2020, arXiv:2006.11239, section 4.
    """

    @staticmethod
    def table(start, end, timesteps):
        return np.linspace(start, end, timesteps)


@SCHEDULES.register("scaled_linear")
class ScaledLinearNoiseSchedule(_BetaRangeNoiseSchedule):
    """Stable Diffusion's betas: √β evenly from √`beta_start` to √`beta_end`.

    Args:
        timesteps: T ≥ 2. Default 1000.
        beta_start: first beta for T = 1000. Default 0.00085.
        beta_end: last beta for T = 1000. Default 0.012.
        zero_terminal_snr: see `DiscreteNoiseSchedule`.

    Example:

    >>> schedule = kd.schedulers.get("scaled_linear", zero_terminal_snr=True)
    >>> schedule.levels([0.001, 0.5, 1.0]).alpha.round(3)
    array([1.   , 0.492, 0.   ])

    Reference:
        Rombach et al. 2022, arXiv:2112.10752.
    """

    def __init__(self, timesteps=1000, beta_start=0.00085, beta_end=0.012, zero_terminal_snr=False, **kwargs):
        super().__init__(timesteps, beta_start, beta_end, zero_terminal_snr, **kwargs)

    @staticmethod
    def table(start, end, timesteps):
        return np.linspace(np.sqrt(start), np.sqrt(end), timesteps) ** 2


@SCHEDULES.register("sigmoid_beta")
class SigmoidBetaNoiseSchedule(_BetaRangeNoiseSchedule):
    """Betas along the logistic curve over [−6, 6], from `beta_start` to `beta_end`.

    Args:
        timesteps: T ≥ 2. Default 1000.
        beta_start: lower limit of the betas for T = 1000. Default 1e-4.
        beta_end: upper limit of the betas for T = 1000. Default 0.02.
        zero_terminal_snr: see `DiscreteNoiseSchedule`.

    Example:

    >>> kd.schedulers.get("sigmoid_beta").betas[[0, 500, 999]].round(4)
    array([0.0001, 0.0101, 0.02  ])

    Reference:
        Xu et al. 2022 (GeoDiff), arXiv:2203.02923.
    """

    @staticmethod
    def table(start, end, timesteps):
        return start + (end - start) / (1.0 + np.exp(-np.linspace(-6.0, 6.0, timesteps)))
