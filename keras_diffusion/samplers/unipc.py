"""UniPC: a multistep predictor, and a corrector that costs nothing.

The predictor is exponential multistep in x0, as DPM-Solver++. Arriving at a level, the network is evaluated there anyway for the next
step; that x0 also corrects the step just made, one order higher. With x̃ the exponential Euler step, B(h) = e^(−h) − 1 (bh2) or −h (bh1),
m_k the last x0's at λ_k and r_k = (λ_k − λ_t)/h:

    predictor    x_s = x̃ − α_s·B·Σ_{k ≥ 1} ρ_k·(m_k − m_0)/r_k
    corrector    the same with m_s, r = 1, among the points

ρ solves Σ_k ρ_k·r_k^(j−1) = φ_j, j = 1 …: the step is exact where x0 is a polynomial in λ. In the table the correction of step i − 1 is
made in row i, after its evaluation:

    x ← keep·x + a·x_{i−1} + Σ c_k·m_k         then        x_{i+1} = A·x + Σ p_k·m_k
"""

import numpy as np
from keras import ops

from keras_diffusion.samplers.sampler import SAMPLERS, Sampler, pairs


@SAMPLERS.register("unipc")
class UniPCSampler(Sampler):
    """Unified predictor-corrector of order 1, 2 or 3, in x0.

    One evaluation per step. With bh2 and `lower_order_final=False` its order is one more than `order` (measured for 1 and 2).

    Args:
        order: of the predictor, 1 to 3. The corrector adds one. Default 2.
        solver_type: "bh2" (default) or "bh1".
        lower_order_final: lower orders in the last steps, as the authors do for few steps; it costs one order on grids that end at
            σ > 0. Default True.

    Raises:
        ValueError: unknown order or solver type.

    Reference:
        Zhao et al. 2023, arXiv:2302.04867, algorithms 5 to 8.
    """

    table_options = ("solver_type", "lower_order_final")

    def __init__(self, order=2, solver_type="bh2", lower_order_final=True, **kwargs):
        super().__init__(**kwargs)
        if order not in (1, 2, 3):
            raise ValueError(f"`order` must be 1, 2 or 3. Received: order={order!r}")
        if solver_type not in ("bh1", "bh2"):
            raise ValueError(f"`solver_type` must be 'bh1' or 'bh2'. Received: solver_type={solver_type!r}")
        self.order, self.solver_type, self.lower_order_final = order, solver_type, lower_order_final

    def plan(self, levels, schedule=None):
        _, sigma_t, alpha_s, sigma_s = pairs(levels)
        half = 0.5 * levels.log_snr  # λ
        n = len(alpha_s)
        decay = sigma_s / sigma_t
        predict, correct = np.zeros((n, self.order)), np.zeros((n, self.order + 1))
        keep, again = np.zeros(n), np.zeros(n)
        keep[0] = 1.0
        order = 0
        for i in range(n):
            if i:
                correct[i] = alpha_s[i - 1] * self._weights(half, i - 1, order, corrector=True)
                again[i] = decay[i - 1]
            order = min(self.order, int(np.isfinite(half[: i + 1]).sum()) or 1)
            if self.lower_order_final:
                order = min(order, n - i)
            if sigma_s[i] == 0:
                predict[i, 0] = alpha_s[i]
            else:
                predict[i] = alpha_s[i] * self._weights(half, i, order, corrector=False)[1:]
        return {"predict": predict, "A": decay, "correct": correct, "again": again, "keep": keep}

    def _weights(self, half, i, order, corrector):
        """Weights of (m_s, m_0, m_1, …) in the step from level i, without the factor α_s."""
        weights = np.zeros(self.order + 1)
        h = half[i + 1] - half[i]
        weights[1] = -np.expm1(-h)
        if np.isinf(h):
            return weights  # from pure noise: x0 as it is, and nothing to correct it with
        scale = np.expm1(-h) if self.solver_type == "bh2" else -h
        position = np.array([(half[i - k] - half[i]) / h for k in range(1, order)] + [1.0])
        matrix, right = [], []
        phi, factorial = np.expm1(-h) / -h - 1.0, 1.0
        for j in range(1, order + 1):
            matrix.append(position ** (j - 1))
            right.append(phi * factorial / scale)
            factorial *= j + 1
            phi = phi / -h - 1.0 / factorial
        matrix, right = np.array(matrix), np.array(right)
        if corrector:
            rho = np.array([0.5]) if order == 1 else np.linalg.solve(matrix, right)
            weights[0] -= scale * rho[-1]
            weights[1] += scale * rho[-1]
            rho = rho[:-1]
        elif order < 3:
            rho = np.full(order - 1, 0.5)
        else:
            rho = np.linalg.solve(matrix[:-1, :-1], right[:-1])
        for k, r in enumerate(rho):
            weights[2 + k] -= scale * r / position[k]
            weights[1] += scale * r / position[k]
        return weights

    def initial_state(self, x):
        return tuple(ops.zeros_like(x) for _ in range(self.order + 1))

    def step(self, denoise, x, row, state, noise):
        last, *history = state
        history = (denoise(x, row["level"]).x0, *history)
        x = row["keep"] * x + row["again"] * last + sum(row["correct"][k] * history[k] for k in range(self.order + 1))
        history = history[: self.order]
        new = row["A"] * x + sum(row["predict"][k] * history[k] for k in range(self.order))
        return new, (x, *history)

    def get_config(self):
        return {**super().get_config(), "order": self.order, "solver_type": self.solver_type, "lower_order_final": self.lower_order_final}
