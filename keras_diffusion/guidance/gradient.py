"""Guidance by a gradient: the score of a likelihood is added to that of the data (Bayes' rule).

    ∇ log p(x_t | y) = ∇ log p(x_t) + ∇ log p(y | x_t),    ∇ log p(x_t) = −ε/σ

    ε  ← ε − σ·g,    x0 ← x0 + σ²/α·g,    g = ∇_x log p(y | x_t)

At α = 0 x_t says nothing about y: g is 0 there and x0 stays as it is.
"""

from keras import ops

from keras_diffusion.core.autodiff import pullback
from keras_diffusion.core.broadcast import expand_to_rank
from keras_diffusion.core.denoiser_memory import get_memory, set_memory
from keras_diffusion.core.levels import Prediction


def with_likelihood(prediction, gradient, level):
    """The prediction with the likelihood's score `gradient` added to it."""
    alpha, sigma = (expand_to_rank(v, gradient) for v in (level.alpha, level.sigma))
    to_x0 = ops.where(alpha > 0, sigma**2 / ops.where(alpha > 0, alpha, 1.0), 0.0)
    return Prediction(prediction.x0 + to_x0 * gradient, prediction.eps - sigma * gradient)


def differentiable(denoiser, x, level):
    """A denoiser's prediction, and the function v ↦ vᵀ·∂x0/∂x.

    What the denoiser remembers passes through: on JAX it must not be written while its derivative is taken.
    """

    def function(x):
        prediction = denoiser(x, level)
        return prediction.x0, (prediction, get_memory(denoiser))

    _, (prediction, memories), vjp = pullback(function, x)
    set_memory(denoiser, memories)
    return prediction, vjp
