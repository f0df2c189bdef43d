"""DPM-Solver++: the ODE's linear part solved exactly, x0 extrapolated from its history.

In λ = log(α/σ) the probability-flow ODE (η = 0) and the reverse SDEs (η > 0) read

    x_s = σ_s/σ_t·e^(−ηh)·x_t + α_s·∫ e^(−(1+η)(λ_s − λ))·(1+η)·x0(λ) dλ + σ_s·√(1 − e^(−2ηh))·z,      h = λ_s − λ_t

Only x0(λ) is unknown; a polynomial through its last values gives, with z = (1+η)h, for the integral

    order 1    φ₁·x0                              φ₁ = 1 − e^(−z)
    order 2    φ₁·x0 + φ₂·D₁                      φ₂ = 1 − φ₁/z        (or φ₂ ≈ φ₁/2, the "midpoint" form)
    order 3    φ₁·x0 + φ₂·D₁ + 2φ₃·D₂             φ₃ = ½ − φ₂/z

D₁ and D₂ are h·x0′ and h²·x0″/2 by divided differences. As x_t = α_t·x0 + σ_t·ε, a step of the table is

    x_s = α_s·x0 + σ_s·e^(−ηh)·ε + α_s·(φ₂·D₁ + 2φ₃·D₂) + σ_s·√(1 − e^(−2ηh))·z
"""

import numpy as np

from keras_diffusion.configs.checks import check_choice, check_flag
from keras_diffusion.samplers.multistep import MultistepSampler, check_order, noisy_scales
from keras_diffusion.samplers.sampler import SAMPLERS


@SAMPLERS.register("dpmpp_2m", "dpmpp", "MultiStepDPM")
class DPMppSampler(MultistepSampler):
    """Multistep DPM-Solver++ of order 1, 2 or 3.

    One evaluation per step. Measured orders: 1, 2 and, started exactly, 3; the first steps have no history and are of
    lower order, which holds order 3 to 2 when it starts by itself.

    Args:
        order: 1 (DDIM), 2 or 3. Default 2.
        solver_type: "midpoint" or "heun", the form of second-order steps, those with which order 3 starts included.
            Default None: "midpoint" for order 2 and "heun" for the start of order 3, as in k-diffusion; diffusers
                starts with "midpoint".
        reference_compatible: use half of D₂'s coefficient, as k-diffusion and diffusers do, which makes order 3 an
            order 2 method. For reproducing their images. Default False.
        lower_order_final: the last step is of order 1 and the one before of order 2 at most, which is steadier for few
            steps; diffusers does so for fewer than 15. Default False.

    Raises:
        ValueError: unknown order or solver type.

    Example:

    >>> sampler = kd.samplers.DPMppSampler(order=3, lower_order_final=True)
    >>> samples = sampler.sample(x, denoise, levels, schedule=schedule, seed=0)

    Reference:
        Lu et al. 2022, arXiv:2211.01095, algorithm 2; the SDE forms and order 3 as in k-diffusion.
    """

    predict_x0 = True
    eta, s_noise = 0.0, 1.0
    table_options = ("eta", "s_noise", "solver_type", "reference_compatible", "lower_order_final")

    def __init__(self, order=2, solver_type=None, reference_compatible=False, lower_order_final=False, **kwargs):
        super().__init__(**kwargs)
        check_choice(
            "solver_type", solver_type, (None, "midpoint", "heun"), "`solver_type` must be 'midpoint' or 'heun'"
        )
        self.order = check_order(order, 3)
        self.reference_compatible = check_flag("reference_compatible", reference_compatible)
        self.lower_order_final = check_flag("lower_order_final", lower_order_final)
        self.remembered = self.order - 1

    def plan(self, levels, schedule=None):
        eps, fresh = noisy_scales(levels, self.eta, self.predict_x0)
        table = {"x0": levels.alpha[1:], "eps": eps, "bend": self.bends(levels)}
        return {**table, "noise": self.s_noise * fresh} if self.noises_per_step else table

    def bends(self, levels):
        """The weights b of the past in the plan, for each step.

        Args:
            levels: checked `Levels` of n + 1 entries.

        Returns:
            float64 array `(n, remembered)`, the latest value first.
        """
        h = np.diff(0.5 * levels.log_snr)
        return levels.alpha[1:, None] * np.stack(
            [self.past_weights((1.0 + self.eta) * h[i], h, i) for i in range(len(h))]
        )

    def past_weights(self, z, h, i):
        """Weights of x0_{−1}, x0_{−2} in φ₂·D₁ + 2φ₃·D₂ of one step.

        Args:
            z: (1 + η)·h of the step.
            h: lengths of all steps in λ, float64 array (n,).
            i: number of the step.

        Returns:
            float64 array (order − 1,).
        """
        order = min(i + 1, self.order, len(h) - i if self.lower_order_final else self.order)
        weights = np.zeros(self.order)
        if order == 1 or np.isinf(h[i]):  # a step from pure noise, or to a clean level
            return weights[1:]
        phi1 = -np.expm1(-z)
        phi2 = 1.0 - phi1 / z
        recent = h[i - 1] / h[i]
        if order == 2:
            heun = self.solver_type == "heun" or (self.solver_type is None and self.order == 3)
            weights[1] = -(phi2 if heun else 0.5 * phi1) / recent
            return weights[1:]
        phi3 = 0.5 - phi2 / z
        older = h[i - 2] / h[i]
        near, far = np.array([1.0, -1.0, 0.0]) / recent, np.array([0.0, 1.0, -1.0]) / older
        d1 = near + (near - far) * recent / (recent + older)
        d2 = (near - far) / (recent + older)
        return (phi2 * d1 + (1.0 if self.reference_compatible else 2.0) * phi3 * d2)[1:]


SAMPLERS.variant("dpmpp_1", DPMppSampler, order=1)
SAMPLERS.variant("dpmpp_3m", DPMppSampler, order=3)
