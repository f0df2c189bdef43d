"""DPM-Solver++: the ODE's linear part solved exactly, x0 extrapolated from its history.

In λ = log(α/σ) the probability-flow ODE (η = 0) and the reverse SDEs (η > 0) read

    x_s = σ_s/σ_t·e^(−ηh)·x_t + α_s·∫ e^(−(1+η)(λ_s − λ))·(1+η)·x0(λ) dλ + σ_s·√(1 − e^(−2ηh))·z,      h = λ_s − λ_t

Only x0(λ) is unknown; a polynomial through its last values gives, with h' = (1+η)h,

    order 1    φ₁·x0                              φ₁ = 1 − e^(−h')
    order 2    φ₁·x0 + φ₂·D₁                      φ₂ = 1 − φ₁/h'        (or φ₂ ≈ φ₁/2, the "midpoint" form)
    order 3    φ₁·x0 + φ₂·D₁ + 2φ₃·D₂             φ₃ = ½ − φ₂/h'

D₁ and D₂ are h·x0′ and h²·x0″/2 by divided differences. Every row of the table is A, B₀…B₂, C:   x ← A·x + Σ B_k·x0_{−k} + C·z.
"""

import numpy as np
from keras import ops

from keras_diffusion.samplers.sampler import SAMPLERS, Sampler, pairs


@SAMPLERS.register("dpmpp_2m", "dpmpp", "MultiStepDPM")
class DPMppSampler(Sampler):
    """Multistep DPM-Solver++ of order 1, 2 or 3.

    One evaluation per step. Measured orders: 1, 2 and, started exactly, 3; the first steps have no history and are of lower order, which
    holds order 3 to 2 when it starts by itself.

    Args:
        order: 1 (DDIM), 2 or 3. Default 2.
        solver_type: "midpoint" (default) or "heun", the form of second-order steps; order 3 starts with "heun" steps either way.
        reference_compatible: use half of D₂'s coefficient, as k-diffusion and diffusers do, which makes order 3 an order 2 method. For
            reproducing their images. Default False.

    Raises:
        ValueError: unknown order or solver type.

    Reference:
        Lu et al. 2022, arXiv:2211.01095, algorithm 2; the SDE forms and order 3 as in k-diffusion.
    """

    table_options = ("eta", "s_noise", "solver_type", "reference_compatible")

    def __init__(self, order=2, solver_type="midpoint", reference_compatible=False, **kwargs):
        super().__init__(**kwargs)
        if order not in (1, 2, 3):
            raise ValueError(f"`order` must be 1, 2 or 3. Received: order={order!r}")
        if solver_type not in ("midpoint", "heun"):
            raise ValueError(f"`solver_type` must be 'midpoint' or 'heun'. Received: solver_type={solver_type!r}")
        self.order, self.solver_type, self.reference_compatible = order, solver_type, reference_compatible
        self.eta, self.s_noise = 0.0, 1.0

    def plan(self, levels, schedule=None):
        _, sigma_t, alpha_s, sigma_s = pairs(levels)
        h = np.diff(0.5 * levels.log_snr)  # infinite where a level is clean or pure noise
        weights = np.stack([self._weights(h, i, sigma_s[i] == 0) for i in range(len(h))])
        decay = np.exp(-self.eta * h) if self.eta else np.ones_like(h)
        fresh = np.sqrt(-np.expm1(-2.0 * self.eta * h)) if self.eta else np.zeros_like(h)
        return {"A": sigma_s / sigma_t * decay, "B": alpha_s[:, None] * weights, "C": self.s_noise * sigma_s * fresh}

    def _weights(self, h, i, closing):
        """Weights of x0, and of the last ones, in step i, without the factor α_s."""
        weights = np.zeros(self.order)
        scaled = (1.0 + self.eta) * h[i]
        phi1 = -np.expm1(-scaled)
        weights[0] = phi1
        available = 1 if closing else min(i + 1, self.order)
        if available == 1:
            return weights
        phi2 = 1.0 - phi1 / scaled
        recent = h[i - 1] / h[i]
        if available == 2:
            slope = phi2 if self.order == 3 or self.solver_type == "heun" else 0.5 * phi1
            weights[:2] += slope / recent * np.array([1.0, -1.0])
            return weights
        phi3 = 0.5 - phi2 / scaled
        older = h[i - 2] / h[i]
        near, far = np.array([1.0, -1.0, 0.0]) / recent, np.array([0.0, 1.0, -1.0]) / older
        d1 = near + (near - far) * recent / (recent + older)
        d2 = (near - far) / (recent + older)
        return weights + phi2 * d1 + (1.0 if self.reference_compatible else 2.0) * phi3 * d2

    def initial_state(self, x):
        return tuple(ops.zeros_like(x) for _ in range(self.order - 1))

    def step(self, denoise, x, row, state, noise):
        history = (denoise(x, row["level"]).x0, *state)
        x = row["A"] * x + sum(row["B"][k] * history[k] for k in range(self.order))
        if self.noises_per_step:
            x = x + row["C"] * noise(0)
        return x, history[:-1]

    def get_config(self):
        return {
            **super().get_config(),
            "order": self.order,
            "solver_type": self.solver_type,
            "reference_compatible": self.reference_compatible,
        }


@SAMPLERS.register("dpmpp_2m_sde")
class DPMppSDESampler(DPMppSampler):
    """Multistep DPM-Solver++ on the reverse SDE.

    One evaluation and one draw per step. The noise is Brownian unless told otherwise.

    Args:
        order: 1, 2 or 3. Default 2.
        eta: η ≥ 0, the share of the SDE's noise; 0 is the ODE, 1 the reverse SDE. Default 1.
        s_noise: factor on the noise. Default 1.
        solver_type: see `DPMppSampler`.
        reference_compatible: see `DPMppSampler`.
    """

    noises_per_step = 1
    noise = "brownian"

    def __init__(self, order=2, eta=1.0, s_noise=1.0, solver_type="midpoint", reference_compatible=False, **kwargs):
        super().__init__(order, solver_type, reference_compatible, **kwargs)
        if not eta >= 0:
            raise ValueError(f"`eta` is a share of fresh noise and must not be negative. Received: eta={eta}")
        self.eta, self.s_noise = eta, s_noise

    def get_config(self):
        return {**super().get_config(), "eta": self.eta, "s_noise": self.s_noise}


SAMPLERS.variant("dpmpp_1", DPMppSampler, order=1)
SAMPLERS.variant("dpmpp_3m", DPMppSampler, order=3)
SAMPLERS.variant("dpmpp_3m_sde", DPMppSDESampler, order=3)
