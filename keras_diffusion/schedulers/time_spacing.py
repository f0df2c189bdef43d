"""Spacings: which times a sampler visits.

A spacing turns a schedule and a number of steps n into n + 1 falling times, from `start` (where the sampler begins) to
`end`. Each of the first n is a level at which the network is evaluated once per step (solvers with inner stages add
evaluations between them); the last is where the sample arrives. Here are those that are even, or nearly, in t; on a
discrete schedule they give whole timesteps. Those in σ/α are in `sigma_spacing.py`.
"""

import numpy as np

from keras_diffusion.configs.arguments import ArgumentsMixin
from keras_diffusion.configs.checks import check_number, check_whole
from keras_diffusion.configs.registry import Registry
from keras_diffusion.runtime import limits

SPACINGS = Registry("spacing")


@SPACINGS.base
class Spacing(ArgumentsMixin):
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

    Attributes:
        visits_end: whether a network is also evaluated at `end`, before x ← x0, where the schedule's curve ends with
            some noise left.
    """

    visits_end = True

    def __call__(self, schedule, num_steps, start=1.0, end=0.0):
        check_steps(num_steps)
        start, end = check_number("start", start), check_number("end", end)
        if not 0 <= end < start <= 1:
            raise ValueError(
                f"A sampler walks from `start` down to `end`, both in [0, 1]. Received: start={start}, end={end}"
            )
        times = np.asarray(self.times(schedule, int(num_steps), float(start), float(end)), "float64")
        if not np.all(np.diff(times) < 0):
            room = (
                f" The schedule has {schedule.timesteps} timesteps, {round((start - end) * schedule.timesteps)} of "
                "them in this range."
                if schedule.timesteps
                else ""
            )
            raise ValueError(
                f"{num_steps} steps do not fit between t = {start:g} and t = {end:g}: times would repeat.{room} Take "
                "fewer steps."
            )
        return times

    def levels(self, schedule, num_steps, start=1.0, end=0.0):
        """The grid itself: the schedule's levels at the times of this spacing.

        Args:
            schedule: a `NoiseSchedule`.
            num_steps: number of steps n ≥ 1.
            start: first time, in (0, 1]. Default 1.
            end: last time, in [0, start). Default 0.

        Returns:
            `Levels` of n + 1, float64 arrays on the host. Where the network receives another time than that of the
            level, `t` is the one it receives.

        Raises:
            ValueError: as when the spacing is called.
        """
        return schedule.levels(self(schedule, num_steps, start, end))

    def times(self, schedule, num_steps, start, end):
        """The formula of the spacing, for arguments that are checked already.

        Args:
            schedule, num_steps, start, end: as when the spacing is called.

        Returns:
            float64 array (n + 1,) of falling times, the last of which is `end`.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement times(schedule, num_steps, start, end)")


@SPACINGS.register("linspace", "linear")
class LinspaceSpacing(Spacing):
    """Even times, both ends included.

    On a discrete schedule: n whole timesteps from the first to the last, then `end`.

    Example:

    >>> kd.schedulers.LinspaceSpacing()(kd.schedulers.get("cosine"), 4)
    array([1.  , 0.75, 0.5 , 0.25, 0.  ])

    Reference:
        Nichol & Dhariwal 2021, arXiv:2102.09672, section 4 (evenly spaced timesteps, rounded).
    """

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

    Example:

    >>> kd.schedulers.LeadingSpacing(offset=1)(kd.schedulers.get("linear"), 4)
    array([0.752, 0.502, 0.252, 0.002, 0.   ])

    Reference:
        Song et al. 2021, arXiv:2010.02502, appendix D.2 (the linear choice); the name: Lin et al. 2023,
        arXiv:2305.08891, table 2.
    """

    def __init__(self, offset=0, timesteps=1000):
        self.offset = check_whole("offset", offset, 0)
        self.timesteps = check_whole("timesteps", timesteps, 1)

    def times(self, schedule, num_steps, start, end):
        steps = schedule.timesteps or self.timesteps
        low, high = end * steps, start * steps
        stride = (high - low) // num_steps
        index = low + np.arange(num_steps)[::-1] * stride + self.offset
        return np.append(np.minimum((index + 1) / steps, start), end)


@SPACINGS.register("trailing")
class TrailingSpacing(Spacing):
    """Even steps counted from the noisy end, which is visited; the step from the last level to `end` is as long as the
    others.

    Example:

    >>> kd.schedulers.TrailingSpacing()(kd.schedulers.get("linear"), 4)
    array([1.  , 0.75, 0.5 , 0.25, 0.  ])

    Reference:
        Lin et al. 2023, "Common diffusion noise schedules and sample steps are flawed", arXiv:2305.08891, section 3.3.
    """

    visits_end = False

    def times(self, schedule, num_steps, start, end):
        times = np.linspace(start, end, num_steps + 1)
        if schedule.timesteps is None:
            return times
        return np.append(np.round(times[:-1] * schedule.timesteps) / schedule.timesteps, end)


@SPACINGS.register("quadratic")
class QuadraticSpacing(Spacing):
    """t = end + (start − end)·u², u even: short steps near the data. Fractional timesteps on a discrete schedule.

    Example:

    >>> kd.schedulers.QuadraticSpacing()(kd.schedulers.get("cosine"), 4)
    array([1.    , 0.5625, 0.25  , 0.0625, 0.    ])

    Reference:
        Song et al. 2021, arXiv:2010.02502, appendix D.2 (the quadratic choice).
    """

    def times(self, schedule, num_steps, start, end):
        return end + (start - end) * np.linspace(1.0, 0.0, num_steps + 1) ** 2


def check_steps(num_steps):
    """`num_steps` as an int; raises unless it is an integer of at least 1, and within the limit `steps`."""
    count = check_whole(
        "num_steps", num_steps, 1, rule="A sampler takes at least one step: `num_steps` must be an integer ≥ 1"
    )
    return limits.check(count, "steps", "The number of steps, `num_steps`,")
