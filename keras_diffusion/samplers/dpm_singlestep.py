"""Single-step DPM-Solver and DPM-Solver++: Runge–Kutta methods for the exponential integral, one evaluation per row of
the table.

A step of order k starts at a level b and uses the evaluations at k levels, b the first of them, and nothing from
before. Its inner stages are steps of lower order from the same b, so in the table every row is a step to the next
level, with orders 1, 2, … k in turn:

    level   b ──1──▶ b+1          x_s = α_s·x0_b + σ_s·ε_b + scale·Σ_j w_j·(m_j − m_b)
            b ────2────▶ b+2
            b ───────3──────▶ b+3          (then b+3 is the next b)

The first two terms are the DDIM point, and m is what the method takes for smooth in λ = log(α/σ). With h = λ_s − λ_b,
r_j the position of an evaluation in the step, φ₁ = 1 − e^(−z), φ₂ = 1 − φ₁/z, φ₃ = ½ − φ₂/z,

    DPM-Solver++     m = x0,   scale = α_s,   z = h
    DPM-Solver       m = ε,    scale = σ_s,   z = −h

    order 2    φ₂·(m_1 − m_b)/r_1                        ("midpoint": ½·φ₁ in place of φ₂)
    order 3    φ₂·D₁ + 2·φ₃·D₂ of the parabola through all three     ("midpoint": φ₂·(m_2 − m_b)/r_2)

Order 3 asks for r_2 = ⅔, which smooth grids come near to; elsewhere m_1, of a first-order stage, lets it down to 2. x
at the stages is of lower order: only after a row of order k does it have the order of the method. The step to a clean
level is x ← x0.
"""

import numpy as np
from keras import ops

from keras_diffusion.configs.checks import check_choice, check_flag, check_number
from keras_diffusion.samplers.sampler import SAMPLERS, Sampler

ALGORITHMS = ("dpmpp", "dpm")


class SingleStepSampler(Sampler):
    """Base class: x at the next level is a combination of the last `order` predictions of x0 and ε."""

    order = 3
    noise = "brownian"

    def initial_state(self, x):
        return tuple((ops.zeros_like(x), ops.zeros_like(x)) for _ in range(self.order - 1))

    def step(self, denoise, x, row, state, noise):
        history = (tuple(denoise(x, row["level"])), *state)
        x = sum(row["x0"][k] * x0 + row["eps"][k] * eps for k, (x0, eps) in enumerate(history))
        if self.noises_per_step:
            x = x + row["noise"] * noise(0)
        return x, history[:-1]

    def stages(self, levels):
        """Which rows belong to a step.

        Args:
            levels: `Levels` of the grid.

        Returns:
            (orders, half, ends): the order of every row, ints (n,); λ where it evaluates and, last, where x ends up, (n
            + 1,); λ where it leads before noise is added, (n,).
        """
        raise NotImplementedError(f"{type(self).__name__} must implement stages(levels)")

    def noise_spans(self, levels):
        orders, half, _ = self.stages(levels)
        clock = 2.0 * (self.eta or 1.0) * half
        return np.stack([clock[first_rows(orders)], clock[1:]], axis=1)[:, None]


