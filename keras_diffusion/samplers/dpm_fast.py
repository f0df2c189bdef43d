"""DPM-Solver-fast: as many third-order steps as a number of evaluations allows, even in log-SNR.

    n evaluations:  3, 3, … 3, 2, 1   (n = 3m)      3, 3, … 3, 1   (n = 3m + 1)      3, 3, … 3, 2   (n = 3m + 2)

are the orders of the steps, whose ends are even in log(σ/α); stages lie at thirds of a third-order step and in the
middle of a second-order one. Of a grid only the first level, the last noisy one and the number of levels count. It is
the single-step DPM-Solver, in ε, on levels of its own.

With η > 0 a step and its stages go down to less noise than wanted, and the rest is added anew:

    σ̂_up = η·σ̂_s·√(1 − (σ̂_s/σ̂_t)²),   σ̂_down = √(σ̂_s² − σ̂_up²), not below the last level,      σ̂ = σ/α
"""

import numpy as np

from keras_diffusion.configs.checks import check_number
from keras_diffusion.samplers.between import level_at_ratio
from keras_diffusion.samplers.dpm_singlestep import SingleStepSampler, combinations
from keras_diffusion.samplers.sampler import SAMPLERS


@SAMPLERS.register("dpm_fast")
class DPMFastSampler(SingleStepSampler):
    """DPM-Solver-fast: n evaluations on a grid of n + 1 levels, that of a closing step included.

    One row and one evaluation for each level of the grid, but at levels of its own: x after a row is at a level of the
    grid only at the end. A first level that is pure noise has no log-SNR to space evenly: from it one evaluation leads
    to the second level of the grid. Of third order but for the last steps, which hold the measured order to 2.

    Args:
        eta: η in [0, 1], the share of ancestral noise, drawn in the last row of every step; 0 (default) is the ODE.
        s_noise: factor on the noise. Default 1.

    Raises:
        ValueError: `eta` outside [0, 1].

    Example:

    >>> sampler = kd.samplers.DPMFastSampler()
    >>> samples = sampler.sample(x, denoise, levels, schedule=schedule, seed=0)

    Reference:
        Lu et al. 2022, arXiv:2206.00927, algorithm 2 and DPM-Solver-fast; ancestral form: k-diffusion's
        `sample_dpm_fast`.
    """

    table_options = ("eta", "s_noise")
    noise = "independent"

    def __init__(self, eta=0.0, s_noise=1.0, **kwargs):
        super().__init__(**kwargs)
        eta = check_number("eta", eta, 0, 1, rule="`eta` is the share of ancestral noise and must lie in [0, 1]")
        self.eta, self.s_noise = eta, check_number("s_noise", s_noise, 0)
        self.noises_per_step = 1 if eta else 0

    def stages(self, levels):
        half, clean = 0.5 * levels.log_snr, int(levels.sigma[-1] == 0)
        noisy = half[: len(half) - clean]
        pure = int(np.isinf(noisy[0]) and len(noisy) > 1)
        sizes = step_sizes(len(noisy) - 1 - pure)
        ends = np.linspace(noisy[pure], noisy[-1], len(sizes) + 1) if sizes else noisy[pure:]
        ends = np.concatenate([noisy[:pure], ends, half[len(noisy) :]])
        sizes = [1] * pure + sizes + [1] * clean
        at, downs = [], []
        for start, end, size in zip(ends[:-1], ends[1:], sizes, strict=True):
            down = min(self._down(start, end), max(end, noisy[-1]))
            stages = [start, *(start + j / size * (down - start) for j in range(1, size))]
            at.extend(stages)
            downs.extend([*stages[1:], down])
        orders = np.concatenate([np.arange(1, size + 1) for size in sizes])
        return orders, np.append(at, ends[-1]), np.array(downs)

    def _down(self, start, end):
        """λ that the ODE's part of a step leads to."""
        if not self.eta or np.isinf(end - start):
            return end
        return end - 0.5 * np.log1p(self.eta**2 * np.expm1(2.0 * (start - end)))

    def plan(self, levels, schedule=None):
        orders, half, downs = self.stages(levels)
        ratio, down = np.exp(-half), np.exp(-downs)
        n, pure, clean = len(orders), levels.alpha[0] == 0, levels.sigma[-1] == 0
        rows = np.arange(n)
        level = level_at_ratio(ratio[:-1], levels, schedule, unchanged=(rows <= pure) | (clean & (rows == n - 1)))
        alpha = np.append(level.alpha[1:], levels.alpha[-1])
        last = np.append(orders[1:] == 1, True)  # rows that end a step
        # The second stage of a third-order step is of second order as well, but in another form than a second-order
        # step.
        forms = np.where((orders == 2) & ~last, "heun", "midpoint")
        x0, eps = combinations(self.order, orders, forms, half, downs, (alpha, alpha * down), "dpm")
        fresh = np.sqrt(np.maximum(ratio[1:] ** 2 - down**2, 0.0)) * last
        return {"level": level, "x0": x0, "eps": eps, "noise": self.s_noise * alpha * fresh}


def step_sizes(evaluations):
    """Evaluations of every step, which are also their orders: a list of 3s and what remains."""
    threes, rest = divmod(evaluations, 3)
    if evaluations and rest == 0:
        return [3] * (threes - 1) + [2, 1]
    return [3] * threes + [rest] * (rest > 0)
