"""SA-Solver: an Adams predictor–corrector for the reverse SDE, with as much noise as wanted.

For any τ(t) ≥ 0 the SDE with η = τ² has the noisy densities of the ODE (τ = 0) and of the reverse SDE (τ = 1). In λ =
log(α/σ), with h = λ_s − λ_t,

    x_s = σ_s/σ_t·e^(−ηh)·x_t + (1+η)·α_s·∫ e^(−(1+η)(λ_s − λ))·x0(λ) dλ + σ_s·√(1 − e^(−2ηh))·z
        = α_s/α_t·x_t         − (1+η)·α_s·∫ e^(−λ)·ε(λ) dλ              + σ_s·√(η·(e^(2h) − 1))·z

and the polynomial through the last x0's (or ε's) is integrated exactly. The corrector does the same with the value at
the level arrived at among the nodes, which is evaluated for the next step anyway. It keeps the step's noise: the two
differ by a sum over x0's (or ε's), which row i adds, carried on, to its weights of the past (see `unipc`).
"""

import numpy as np

from keras_diffusion.configs.checks import check_choice, check_flag, check_number, check_numbers
from keras_diffusion.samplers.grids import pairs
from keras_diffusion.samplers.multistep import (
    MultistepSampler,
    check_order,
    exponential_moments,
    known_nodes,
    noisy_scales,
    quadrature_weights,
)
from keras_diffusion.samplers.sampler import SAMPLERS


@SAMPLERS.register("sa_solver")
class SASolverSampler(MultistepSampler):
    """Stochastic Adams predictor-corrector.

    One evaluation and one draw per step. The noise is Brownian by default. Measured orders for τ = 0: the
    predictor's, or that of a corrector one order higher (4 only when started exactly).

    Args:
        predictor_order: 1 to 4, the number of values that the predictor uses. Default 2.
        corrector_order: 1 to 4, that of the corrector, the new one included; 0 goes without. Default 2.
        tau: τ ≥ 0, the noise; 0 is the ODE, 1 the reverse SDE. Default 1.
        tau_start, tau_end: noise is added in steps that start at a σ/α in [tau_end, tau_start]; elsewhere τ = 0.
            Default: everywhere.
        predict_x0: extrapolate x0 (default) or, if False, ε, which wants smaller steps the larger τ is.
        lower_order_final: lower orders in the last steps. Default True.

    Raises:
        ValueError: unknown order, negative `tau`, or an empty range.

    Example:

    >>> sampler = kd.samplers.SASolverSampler(predictor_order=3, tau=0.5)
    >>> samples = sampler.sample(x, denoise, levels, schedule=schedule, seed=0)

    Reference:
        Xue et al. 2023, arXiv:2309.05019, and the authors' code in diffusers. For two values of x0 that code, and this,
        puts ∫ u du in the place of the weighted integral, a change of order h³.
    """

    noises_per_step = 1
    noise = "brownian"
    table_options = ("tau", "tau_start", "tau_end", "lower_order_final")

    def __init__(
        self,
        predictor_order=2,
        corrector_order=2,
        tau=1.0,
        tau_start=float("inf"),
        tau_end=0.0,
        predict_x0=True,
        lower_order_final=True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_number("tau", tau)
        check_numbers(tau_start=tau_start, tau_end=tau_end, finite=False)
        if not tau >= 0 or not 0 <= tau_end <= tau_start:
            raise ValueError(
                f"SA-Solver needs tau >= 0 and 0 <= tau_end <= tau_start. Received: {tau=}, {tau_start=}, {tau_end=}"
            )
        self.predictor_order = check_order(predictor_order, 4, "predictor_order")
        rule = "`corrector_order` must be 1, 2, 3 or 4, or 0 for none"
        self.corrector_order = check_choice("corrector_order", corrector_order, range(5), rule)
        self.tau, self.tau_start, self.tau_end = float(tau), float(tau_start), float(tau_end)
        self.predict_x0 = check_flag("predict_x0", predict_x0)
        self.lower_order_final = check_flag("lower_order_final", lower_order_final)
        self.remembered = self.predictor_order if self.corrector_order else self.predictor_order - 1
        self.remembered = max(self.remembered, self.corrector_order - 1)
        self.eta = tau**2

    def plan(self, levels, schedule=None):
        alpha_t, sigma_t, alpha_s, sigma_s = pairs(levels)
        with np.errstate(divide="ignore"):
            ratio = sigma_t / alpha_t
        slack = 1.0 + 1e-9  # for the ends, which may be levels of the grid
        eta = np.where((ratio * slack >= self.tau_end) & (ratio <= self.tau_start * slack), self.eta, 0.0)
        eps, fresh = noisy_scales(levels, eta, self.predict_x0)
        half = 0.5 * levels.log_snr
        n = len(eta)
        # What a step makes of a change of x. From pure noise the first step starts, to which nothing is carried.
        carry = eps / sigma_t if self.predict_x0 else np.divide(alpha_s, alpha_t, out=np.zeros(n), where=alpha_t > 0)
        weights = np.zeros((n, self.remembered + 1))  # of m_0, m_1, …
        predicted = np.zeros(0)
        for i in range(n):
            if sigma_s[i] == 0:
                break
            if len(predicted) and self.corrector_order:
                order = min(self.corrector_order, n - i + 2) if self.lower_order_final else self.corrector_order
                corrected = self._weights(levels, half, i - 1, eta[i - 1], known_nodes(half, i, order))
                weights[i, : len(corrected)] += carry[i] * corrected
                weights[i, 1 : 1 + len(predicted)] -= carry[i] * predicted
            order = min(self.predictor_order, n - i) if self.lower_order_final else self.predictor_order
            predicted = self._weights(levels, half, i, eta[i], known_nodes(half, i, order))
            weights[i, : len(predicted)] += predicted
        # The columns "x0" and "eps" hold everything but the differences from m_0.
        return {"x0": alpha_s, "eps": eps, "bend": weights[:, 1:], "noise": fresh}

    def _weights(self, levels, half, i, eta, nodes):
        """Weights of the m's at `nodes` in step i, (m,); none for a step from pure noise."""
        h = half[i + 1] - half[i]
        if np.isinf(h):
            return np.zeros(0)
        moments = exponential_moments((1.0 + eta) * h if self.predict_x0 else h, len(nodes), rising=self.predict_x0)
        if len(nodes) == 2 and self.predict_x0:
            moments[1] = 0.5  # the authors' change of order h³
        scale = levels.alpha[i + 1] if self.predict_x0 else -levels.sigma[i + 1] * np.exp(h)
        return scale * (1.0 + eta) * h * quadrature_weights((nodes - half[i]) / h, moments)
