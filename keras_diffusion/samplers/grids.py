"""Grids: the levels that a sampler walks along, checked, and step by step."""

import numpy as np

from keras_diffusion.configs.checks import check_array, shown
from keras_diffusion.core.levels import Levels


def check_levels(levels):
    """`levels` as float64 arrays; raises unless they are a grid that a sampler can walk down."""
    levels = _three(levels)
    t, alpha, sigma = levels
    rule = None
    with np.errstate(invalid="ignore"):  # ∞ − ∞ of two clean levels is not > 0 either
        falls = t.shape == alpha.shape == sigma.shape and np.all(np.diff(levels.log_snr) > 0)
    if not t.shape == alpha.shape == sigma.shape or t.ndim != 1 or len(t) < 2:
        rule = "t, alpha and sigma must be vectors of one length n + 1, n ≥ 1 being the number of steps"
    elif not (np.all(np.isfinite(alpha)) and np.all(np.isfinite(sigma)) and np.all(alpha >= 0) and np.all(sigma >= 0)):
        rule = "alpha and sigma must be finite and not negative"
    elif not falls:
        rule = (
            "the noise must fall strictly from each level to the next (σ/α decreasing), and only the last level "
            "may be clean"
        )
    if rule:
        raise ValueError(f"A sampler walks down a grid of levels: {rule}. Received: alpha={alpha}, sigma={sigma}")
    return levels


def upwards(levels):
    """A grid that falls, or rises, as one that rises from clean to noisy, in float64 arrays; raises unless it does
    either.
    """
    levels = _three(levels)
    falls = levels.log_snr[0] < levels.log_snr[-1]
    return check_levels(levels if falls else levels.map(lambda v: v[::-1])).map(lambda v: v[::-1])


def _three(levels):
    """`levels` as `Levels` of float64 vectors."""
    if not isinstance(levels, (tuple, list)) or len(levels) != 3:
        raise ValueError(
            "`levels` is a `Levels` (t, alpha, sigma), as `schedule.levels(t)` makes it. Received: "
            f"levels={shown(levels)}"
        )
    return Levels(*(np.atleast_1d(check_array("levels", v, "float64", finite=False)) for v in levels))


def pairs(levels):
    """(α, σ) at the start and at the end of every step: four arrays (n,)."""
    return levels.alpha[:-1], levels.sigma[:-1], levels.alpha[1:], levels.sigma[1:]
