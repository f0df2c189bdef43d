"""PNDM: DDIM's step with an averaged ε.

DDIM is exact where ε does not change; with φ for its step from level t to s, PNDM takes classical averages ε̄ in the
place of ε:

    φ(x_t, ε̄) = α_s·(x_t − σ_t·ε̄)/α_t + σ_s·ε̄ = α_s·x0 + σ_s·ε + α_s·(σ_s/α_s − σ_t/α_t)·(ε̄ − ε)

The first form is the paper's eq. 9, the second does not divide by α where ε̄ = ε. After three steps with the
fourth-order Runge–Kutta average (ε₁ + 2ε₂ + 2ε₃ + ε₄)/6, half way meaning half of a step's time, ε̄ is
Adams–Bashforth's (55ε − 59ε₋₁ + 37ε₋₂ − 9ε₋₃)/24. A step from pure noise (α = 0) is DDIM's. From next to pure noise (α
below 1e-3, say) σ/α falls so far in one step that an average over it means nothing: with few steps the samples diverge.

The first steps take several evaluations, so a row of the table is one evaluation: "begin" is 1 where it is a step's
first one.
"""

import numpy as np
from keras import ops

from keras_diffusion.configs.checks import check_flag
from keras_diffusion.core.levels import Levels
from keras_diffusion.samplers.between import level_at_ratio
from keras_diffusion.samplers.ipndm import transfer
from keras_diffusion.samplers.multistep import ADAMS_BASHFORTH
from keras_diffusion.samplers.sampler import SAMPLERS, Sampler

# One tuple per evaluation ε_j of a starting step: how far it leads (½ or 1) and, of the differences ε_j − ε₁, the
# weight of its own, whether the sum of the earlier ones is used, and the weight with which its own enters that sum.
_RUNGE_KUTTA = ((0.5, 0.0, 0.0, 0.0), (0.5, 1.0, 0.0, 1 / 3), (1, 1.0, 0.0, 1 / 3), (1, 1 / 6, 1.0, 0.0))
_TRAPEZOID = ((1, 0.0, 0.0, 0.0), (1, 0.5, 0.0, 0.0))
_SINGLE = ((1, 0.0, 0.0, 0.0),)


@SAMPLERS.register("pndm")
class PNDMSampler(Sampler):
    """Pseudo numerical method: Runge–Kutta for three steps, then linear multistep.

    One evaluation per step, and nine more for the start, or one more with `skip_prk_steps`. Measured order: 2, and 4
    where the levels are even in σ/α, for which the averages are made. As `lms` it takes the closing step with its own
    coefficients.

    Half way of a starting step is half of its time on the schedule (for a discrete one the timestep in the middle).
    Without a schedule it is the middle in log-SNR.

    Args:
        skip_prk_steps: start with a single step of two evaluations, the trapezoidal rule, and lower orders after it, as
            Stable Diffusion does. Default False.

    Example:

    >>> sampler = kd.samplers.PNDMSampler(skip_prk_steps=True)
    >>> samples = sampler.sample(x, denoise, levels, schedule=schedule, seed=0)

    Reference:
        Liu et al. 2022, arXiv:2202.09778, eq. 9 (φ); diffusers' PNDMScheduler.
    """

    def __init__(self, skip_prk_steps=False, **kwargs):
        super().__init__(**kwargs)
        self.skip_prk_steps = check_flag("skip_prk_steps", skip_prk_steps)

    def plan(self, levels, schedule=None):
        starting = (_TRAPEZOID if self.skip_prk_steps else _RUNGE_KUTTA,) * self._starting_steps(levels)
        middles = _middles(levels, schedule)
        rows = []
        for i, length in enumerate(transfer(levels)):
            here, middle, end = (
                grid.map(lambda v, k=k: v[k]) for grid, k in ((levels, i), (middles, i), (levels, i + 1))
            )
            past = np.zeros(3)
            if i >= len(starting):
                weights = ADAMS_BASHFORTH[min(i, 3)][1:]
                past[: len(weights)] = weights
            to_middle = middle.sigma - middle.alpha * levels.sigma[i] / levels.alpha[i] if length else 0.0
            for j, (distance, own, used, kept) in enumerate(starting[i] if i < len(starting) else _SINGLE):
                goal, gain = (end, length) if distance == 1 else (middle, to_middle)
                rows.append((here, goal, float(j == 0), gain * own, gain * used, kept, gain * past))
                here = goal
        here, goal, begin, own, used, kept, past = zip(*rows, strict=True)
        return {
            "level": Levels(*(np.array(v) for v in zip(*here, strict=True))),
            "begin": np.array(begin),
            "x0": np.array([level.alpha for level in goal]),
            "eps": np.array([level.sigma for level in goal]),
            "own": np.array(own),
            "used": np.array(used),
            "kept": np.array(kept),
            "past": np.array(past),
        }

    def _starting_steps(self, levels):
        """Number of steps with several evaluations; one of them is at the step's end, so a step to a clean level is
        none.
        """
        return min(1 if self.skip_prk_steps else 3, len(levels.t) - 1 - int(levels.sigma[-1] == 0))

    def step_ends(self, levels):
        evaluations = np.ones(len(levels.t) - 1, "int64")
        evaluations[: self._starting_steps(levels)] = 2 if self.skip_prk_steps else 4
        return np.cumsum(evaluations) - 1

    def initial_state(self, x):
        return tuple(ops.zeros_like(x) for _ in range(6))

    def step(self, denoise, x, row, state, noise):
        x0, eps = denoise(x, row["level"])
        first_x0, first_eps, total, *past = state
        begin = row["begin"]
        # A step's first evaluation becomes the reference of the others; the last step's goes into the history.
        past = [begin * newer + (1.0 - begin) * older for newer, older in zip((first_eps, *past), past, strict=False)]
        first_x0 = begin * x0 + (1.0 - begin) * first_x0
        first_eps = begin * eps + (1.0 - begin) * first_eps
        change = eps - first_eps
        x = row["x0"] * first_x0 + row["eps"] * first_eps + row["own"] * change + row["used"] * total
        x = x + sum(row["past"][k] * (past[k] - first_eps) for k in range(3))
        total = (1.0 - begin) * total + row["kept"] * change
        return x, (first_x0, first_eps, total, *past)


def _middles(levels, schedule):
    """The levels half way of every step; of a step from pure noise or to a clean level its start, for there none is
    used.
    """
    log_snr = levels.log_snr
    ends = np.isinf(log_snr[:-1]) | np.isinf(log_snr[1:])
    start = levels.map(lambda v: v[:-1])
    if schedule is not None:
        t = schedule.time(log_snr)
        log_snr_middle = schedule.levels(np.clip(0.5 * (t[:-1] + t[1:]), 0.0, 1.0)).log_snr
    else:
        with np.errstate(invalid="ignore"):
            log_snr_middle = 0.5 * (log_snr[:-1] + log_snr[1:])
    ratio = np.where(ends, start.sigma, np.exp(-0.5 * log_snr_middle))
    return level_at_ratio(ratio, levels, schedule, unchanged=ends)
