"""Time distributions: which t training draws.

A distribution is its quantile function: u ∈ (0, 1) in, t out. The caller hands in u, so it may spread the u of a batch
evenly (every batch then sees every noise level) or fix them for validation.
"""

from keras import ops

from keras_diffusion.configs.arguments import ArgumentsMixin
from keras_diffusion.configs.checks import check_number, check_whole
from keras_diffusion.configs.registry import Registry

TIME_DISTRIBUTIONS = Registry("time distribution")


@TIME_DISTRIBUTIONS.base
class TimeDistribution(ArgumentsMixin):
    """Base class: `quantile(u, schedule) -> t`."""

    def quantile(self, u, schedule):
        """Times for uniform numbers.

        Args:
            u: tensor of any shape, in (0, 1).
            schedule: the `NoiseSchedule` that is trained.

        Returns:
            t, shaped like `u`.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement quantile(u, schedule)")


@TIME_DISTRIBUTIONS.register("uniform")
class UniformTime(TimeDistribution):
    """Even over what the schedule has: the timesteps of a discrete schedule, all t of a continuous one.

    Example:

    >>> schedule = kd.schedulers.get("linear")
    >>> distribution = kd.training.UniformTime()
    >>> u = kd.keras.ops.convert_to_tensor([0.1, 0.5, 0.9])
    >>> [round(float(t), 3) for t in distribution.quantile(u, schedule)]
    [0.101, 0.501, 0.901]

    Reference:
        Ho et al. 2020, arXiv:2006.11239, algorithm 1.
    """

    def quantile(self, u, schedule):
        return u if schedule.timesteps is None else _whole_timesteps(u, schedule.timesteps)


@TIME_DISTRIBUTIONS.register("discrete")
class DiscreteTime(TimeDistribution):
    """Even over the T times 1/T, 2/T, …, 1 of any schedule, as a discretely trained network saw them.

    Args:
        timesteps: T ≥ 1. Default 1000.

    Example:

    >>> schedule = kd.schedulers.get("cosine")
    >>> distribution = kd.training.DiscreteTime(timesteps=10)
    >>> u = kd.keras.ops.convert_to_tensor([0.1, 0.5, 0.9])
    >>> [round(float(t), 3) for t in distribution.quantile(u, schedule)]
    [0.2, 0.6, 1.0]

    Reference:
        Ho et al. 2020, arXiv:2006.11239, algorithm 1.
    """

    def __init__(self, timesteps=1000):
        rule = "`timesteps` counts noise levels and must be at least 1"
        self.timesteps = check_whole("timesteps", timesteps, 1, rule=rule)

    def quantile(self, u, schedule):
        return _whole_timesteps(u, self.timesteps)


@TIME_DISTRIBUTIONS.register("log_normal_sigma", "log_normal", "edm", "LogNormalSigma")
class LogNormalSigma(TimeDistribution):
    """log(σ/α) ~ N(mean, std²): EDM's training levels, most of them where the loss can still fall.

    Args:
        mean: of log(σ/α). Default −1.2.
        std: of log(σ/α), > 0. Default 1.2.

    Example:

    >>> schedule = kd.schedulers.get("variance_exploding")
    >>> distribution = kd.training.LogNormalSigma(mean=-1.2, std=1.2)
    >>> u = kd.keras.ops.convert_to_tensor([0.1, 0.5, 0.9])
    >>> [round(float(t), 3) for t in distribution.quantile(u, schedule)]
    [0.328, 0.473, 0.618]

    Reference:
        Karras et al. 2022, arXiv:2206.00364, table 1 (P_mean, P_std).
    """

    def __init__(self, mean=-1.2, std=1.2):
        self.mean = check_number("mean", mean)
        self.std = check_number("std", std, above=0, rule="`std` is a standard deviation and must be positive")

    def quantile(self, u, schedule):
        return schedule.time(-2.0 * (self.mean + self.std * _normal_quantile(u)))


@TIME_DISTRIBUTIONS.register("logit_normal")
class LogitNormalTime(TimeDistribution):
    """logit(t) ~ N(mean, std²): the middle of the flow is drawn more often than its ends.

    Args:
        mean: of logit(t); positive leans towards noise. Default 0.
        std: of logit(t), > 0. Default 1.

    Example:

    >>> schedule = kd.schedulers.get("flow")
    >>> distribution = kd.training.LogitNormalTime(std=1.0)
    >>> u = kd.keras.ops.convert_to_tensor([0.1, 0.5, 0.9])
    >>> [round(float(t), 3) for t in distribution.quantile(u, schedule)]
    [0.217, 0.5, 0.783]

    Reference:
        Esser et al. 2024 (Stable Diffusion 3), arXiv:2403.03206, section 3.1.
    """

    def __init__(self, mean=0.0, std=1.0):
        self.mean = check_number("mean", mean)
        self.std = check_number("std", std, above=0, rule="`std` is a standard deviation and must be positive")

    def quantile(self, u, schedule):
        return ops.sigmoid(self.mean + self.std * _normal_quantile(u))


def _whole_timesteps(u, timesteps):
    return (ops.clip(ops.floor(u * timesteps), 0, timesteps - 1) + 1.0) / timesteps


def _normal_quantile(u):
    return 2.0**0.5 * ops.erfinv(2.0 * u - 1.0)
