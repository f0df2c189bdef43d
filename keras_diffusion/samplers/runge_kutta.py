"""Runge–Kutta methods on the probability-flow ODE, in coordinates where its straight parts are straight.

    x̂ = x/α,  σ̂ = σ/α:          dx̂/dσ̂ = ε(x, t)                 ("sigma", k-diffusion's and EDM's)
    y = x/(α+σ), s = σ/(α+σ):    dy/ds = ε(x, t) − x0(x, t)       ("flow", finite where α = 0)

A tableau (a, b, c) makes the method. With slopes k_j, step h and Σb = 1, every stage is the DDIM point at its level
plus differences of slopes,

    x_j = α_j·x0 + σ_j·ε + r_j·h·Σ_l a_jl·(k_l − k_1),      r_j = α_j in σ̂, α_j + σ_j in s,

where x0, ε are the first stage's. Nothing is divided by α, and with one stage it is DDIM(0), Euler's method.

EDM's churn adds noise before a step: σ̂ is raised to σ̂·(1 + γ), γ = min(s_churn/n, √2 − 1), for σ̂ in [s_tmin,
s_tmax].
"""

import numpy as np

from keras_diffusion.configs.checks import check_choice, check_number
from keras_diffusion.samplers.between import level_at_ratio
from keras_diffusion.samplers.grids import pairs
from keras_diffusion.samplers.sampler import Sampler


class RungeKuttaSampler(Sampler):
    """Explicit Runge–Kutta method with EDM's churn.

    A subclass gives the tableau: `a` (rows of lower-triangular coefficients), `b` (weights) and `c` (nodes, c[0] = 0).

    Args:
        s_churn: total churn; 0 (default) is deterministic.
        s_tmin, s_tmax: range of σ/α in which noise is added. Default: everywhere.
        s_noise: factor on the added noise. Default 1.
        coordinate: "sigma", "flow", or "auto" (default): "flow" only where the first level has α = 0.

    Raises:
        ValueError: negative churn or an empty range, an unknown coordinate, or the σ coordinate at α = 0 (by `plan`).

    Reference:
        Karras et al. 2022, arXiv:2206.00364, algorithms 1 and 2.
    """

    a: tuple[tuple[float, ...], ...] = ((),)
    b: tuple[float, ...] = (1.0,)
    c: tuple[float, ...] = (0.0,)
    table_options = ("s_churn", "s_tmin", "s_tmax", "s_noise", "coordinate")

    def __init__(self, s_churn=0.0, s_tmin=0.0, s_tmax=float("inf"), s_noise=1.0, coordinate="auto", **kwargs):
        super().__init__(**kwargs)
        self.s_churn, self.s_tmin = check_number("s_churn", s_churn), check_number("s_tmin", s_tmin)
        self.s_tmax = check_number("s_tmax", s_tmax, finite=False)
        if not s_churn >= 0 or not 0 <= s_tmin <= s_tmax:
            raise ValueError(
                f"Churn needs s_churn >= 0 and 0 <= s_tmin <= s_tmax. Received: s_churn={s_churn}, s_tmin={s_tmin}, "
                f"s_tmax={s_tmax}"
            )
        check_choice(
            "coordinate", coordinate, ("auto", "sigma", "flow"), "`coordinate` must be 'auto', 'sigma' or 'flow'"
        )
        self.s_noise = check_number("s_noise", s_noise, 0)
        self.evaluations_per_step = len(self.b)
        self.noises_per_step = 1 if s_churn else 0

    def plan(self, levels, schedule=None):
        alpha_t, sigma_t, alpha_s, sigma_s = pairs(levels)
        pure = alpha_t[0] == 0
        flow = self.coordinate == "flow" or (self.coordinate == "auto" and pure)
        if pure and not flow:
            raise ValueError(
                "The coordinate 'sigma' is x/α, and at the first level α = 0. Take coordinate='flow' or 'auto', or "
                "start at a lower t."
            )
        with np.errstate(divide="ignore"):
            ratio, next_ratio = sigma_t / alpha_t, sigma_s / alpha_s
        churned = (ratio >= self.s_tmin) & (ratio <= self.s_tmax) & np.isfinite(ratio)  # pure noise cannot be raised
        gamma = np.where(churned, min(self.s_churn / len(ratio), 2**0.5 - 1), 0.0)
        first = level_at_ratio(ratio * (1 + gamma), levels, schedule, unchanged=gamma == 0)
        # Start and length of the step on the coordinate's axis; 1 − 1/(1 + r) is r/(1 + r), finite at r = ∞.
        start, end = ratio * (1 + gamma), next_ratio
        if flow:
            start, end = 1.0 - 1.0 / (1.0 + start), 1.0 - 1.0 / (1.0 + end)
        length = end - start
        stages = [first]
        for node in self.c[1:]:
            if node == 1:
                stages.append(levels.map(lambda v: v[1:]))
            else:
                position = self.position(node, start, end, flow)
                stages.append(level_at_ratio(position / (1 - position) if flow else position, levels, schedule))
        ends = [*stages[1:], levels.map(lambda v: v[1:])]
        factors = [(level.alpha + level.sigma if flow else level.alpha) * length for level in ends]
        return {
            "stages": tuple(stages),
            "x0": np.stack([level.alpha for level in ends], axis=1),
            "eps": np.stack([level.sigma for level in ends], axis=1),
            "slope": np.stack(factors, axis=1),
            "flow": np.full(len(ratio), float(flow)),
            "gain": np.divide(first.alpha, alpha_t, out=np.ones_like(alpha_t), where=gamma > 0),
            "added": self.s_noise * first.alpha * np.where(churned, ratio, 0.0) * np.sqrt((1 + gamma) ** 2 - 1),
        }

    def position(self, node, start, end, flow):
        """Where on the coordinate's axis an inner stage lies.

        Args:
            node: place of the stage within a step, in (0, 1).
            start, end: where the steps begin and end, arrays (n,).
            flow: whether the coordinate is s = σ/(α+σ); else it is σ̂ = σ/α.

        Returns:
            float64 array (n,).
        """
        return start + node * (end - start)

    def step(self, denoise, x, row, state, noise):
        x0, eps = denoise(self._churned(x, row, noise), row["stages"][0])
        bends = []  # differences of the slopes from the first one

        def stage_point(j, weights):
            point = row["x0"][j] * x0 + row["eps"][j] * eps
            used = [w * bend for w, bend in zip(weights[1:], bends, strict=True) if w]
            return point + row["slope"][j] * sum(used) if used else point

        for j, level in enumerate(row["stages"][1:]):
            stage = denoise(stage_point(j, self.a[j + 1]), level)
            bends.append(stage.eps - eps - row["flow"] * (stage.x0 - x0))
        return stage_point(len(bends), self.b), state

    def close(self, denoise, x, row, noise):
        return denoise(self._churned(x, row, noise), row["stages"][0]).x0

    def _churned(self, x, row, noise):
        return row["gain"] * x + row["added"] * noise(0) if self.noises_per_step else x
