"""The grids that a model walks along, from the names and numbers of a call."""

import numpy as np

from keras_diffusion.core.levels import Levels
from keras_diffusion.schedulers.time_spacing import check_steps


def sampling_levels(schedule, spacing, num_steps, start=1.0):
    """The grid of a generation: `num_steps` levels at which the network is evaluated, then a clean one.

    Args:
        schedule: `NoiseSchedule`.
        spacing: `Spacing`.
        num_steps: n ≥ 1.
        start: first time, in (0, 1].

    Returns:
        host `Levels`, n + 1, the last with σ = 0.
    """
    check_steps(num_steps)
    if schedule.levels(0.0).sigma == 0:
        return spacing.levels(schedule, num_steps, start=start)
    # The curve itself stops at some noise: that, or the spacing's own least noise, is the last level the network sees,
    # and the clean one is put behind it. Trailing spacing has the clean one in its place.
    if not spacing.visits_end:
        t = spacing(schedule, num_steps, start=start)
        return schedule.levels(t[:-1]).with_clean_end()
    least = getattr(spacing, "sigma_min", None)
    end = 0.0 if least is None else float(np.clip(schedule.time(-2.0 * np.log(least)), 0.0, 1.0))
    t = spacing(schedule, num_steps - 1, start=start, end=end) if num_steps > 1 else np.array([start])
    return schedule.levels(t).with_clean_end()


def likelihood_levels(schedule, num_steps, sigma_min):
    """A grid from noise down to σ/α = `sigma_min`, geometric in σ/(α+σ): even in log σ near the data, and finite at
    pure noise.

    Args:
        schedule: `NoiseSchedule`; of a discrete one, the first level is the lowest that there can be.
        num_steps: n ≥ 1.
        sigma_min: σ/α > 0 of the cleanest level.

    Returns:
        host `Levels`, n + 1, falling.
    """
    check_steps(num_steps)
    ends = schedule.levels([1.0, 1.0 / schedule.timesteps if schedule.timesteps else 0.0])
    top, lowest = ends.sigma / (ends.alpha + ends.sigma)
    low = max(lowest, sigma_min / (1.0 + sigma_min)) if sigma_min > 0 else 0.0
    if not 0 < low < top:
        raise ValueError(
            "`sigma_min` is the σ/α of the cleanest level, positive and below the noisiest. Received: "
            f"sigma_min={sigma_min}"
        )
    position = np.geomspace(top, low, num_steps + 1)
    t = np.append(1.0, schedule.time(-2.0 * np.log(position[1:] / (1.0 - position[1:]))))
    return Levels(*schedule.levels(np.clip(t, 0.0, 1.0)))
