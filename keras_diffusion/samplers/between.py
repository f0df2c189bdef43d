"""Levels between the levels of a grid, for methods that evaluate inside a step."""

import numpy as np

from keras_diffusion.core.levels import Levels


def level_at_ratio(ratio, levels, schedule=None, unchanged=None):
    """Levels with given σ/α, on the curve that a grid lies on.

    Args:
        ratio: wanted σ/α, one per step: array (n,).
        levels: `Levels` of the grid, n + 1 entries.
        schedule: the `NoiseSchedule` of the grid, or None.
        unchanged: bool array (n,): steps whose level is the grid's own, to be taken over as it is.

    Returns:
        `Levels` of (n,) arrays, on the scale of the grid: levels at α = 1 stay there, whatever the schedule. Beyond a
        schedule's last level (churn at t = 1) σ/α is kept and t is 1.

    Raises:
        ValueError: the grid is neither variance preserving nor exploding nor a flow, and there is no schedule that it
            lies on.
    """
    start = levels.map(lambda v: v[:-1])
    if unchanged is not None and np.all(unchanged):
        return start
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.clip(_times(ratio, levels, schedule), 0.0, 1.0)
        alpha = _scale(ratio, t, levels, schedule)
        level = Levels(t, alpha, alpha * ratio)
    return (
        level
        if unchanged is None
        else Levels(*(np.where(unchanged, old, new) for old, new in zip(start, level, strict=True)))
    )


def _times(ratio, levels, schedule):
    log_snr = -2.0 * np.log(ratio)
    if schedule is not None:
        return schedule.time(log_snr)
    # Without a schedule t is only a label: read it off the grid, between the levels of finite log-SNR.
    finite = np.isfinite(levels.log_snr)
    return np.interp(log_snr, levels.log_snr[finite], levels.t[finite])


def _scale(ratio, t, levels, schedule):
    """α at σ/α = ratio, on the scale of the grid: the schedule's, where the grid lies on it."""
    known = _known_scale(levels)
    if schedule is None or not _lies_on(levels, schedule):
        if known is None:
            raise ValueError(_off_curve(levels, schedule))
        return known(ratio)
    alpha, sigma = schedule.levels(t)[1:]
    # Beyond the schedule's ends (churn at t = 1, a clean level behind the last noise) t is clipped, and only σ/α is as
    # wanted.
    reached = np.abs(sigma - alpha * ratio) <= 1e-6 * sigma
    return alpha if known is None else np.where(reached, alpha, known(ratio))


def _lies_on(levels, schedule):
    """Whether the grid has the schedule's α wherever the schedule has the grid's σ/α."""
    inside = np.isfinite(levels.log_snr)
    t = np.clip(schedule.time(levels.log_snr[inside]), 0.0, 1.0)
    _, alpha, sigma = schedule.levels(t)
    own_alpha, own_sigma = levels.alpha[inside], levels.sigma[inside]
    reached = np.abs(sigma * own_alpha - alpha * own_sigma) <= 1e-6 * sigma * own_alpha
    return np.allclose(alpha[reached], own_alpha[reached], rtol=1e-5, atol=1e-9)


def _known_scale(levels):
    """The function σ/α → α of the curves that need no schedule, or None where the grid lies on none of them."""
    alpha, sigma = levels.alpha, levels.sigma
    for norm, scale in (
        (alpha, lambda r: np.ones_like(r)),
        (np.hypot(alpha, sigma), lambda r: 1.0 / np.sqrt(1.0 + r**2)),
        (alpha + sigma, lambda r: 1.0 / (1.0 + r)),
    ):
        if np.allclose(norm, 1.0, rtol=0, atol=1e-6):
            return scale
    return None


def _off_curve(levels, schedule):
    remedy = "Pass the schedule that they were made with: sample(..., schedule=schedule)."
    if schedule is not None:
        remedy = (
            f"They do not lie on the schedule {type(schedule).__name__} either: take its own levels, "
            "schedule.levels(t)."
        )
    return (
        "This sampler evaluates between the levels and has to know the curve they lie on: they satisfy neither α = 1, "
        "α² + σ² = 1 nor "
        f"α + σ = 1. {remedy} Received: alpha={levels.alpha}, sigma={levels.sigma}"
    )