@SAMPLERS.register("dpm_singlestep", "singlestep")
class DPMSingleStepSampler(SingleStepSampler):
    """Single-step DPM-Solver(++) of order 1, 2 or 3 on the levels of the grid.

    One evaluation per level; n evaluations are n/order steps. Measured orders: as named, on grids that are smooth in
    log-SNR. Orders of the rows: 1, 2, …, `order` in turn. The last row is of order 1 where it leads to a clean level,
    and with `lower_order_final` where it would be the end of a full step. A row that starts at pure noise is a step by
    itself.

    Args:
        order: 1 (DDIM), 2 or 3. Default 2.
        algorithm: "dpmpp" (default), smooth in x0; or "dpm", smooth in ε, which suits guidance less.
        solver_type: "midpoint" (default) or "heun", see the module.
        lower_order_final: see above; it costs an order on grids that end at σ > 0. Default True.
        eta: share η ≥ 0 of the reverse SDE's noise, "dpmpp" only: with z = (1 + η)·h and ε_b, which is e^(−ηh) of
            itself then, noise of variance σ_s²·(1 − e^(−2ηh)) is added, Brownian by default: stages and the
            step see one path. With independent draws, as in the reference, they do not, and samples vary less than the
            data. 0 (default) is the ODE.
        s_noise: factor on the noise. Default 1.

    Raises:
        ValueError: unknown order, algorithm or solver type; negative `eta`, or one with "dpm".

    Example:

    >>> sampler = kd.samplers.DPMSingleStepSampler(order=3)
    >>> samples = sampler.sample(x, denoise, levels, schedule=schedule, seed=0)

    Reference:
        DPM-Solver: Lu et al. 2022, arXiv:2206.00927, algorithms 1 and 2; DPM-Solver++: Lu et al. 2022,
        arXiv:2211.01095, section 4; orders of the rows as in diffusers' `DPMSolverSinglestepScheduler`.
    """

    table_options = ("algorithm", "solver_type", "lower_order_final", "eta", "s_noise")

    def __init__(
        self, order=2, algorithm="dpmpp", solver_type="midpoint", lower_order_final=True, eta=0.0, s_noise=1.0, **kwargs
    ):
        super().__init__(**kwargs)
        self.order = check_choice("order", order, (1, 2, 3), "`order` must be 1, 2 or 3")
        check_choice("algorithm", algorithm, tuple(ALGORITHMS), "`algorithm` must be 'dpmpp' or 'dpm'")
        check_choice("solver_type", solver_type, ("midpoint", "heun"), "`solver_type` must be 'midpoint' or 'heun'")
        check_flag("lower_order_final", lower_order_final)
        eta = check_number("eta", eta, 0, rule="`eta` is a share of fresh noise and must not be negative")
        if eta and algorithm == "dpm":
            raise ValueError(
                f"The SDE is solved in x0. Received: eta={eta} with algorithm='dpm'. Take algorithm='dpmpp', or eta=0."
            )
        self.eta, self.s_noise = eta, check_number("s_noise", s_noise, 0)
        self.noises_per_step = 1 if eta else 0

    def stages(self, levels):
        n, pure = len(levels.t) - 1, int(levels.alpha[0] == 0)  # a step from λ = −∞ has no positions for inner stages
        orders = np.append(np.ones(pure, int), 1 + np.arange(n - pure) % self.order)
        if levels.sigma[-1] == 0 or (self.lower_order_final and orders[-1] == self.order):
            orders[-1] = 1
        half = 0.5 * levels.log_snr
        return orders, half, half[1:]

    def plan(self, levels, schedule=None):
        orders, half, ends = self.stages(levels)
        alpha, sigma = levels.alpha[1:], levels.sigma[1:]
        h = ends - half[first_rows(orders)]
        decay, fresh = np.ones_like(h), np.zeros_like(h)
        if self.eta:
            decay, fresh = np.exp(-self.eta * h), np.sqrt(-np.expm1(-2.0 * self.eta * h))
        forms = [self.solver_type] * len(orders)
        x0, eps = combinations(self.order, orders, forms, half, ends, (alpha, sigma), self.algorithm, 1.0 + self.eta)
        eps[np.arange(len(orders)), orders - 1] *= decay
        return {"x0": x0, "eps": eps, "noise": self.s_noise * sigma * fresh}


SAMPLERS.variant("dpmpp_2s", DPMSingleStepSampler, order=2)
SAMPLERS.variant("dpmpp_3s", DPMSingleStepSampler, order=3)
SAMPLERS.variant("dpm_2s", DPMSingleStepSampler, order=2, algorithm="dpm")
SAMPLERS.variant("dpm_3s", DPMSingleStepSampler, order=3, algorithm="dpm")


def first_rows(orders):
    """For every row, the one that its step starts with."""
    return np.arange(len(orders)) - orders + 1


def combinations(size, orders, forms, half, ends, scales, algorithm, stretch=1.0):
    """Weights of the last `size` predictions in every row.

    Args:
        size: length of the history.
        orders: order of every row, ints (n,).
        forms: "midpoint" or "heun" for every row.
        half: λ where the rows evaluate, (n,) or longer.
        ends: λ where the rows lead, (n,).
        scales: (α, σ) where they lead, each (n,).
        algorithm: "dpmpp" or "dpm".
        stretch: z/h for "dpmpp".

    Returns:
        weights of x0 and of ε, each (n, size), the latest first.
    """
    x0, eps = np.zeros((len(orders), size)), np.zeros((len(orders), size))
    for i, (k, first) in enumerate(zip(orders, first_rows(orders), strict=True)):
        x0[i, k - 1], eps[i, k - 1] = scales[0][i], scales[1][i]
        if k > 1:
            smooth, scale, factor = (x0, scales[0], stretch) if algorithm == "dpmpp" else (eps, scales[1], -1.0)
            smooth[i, :k] += scale[i] * differences(half[first : i + 1], ends[i], forms[i], factor)[::-1]
    return x0, eps


def differences(half, end, form, stretch):
    """Weights of m at the evaluations of a step of order 2 or 3, without the scale: they add up to 0.

    Args:
        half: λ at the evaluations, (k,).
        end: λ at the end of the step.
        form: "midpoint" or "heun".
        stretch: z/h.

    Returns:
        array (k,), the first evaluation first.
    """
    h = end - half[0]
    z, r = stretch * h, (half[1:] - half[0]) / h
    phi1 = -np.expm1(-z)
    phi2 = 1.0 - phi1 / z
    if len(r) == 1:
        return (0.5 * phi1 if form == "midpoint" else phi2) / r[0] * np.array([-1.0, 1.0])
    near, far = np.array([-1.0, 1.0, 0.0]) / r[0], np.array([-1.0, 0.0, 1.0]) / r[1]
    if form == "midpoint":
        return phi2 * far
    phi3 = 0.5 - phi2 / z
    d1 = (r[1] * near - r[0] * far) / (r[1] - r[0])
    d2 = (far - near) / (r[1] - r[0])
    return phi2 * d1 + 2.0 * phi3 * d2
