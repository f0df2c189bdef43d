"""DiffPIR: each x0 is moved to where it agrees with a linear measurement y = A·x0 + σ_y·n, and no further than needed.

    x0 ← argmin_z |y − A·z|²/σ_y² + λ·α²/σ²·|z − x0|²
       = x0 + Aᵀ·(A·Aᵀ + ρ·I)⁻¹·(y − A·x0),    ρ = λ·σ_y²·α²/σ²

ε follows from x = α·x0 + σ·ε. No derivative of the network is taken. The weight takes σ/α for the uncertainty of x0,
which is too much where the noise is larger than the data's spread. Without noise, x0 agrees with y exactly at every
step, and a mask is `ReplaceKnown`.
"""

from keras import ops

from keras_diffusion.configs.checks import check_number
from keras_diffusion.denoisers.denoiser import Wrapper, as_tensors, with_x0
from keras_diffusion.guidance.operators import check_problem


class DiffPIR(Wrapper):
    """Replaces x0 by the proximal point of a linear measurement.

    Args:
        denoiser: the `Denoiser` to wrap.
        measurement: y, an array that broadcasts to what `operator` returns.
        operator: `LinearOperator`.
        noise_std: σ_y ≥ 0. Default 0.
        prior_weight: λ > 0; a larger one trusts the denoiser more. Default 1.

    Raises:
        ValueError: an operator that is not a `LinearOperator`, negative noise, or a weight that is not positive.

    Example:

    >>> operator = kd.guidance.MaskOperator([1.0, 0.0])
    >>> guided = kd.guidance.DiffPIR(conditional, [[0.5, 0.0]], operator, noise_std=0.1)
    >>> levels = kd.schedulers.get("cosine").levels([1.0, 0.7, 0.4, 0.1])
    >>> samples = kd.samplers.get("ddim", eta=0.5).sample(x, guided, levels)  # η plays the part of the paper's ζ

    Reference:
        Zhu et al. 2023, arXiv:2305.08995, algorithm 1.
    """

    def __init__(self, denoiser, measurement, operator, noise_std=0.0, prior_weight=1.0):
        check_problem(operator, noise_std)
        rule = "`prior_weight` weighs the denoiser's x0 and must be positive"
        self.prior_weight = check_number("prior_weight", prior_weight, above=0, rule=rule)
        super().__init__(denoiser)

    def __call__(self, x, level):
        x, level = as_tensors(x, level)
        x0 = self.denoiser(x, level).x0
        residual = ops.convert_to_tensor(self.measurement, dtype=x.dtype) - self.operator(x0)
        ridge = self.prior_weight * (self.noise_std * level.alpha / level.sigma) ** 2
        return with_x0(x, x0 + self.operator.transpose(self.operator.solve(residual, ridge)), level)
