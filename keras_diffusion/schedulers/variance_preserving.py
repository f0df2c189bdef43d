"""The variance-preserving SDE: DDPM's linear betas in the limit of infinitely many steps.

dx = −½β(t)·x dt + √β(t) dw,   β(t) = β_min + t·(β_max − β_min)     ⇒    log α = −t²·(β_max − β_min)/4 − t·β_min/2
"""

from keras_diffusion.configs.checks import check_numbers
from keras_diffusion.schedulers.noise_schedule import SCHEDULES, NoiseSchedule


@SCHEDULES.register("variance_preserving", "vp")
class VariancePreservingNoiseSchedule(NoiseSchedule):
    """log α = −t²·(β_max − β_min)/4 − t·β_min/2, σ² = 1 − α².

    Args:
        beta_min: β at t = 0, ≥ 0. Default 0.1.
        beta_max: β at t = 1, > `beta_min`. Default 20.

    Raises:
        ValueError: rates that are not 0 ≤ beta_min < beta_max.

    Example:

    >>> kd.schedulers.get("variance_preserving").log_snr([0.25, 0.5, 0.75]).round(2)
    array([ 0.09, -2.46, -5.67])

    Reference:
        Song et al. 2021, arXiv:2011.13456, appendix C.
    """

    def __init__(self, beta_min=0.1, beta_max=20.0, **kwargs):
        super().__init__(**kwargs)
        check_numbers(beta_min=beta_min, beta_max=beta_max)
        if not 0 <= beta_min < beta_max:
            raise ValueError(
                f"The rates must grow: 0 <= beta_min < beta_max. Received: beta_min={beta_min}, beta_max={beta_max}"
            )

    def alpha_sigma(self, t, xp):
        log_alpha = -0.25 * t**2 * (self.beta_max - self.beta_min) - 0.5 * t * self.beta_min
        return xp.exp(log_alpha), xp.sqrt(-xp.expm1(2.0 * log_alpha))

    def time_at(self, log_snr, xp):
        # −log α = ½·log(1 + e^−λ); then the positive root of a quadratic, in the form that does not cancel.
        minus_log_alpha = 0.5 * xp.logaddexp(-log_snr, xp.zeros_like(log_snr))
        half = 0.5 * self.beta_min
        return 2.0 * minus_log_alpha / (half + xp.sqrt(half**2 + (self.beta_max - self.beta_min) * minus_log_alpha))
