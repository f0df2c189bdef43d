"""Methods with one inner stage and ancestral noise: DPM-2, DPM-Solver++(2S), DPM-Solver++ SDE.

A step goes down to less noise than wanted and adds the rest anew,

    σ̂_up = η·σ̂_s·√(1 − (σ̂_s/σ̂_t)²),   σ̂_down = √(σ̂_s² − σ̂_up²),        σ̂ = σ/α

and evaluates a second time between the two, in the middle in log-SNR. From x0, ε at the start and x0′, ε′ there:

    stage                  x_m = α_m·x0 + σ_m·ε                                      the DDIM point
    DPM-2                  x_s = α_s·x0 + α_s·σ̂_down·ε + α_s·(σ̂_down − σ̂_t)·(ε′ − ε)     midpoint rule in σ̂
    DPM-Solver++(2S)       x_s = α_s·x0 + α_s·σ̂_down·ε + α_s·(1 − σ̂_down/σ̂_t)·(x0′ − x0)  midpoint rule in log-SNR

each plus α_s·σ̂_up·z. The SDE method makes its stage ancestral as well. A step from pure noise (α = 0), which has no
middle, is of first order. The step to a clean level is x ← x0.
"""

import numpy as np

from keras_diffusion.configs.checks import check_number
from keras_diffusion.samplers.between import level_at_ratio
from keras_diffusion.samplers.grids import pairs
from keras_diffusion.samplers.sampler import Sampler


class TwoStageSampler(Sampler):
    """Base class: two evaluations per step, ancestral noise.

    Args:
        eta: η in [0, 1], the share of ancestral noise; 0 is the ODE. Default 1.
        s_noise: factor on the noise. Default 1.

    Raises:
        ValueError: `eta` outside [0, 1].
    """

    evaluations_per_step = 2
    noises_per_step = 1
    table_options: tuple[str, ...] = ("eta", "s_noise")
    noisy_stage = False
    r = 0.5  # where the stage lies between the levels, in log-SNR

    def __init__(self, eta=1.0, s_noise=1.0, **kwargs):
        super().__init__(**kwargs)
        eta = check_number("eta", eta, 0, 1, rule="`eta` is the share of ancestral noise and must lie in [0, 1]")
        self.eta, self.s_noise = eta, check_number("s_noise", s_noise, 0)

    def bends(self, start, down):
        """How much the second evaluation changes a step: the factors of x0′ − x0 and ε′ − ε, on the scale of x/α.

        Args:
            start: σ̂_t = σ/α where the steps begin, float64 array (n,).
            down: σ̂_down, to which they lead before noise is added, (n,).

        Returns:
            (factor of x0′ − x0, factor of ε′ − ε), float64 arrays (n,).
        """
        raise NotImplementedError(f"{type(self).__name__} must implement bends(start, down)")

    def plan(self, levels, schedule=None):
        alpha_t, sigma_t, alpha_s, sigma_s = pairs(levels)
        pure, closing = alpha_t == 0, sigma_s == 0
        end = sigma_s / alpha_s
        start = np.divide(
            sigma_t, alpha_t, out=2.0 * end + 1.0, where=~pure
        )  # of a pure level, any number: its bends are 0
        down, up = self._ancestral(np.where(pure, np.inf, start), end)
        # No middle where a step starts at pure noise or ends clean: any level on the grid will do, for nothing of it is
        # used.
        target = np.where(closing, 1.0, end if self.noisy_stage else down)
        middle = np.where(pure | closing, start, start ** (1.0 - self.r) * target**self.r)
        stage = level_at_ratio(middle, levels, schedule, unchanged=pure | closing)
        stage_down, stage_up = self._ancestral(start, middle) if self.noisy_stage else (middle, np.zeros_like(middle))
        on_x0, on_eps = (np.where(pure | closing, 0.0, bend) for bend in self.bends(start, down))
        return {
            "stages": (levels.map(lambda v: v[:-1]), stage),
            "stage_eps": stage.alpha * np.where(pure, 0.0, stage_down) + np.where(pure, stage.sigma, 0.0),
            "stage_noise": self.s_noise * stage.alpha * stage_up,
            "x0": alpha_s,
            "eps": alpha_s * down,
            "bend_x0": alpha_s * on_x0,
            "bend_eps": alpha_s * on_eps,
            "noise": self.s_noise * alpha_s * up,
        }

    def _ancestral(self, start, end):
        up = np.minimum(end, self.eta * end * np.sqrt(np.maximum(1.0 - (end / start) ** 2, 0.0)))
        return np.sqrt(end**2 - up**2), up

    def step(self, denoise, x, row, state, noise):
        start, stage = row["stages"]
        x0, eps = denoise(x, start)
        x_m = stage.alpha * x0 + row["stage_eps"] * eps
        if self.noisy_stage:
            x_m = x_m + row["stage_noise"] * noise(0)
        middle = denoise(x_m, stage)
        x = row["x0"] * x0 + row["eps"] * eps + row["bend_x0"] * (middle.x0 - x0) + row["bend_eps"] * (middle.eps - eps)
        return x + row["noise"] * noise(self.noises_per_step - 1), state
