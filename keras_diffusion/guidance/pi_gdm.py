"""Pseudoinverse-guided diffusion (ΠGDM): a linear measurement y = A·x0 + σ_y·n, with the uncertainty of x0 taken into
account.

    p(x0 | x_t) ≈ N(x0(x_t), r²·I),    r² = s²σ²/(α²s² + σ²)
    ∇_x log p(y | x_t) ≈ (∂x0/∂x)ᵀ·Aᵀ·(r²·A·Aᵀ + σ_y²·I)⁻¹·(y − A·x0(x_t))

Exact for data N(μ, s²·I). Of other data r² is a guess: the spread of what may lie behind x_t is then neither equal in
all directions nor the same for all x_t.
"""

from keras import ops

from keras_diffusion.configs.checks import check_number
from keras_diffusion.core.broadcast import expand_to_rank
from keras_diffusion.denoisers.denoiser import Wrapper, as_tensors
from keras_diffusion.guidance.gradient import differentiable, with_likelihood
from keras_diffusion.guidance.operators import check_problem


class PiGDM(Wrapper):
    """Adds the gradient of a linear measurement's likelihood, averaged over a Gaussian around x0, to the score.

    Args:
        denoiser: the `Denoiser` to guide; it is differentiated.
        measurement: y, an array that broadcasts to what `operator` returns.
        operator: `LinearOperator`.
        noise_std: σ_y ≥ 0. Default 0.
        data_std: s > 0, the standard deviation of the data. Default 1, the paper's.
        scale: factor on the gradient, a number or a scalar tensor. Default 1.

    Raises:
        ValueError: an operator that is not a `LinearOperator`, negative noise, or a standard deviation that is not
            positive.

    Example:

    >>> operator = kd.guidance.MaskOperator([1.0, 0.0])
    >>> guided = kd.guidance.PiGDM(conditional, [[0.5, 0.0]], operator, noise_std=0.1)
    >>> x0, eps = guided(x, level)

    Reference:
        Song, Vahdat, Mardani & Kautz 2023, "Pseudoinverse-guided diffusion models for inverse problems", ICLR, section
        3.
    """

    def __init__(self, denoiser, measurement, operator, noise_std=0.0, data_std=1.0, scale=1.0):
        check_problem(operator, noise_std)
        rule = "`data_std` is the standard deviation of the data and must be positive"
        self.data_std = check_number("data_std", data_std, above=0, rule=rule)
        self.scale = check_number("scale", scale)
        super().__init__(denoiser)

    def __call__(self, x, level):
        x, level = as_tensors(x, level)
        prediction, to_x = differentiable(self.denoiser, x, level)
        variance = (self.data_std * level.sigma) ** 2 / ((level.alpha * self.data_std) ** 2 + level.sigma**2)
        residual = ops.convert_to_tensor(self.measurement, dtype=x.dtype) - self.operator(prediction.x0)
        back = self.operator.transpose(self.operator.solve(residual, self.noise_std**2 / variance))
        return with_likelihood(prediction, self.scale * to_x(back / expand_to_rank(variance, x)), level)
