"""Diffusion posterior sampling: towards samples that agree with a measurement y = A(x0) + σ_y·n.

    p(y | x_t) ≈ p(y | x0(x_t))    ⇒    ∇_x log p(y | x_t) ≈ 1/σ_y²·(∂x0/∂x)ᵀ·(∂A/∂x0)ᵀ·(y − A(x0))

x0(x_t) is taken for certain, which it is not at high noise: the measurement weighs too much there, and steps overshoot
where σ_y is small against the spread of the data. The authors therefore divide by the residual's norm instead. They
subtract the gradient from x after each of a thousand steps; here it is part of the score, so that its effect does not
depend on their number.
"""

from keras import ops

from keras_diffusion.configs.checks import check_number
from keras_diffusion.core.autodiff import pullback
from keras_diffusion.core.broadcast import sample_axes
from keras_diffusion.denoisers.denoiser import Wrapper, as_tensors
from keras_diffusion.guidance.gradient import differentiable, with_likelihood


class DPS(Wrapper):
    """Adds the gradient of a measurement's likelihood at x0 to the score.

        g = scale·(∂x0/∂x)ᵀ·(∂A/∂x0)ᵀ·r/σ_y²,    or /|r| without σ_y,    r = y − A(x0)

    Args:
        denoiser: the `Denoiser` to guide; it is differentiated.
        measurement: y, an array that broadcasts to what `operator` returns.
        operator: function x0 `(B, ...)` → A(x0) `(B, ...)`, linear or not, of operations that the backend can
            differentiate.
        noise_std: σ_y > 0, or None (default) to divide by the residual's norm. Of M measurements, a scale of √M/σ_y
            then gives the likelihood where the residual is as large as the noise.
        scale: factor on the gradient, a number or a scalar tensor. Default 1.

    Raises:
        ValueError: a noise that is not positive.

    Example:

    >>> first = lambda x0: x0[:, :1]  # what is measured
    >>> guided = kd.guidance.DPS(conditional, [[0.5]], first, noise_std=0.1)
    >>> x0, eps = guided(x, level)

    Reference:
        Chung et al. 2022, arXiv:2209.14687, theorem 1 and algorithm 1.
    """

    def __init__(self, denoiser, measurement, operator, noise_std=None, scale=1.0):
        rule = (
            "The likelihood of a measurement without noise has no gradient: `noise_std` must be positive, "
            "or None to divide by the residual's norm"
        )
        self.noise_std = check_number("noise_std", noise_std, above=0, rule=rule, optional=True)
        self.scale = check_number("scale", scale)
        super().__init__(denoiser)

    def __call__(self, x, level):
        x, level = as_tensors(x, level)
        prediction, to_x = differentiable(self.denoiser, x, level)
        measured, _, to_x0 = pullback(lambda x0: (self.operator(x0), ()), prediction.x0)
        residual = ops.convert_to_tensor(self.measurement, dtype=x.dtype) - measured
        if self.noise_std is None:
            square = ops.sum(ops.square(residual), axis=sample_axes(residual), keepdims=True)
            residual = residual / ops.sqrt(ops.maximum(square, 1e-30))
        else:
            residual = residual / self.noise_std**2
        return with_likelihood(prediction, self.scale * to_x(to_x0(residual)), level)
