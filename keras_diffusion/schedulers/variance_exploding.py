"""The variance-exploding schedule: nothing is scaled down, noise is piled on, α = 1.

EDM's world. Its levels σ are often spaced by `KarrasSpacing(rho=7)` and its training levels drawn by `LogNormalSigma`;
the curve is the same for both.
"""

import math

from keras_diffusion.configs.checks import check_numbers
from keras_diffusion.schedulers.noise_schedule import SCHEDULES, NoiseSchedule


@SCHEDULES.register(
    "variance_exploding", "ve", "KarrasVENoiseScheduler", "EDMNoiseScheduler", "SimpleExpNoiseScheduler"
)
class VarianceExplodingNoiseSchedule(NoiseSchedule):
    """α = 1, σ = σ_min·(σ_max/σ_min)^t.

    Args:
        sigma_min: σ at t = 0, > 0. Default 0.002.
        sigma_max: σ at t = 1, > `sigma_min`. Default 80. Should be much larger than the data, for x_1 is taken as pure
            noise.

    Raises:
        ValueError: limits that are not 0 < sigma_min < sigma_max.

    Example:

    >>> schedule = kd.schedulers.VarianceExplodingNoiseSchedule(sigma_max=50.0)
    >>> schedule.levels([0.0, 0.5, 1.0]).sigma.round(3)
    array([2.00e-03, 3.16e-01, 5.00e+01])

    Reference:
        Song et al. 2021, arXiv:2011.13456; Karras et al. 2022, arXiv:2206.00364, table 1 (the default range).
    """

    spacing = "karras"

    def __init__(self, sigma_min=0.002, sigma_max=80.0, **kwargs):
        super().__init__(**kwargs)
        check_numbers(sigma_min=sigma_min, sigma_max=sigma_max)
        if not 0 < sigma_min < sigma_max:
            raise ValueError(
                f"The noise must grow: 0 < sigma_min < sigma_max. Received: sigma_min={sigma_min}, "
                f"sigma_max={sigma_max}"
            )
        self._log_min, self._log_range = math.log(sigma_min), math.log(sigma_max / sigma_min)

    def alpha_sigma(self, t, xp):
        return xp.ones_like(t), xp.exp(self._log_min + t * self._log_range)

    def time_at(self, log_snr, xp):
        return (-0.5 * log_snr - self._log_min) / self._log_range
