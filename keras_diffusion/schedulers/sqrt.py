"""The square-root schedule: the noise variance grows evenly, σ² = t."""

from keras_diffusion.schedulers.noise_schedule import SCHEDULES, NoiseSchedule


@SCHEDULES.register("sqrt", "SqrtContinuousNoiseScheduler")
class SqrtNoiseSchedule(NoiseSchedule):
    """α = √(1 − t), σ = √t.

    Spends most of its time at high noise compared with the cosine; the same name is used for FlaxDiff's schedule.

    Example:

    >>> kd.schedulers.get("sqrt").levels([0.0, 0.25, 1.0]).sigma
    array([0. , 0.5, 1. ])

    Reference:
        FlaxDiff's `SqrtContinuousNoiseScheduler`.
    """

    def alpha_sigma(self, t, xp):
        return xp.sqrt(1.0 - t), xp.sqrt(t)

    def time_at(self, log_snr, xp):
        return 1.0 / (1.0 + xp.exp(log_snr))
