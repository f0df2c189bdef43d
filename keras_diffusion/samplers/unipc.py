"""UniPC: a multistep predictor, and a corrector that costs nothing.

The predictor is exponential multistep in m = x0 (or ε), as DPM-Solver++ (or DPM-Solver). Arriving at a level, the
network is evaluated there anyway for the next step; that m also corrects the step just made, one order higher. With x̃
the first-order step, e = −h and scale α_s for x0 (h and σ_s for ε), B(e) = e^e − 1 (bh2) or e (bh1), m_k the last
values at λ_k and r_k = (λ_k − λ_t)/h:

    predictor    x_s = x̃ − scale·B·Σ_{k ≥ 1} ρ_k·(m_k − m_0)/r_k
    corrector    the same with m_s, r = 1, among the points

ρ solves Σ_k ρ_k·r_k^(j−1) = φ_j, j = 1 …: the step is exact where m is a polynomial in λ.

The two differ by a sum over the same m's. So the correction of step i − 1 needs neither its start nor a place of its
own: row i adds it, as the next step carries it on (times σ_s/σ_t, or α_s/α_t for ε), to the weights of the past.
"""

import numpy as np

from keras_diffusion.configs.checks import check_choice, check_flag, check_whole, shown
from keras_diffusion.samplers.grids import pairs
from keras_diffusion.samplers.multistep import MultistepSampler, check_order
from keras_diffusion.samplers.sampler import SAMPLERS


@SAMPLERS.register("unipc")
class UniPCSampler(MultistepSampler):
    """Unified predictor-corrector of order 1, 2 or 3.

    One evaluation per step. With bh2 and `lower_order_final=False` its order is one more than `order`: 2, 3 and 4
    measured, the last one in ε only when started exactly (else 3). Without the corrector it is `order`.

    Args:
        order: of the predictor, 1 to 3. The corrector adds one. Default 2.
        solver_type: "bh2" (default) or "bh1".
        lower_order_final: lower orders in the last steps, as the authors do for few steps; it costs one order on grids
            that end at σ > 0. Default True.
        predict_x0: extrapolate x0 (default) or, if False, ε.
        disable_corrector: indices, from 0, of steps that are not corrected; where guidance is strong the first ones
            gain from it. Default none.

    Raises:
        ValueError: unknown order or solver type, or indices that are no step numbers.

    Example:

    >>> sampler = kd.samplers.UniPCSampler(order=3)
    >>> samples = sampler.sample(x, denoise, levels, schedule=schedule, seed=0)

    Reference:
        Zhao et al. 2023, arXiv:2302.04867, algorithms 5 to 8.
    """

    table_options = ("solver_type", "lower_order_final", "disable_corrector")

    def __init__(
        self, order=2, solver_type="bh2", lower_order_final=True, predict_x0=True, disable_corrector=(), **kwargs
    ):
        super().__init__(**kwargs)
        check_choice("solver_type", solver_type, ("bh1", "bh2"), "`solver_type` must be 'bh1' or 'bh2'")
        rule = "`disable_corrector` lists steps, counted from 0"
        if not isinstance(disable_corrector, (list, tuple, range)):
            raise ValueError(f"{rule}. Received: disable_corrector={shown(disable_corrector)}")
        for index in disable_corrector:
            check_whole("disable_corrector", index, 0, rule=rule)
        self.order = check_order(order, 3)
        self.lower_order_final = check_flag("lower_order_final", lower_order_final)
        self.predict_x0 = check_flag("predict_x0", predict_x0)
        self.disable_corrector = tuple(int(index) for index in disable_corrector)
        self.remembered = self.order

    def plan(self, levels, schedule=None):
        alpha_t, sigma_t, alpha_s, sigma_s = pairs(levels)
        half = 0.5 * levels.log_snr  # λ
        n = len(alpha_s)
        scale = alpha_s if self.predict_x0 else sigma_s
        # What a step makes of a change of x. From pure noise the first step starts, to which nothing is carried.
        carry = (
            sigma_s / sigma_t if self.predict_x0 else np.divide(alpha_s, alpha_t, out=np.zeros(n), where=alpha_t > 0)
        )
        bend = np.zeros((n, self.order))
        order = 0
        for i in range(n):
            if sigma_s[i] == 0:
                break
            if i and i - 1 not in self.disable_corrector:
                correction = self._weights(half, i - 1, order, corrector=True) - self._weights(
                    half, i - 1, order, corrector=False
                )
                bend[i] += carry[i] * scale[i - 1] * correction[1:]
            order = min(self.order, int(np.isfinite(half[: i + 1]).sum()) or 1)
            if self.lower_order_final:
                order = min(order, n - i)
            bend[i, :-1] += scale[i] * self._weights(half, i, order, corrector=False)[2:]
        return {"x0": alpha_s, "eps": sigma_s, "bend": bend}

    def _weights(self, half, i, order, corrector):
        """Weights of (m_s, m_0, m_1, …), with sum 0, in what step i adds to x̃, without the factor `scale`."""
        weights = np.zeros(self.order + 1)
        h = half[i + 1] - half[i]
        if np.isinf(h):
            return weights  # from pure noise: nothing to extrapolate, and nothing to correct it with
        e = -h if self.predict_x0 else h
        size = np.expm1(e) if self.solver_type == "bh2" else e
        position = np.array([(half[i - k] - half[i]) / h for k in range(1, order)] + [1.0])
        matrix, right = [], []
        phi, factorial = np.expm1(e) / e - 1.0, 1.0
        for j in range(1, order + 1):
            matrix.append(position ** (j - 1))
            right.append(phi * factorial / size)
            factorial *= j + 1
            phi = phi / e - 1.0 / factorial
        matrix, right = np.array(matrix), np.array(right)
        if corrector:
            rho = np.array([0.5]) if order == 1 else np.linalg.solve(matrix, right)
            weights[0] = -size * rho[-1]
            rho = rho[:-1]
        elif order < 3:
            rho = np.full(order - 1, 0.5)
        else:
            rho = np.linalg.solve(matrix[:-1, :-1], right[:-1])
        weights[2 : 2 + len(rho)] = -size * rho / position[: len(rho)]
        weights[1] = -weights.sum()
        return weights
