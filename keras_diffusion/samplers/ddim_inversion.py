"""DDIM inversion: from a sample up to the noise that DDIM would make it of.

DDIM's step from a noisy level s down to t is x_t = α_t·x0 + σ_t·ε, with x0 and ε predicted at (x_s, s). Upwards x_t is
known and x_s is not. The network receives level s all the same, with the best guess of x_s there is, at first x_t
itself. Its output y = a·x0 + b·ε and x_t are two equations for x0 and ε:

    x_s = α_s·x0 + σ_s·ε = ((α_s·b − σ_s·a)·x_t + (α_t·σ_s − α_s·σ_t)·y) / (α_t·b − σ_t·a)

For ε-prediction (a = 0, b = 1) this is the well-known x_s = α_s/α_t·(x_t − σ_t·ε) + σ_s·ε. The first iteration trusts
that y changes little over a step, and so reads it with the lower level's a, b. Further ones evaluate the network at the
x_s found and read v with those of level s: their fixed point undoes DDIM's step to rounding, whatever the network
predicts. (Held v contracts fastest, ε at half the pace, x0 not where the noise is low.)
"""

import numpy as np

from keras_diffusion.configs.checks import check_choice, check_whole
from keras_diffusion.samplers.grids import pairs, upwards
from keras_diffusion.samplers.sampler import SAMPLERS, Sampler

# Rows (a, b) of what is taken to change little; those of `predictors`, which samplers do not import.
_ROWS = {
    "epsilon": lambda alpha, sigma: (np.zeros_like(alpha), np.ones_like(sigma)),
    "x0": lambda alpha, sigma: (np.ones_like(alpha), np.zeros_like(sigma)),
    "v": lambda alpha, sigma: (-sigma / np.hypot(alpha, sigma), alpha / np.hypot(alpha, sigma)),
    "velocity": lambda alpha, sigma: (-np.ones_like(alpha), np.ones_like(sigma)),
}


@SAMPLERS.register("ddim_inversion")
class DDIMInversionSampler(Sampler):
    """DDIM's step solved for the noisier sample: walks from clean to noisy.

    Takes the falling levels that sampling takes, and walks them from the end, or rising ones. `x` is a sample at the
    cleanest level. One evaluation per step and iteration, no draws; order 1. The first guess, x_t at level s, depends
    on the scale of the levels, the fixed point does not.

    Args:
        iterations: evaluations per step ≥ 1. 1 (default) is DDIM inversion as it is usual; with more, DDIM brings the
            sample back more exactly, each iteration by about a digit where steps are short.
        prediction: the output that the first iteration takes over from level s to t, as diffusers does: "epsilon"
            (default), "x0", "v" or "velocity". Where it says nothing (x0 at a clean level, any at pure noise), "v" is
            taken.

    Raises:
        ValueError: less than one iteration, an unknown prediction, or levels that neither fall nor rise.

    Example:

    >>> samples = denoise.sample(4)
    >>> noise = kd.samplers.DDIMInversionSampler(iterations=2).sample(samples, denoise, levels)
    >>> again = kd.samplers.get("ddim").sample(noise, denoise, levels)

    Reference:
        Song et al. 2021, arXiv:2010.02502, section 4.3 and eq. 14; further iterations: Pan et al. 2023,
        arXiv:2309.04907, section 3.
    """

    ascends = True
    table_options = ("prediction",)

    def __init__(self, iterations=1, prediction="epsilon", **kwargs):
        super().__init__(**kwargs)
        rule = "`iterations` counts evaluations per step and must be an integer of at least 1"
        self.iterations = self.evaluations_per_step = check_whole("iterations", iterations, 1, rule=rule)
        self.prediction = check_choice(
            "prediction", prediction, tuple(_ROWS), f"`prediction` must be one of {', '.join(_ROWS)}"
        )

    def check(self, levels):
        return upwards(levels)

    def closes_apart(self, levels):
        return False  # the clean level is where this walk starts

    def plan(self, levels, schedule=None):
        alpha_t, sigma_t, alpha_s, sigma_s = pairs(levels)
        rows = _ROWS[self.prediction], _ROWS["v"]
        (own_t, v_t), (own_s, v_s) = (
            [np.stack(row(*level)) for row in rows] for level in ((alpha_t, sigma_t), (alpha_s, sigma_s))
        )
        silent = (alpha_s == 0) | (alpha_t * own_t[1] == sigma_t * own_t[0])
        # What the output is made of at level s, and what it is read as: in the first iteration, and in the others.
        first, others = (np.where(silent, v_s, own_s), np.where(silent, v_t, own_t)), (v_s, v_s)
        columns = {"x": [], "x0": [], "eps": []}
        for made, (a, b) in (first, others):
            det = alpha_t * b - sigma_t * a
            det = np.where(
                det == 0, np.inf, det
            )  # from clean to pure noise in one step: a sample leaves no trace there
            on_y = (alpha_t * sigma_s - alpha_s * sigma_t) / det
            columns["x"].append((alpha_s * b - sigma_s * a) / det)
            columns["x0"].append(on_y * made[0])
            columns["eps"].append(on_y * made[1])
        return {
            "level": levels.map(lambda v: v[1:]),
            **{key: np.stack(column, axis=1) for key, column in columns.items()},
        }

    def step(self, denoise, x, row, state, noise):
        guess = x
        for k in [0] + [1] * (self.iterations - 1):
            x0, eps = denoise(guess, row["level"])
            guess = row["x"][k] * x + row["x0"][k] * x0 + row["eps"][k] * eps
        return guess, state
