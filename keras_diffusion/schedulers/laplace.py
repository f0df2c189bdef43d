"""The Laplace schedule: the log-SNR of a uniform t is Laplace-distributed, most of it in the middle noise levels."""

from keras_diffusion.configs.checks import check_number
from keras_diffusion.schedulers.noise_schedule import SCHEDULES, NoiseSchedule


@SCHEDULES.register("laplace")
class LaplaceNoiseSchedule(NoiseSchedule):
    """λ = μ − b·sign(½ − t)·log(1 − 2·|t − ½|), variance preserving.

    Args:
        mu: log-SNR at t = ½. Default 0.
        b: width > 0; small values crowd the times around `mu`. Default 0.5.

    Example:

    >>> kd.schedulers.LaplaceNoiseSchedule(mu=1.0).log_snr([0.25, 0.5, 0.75]).round(2)
    array([1.35, 1.  , 0.65])

    Reference:
        Hang et al. 2024, "Improved noise schedule for diffusion training", arXiv:2407.03297, table 1.
    """

    def __init__(self, mu=0.0, b=0.5, **kwargs):
        super().__init__(**kwargs)
        self.mu = check_number("mu", mu)
        self.b = check_number("b", b, above=0, rule="`b` is the width of a distribution and must be positive")

    def alpha_sigma(self, t, xp):
        # SNR = e^μ·(2t)^−b for t < ½ and e^μ·(2 − 2t)^b beyond: one ratio serves both, and 0 at an end stays 0.
        clean = xp.minimum(2.0 - 2.0 * t, 0 * t + 1.0) ** self.b
        noisy = xp.minimum(2.0 * t, 0 * t + 1.0) ** self.b * xp.exp(0 * t - self.mu)
        return xp.sqrt(clean / (clean + noisy)), xp.sqrt(noisy / (clean + noisy))

    def time_at(self, log_snr, xp):
        distance = xp.abs(log_snr - self.mu)
        tail = 0.5 * xp.exp(-distance / self.b)
        return xp.where(log_snr > self.mu, tail, 1.0 - tail)
