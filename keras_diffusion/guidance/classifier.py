"""Classifier guidance: towards where a classifier of noisy samples sees the class.

    ε  ← ε − w·σ·∇_x log p(y | x_t),    x0 ← x0 + w·σ²/α·∇_x log p(y | x_t)

With w = 1 and the true p(y | x_t) this is the denoiser of the class alone: Bayes' rule. The classifier has to know
noise; one trained on clean images sees nothing in x_t.
"""

from keras import ops

from keras_diffusion.configs.checks import check_number
from keras_diffusion.core.autodiff import pullback
from keras_diffusion.denoisers.denoiser import Wrapper, as_tensors
from keras_diffusion.guidance.gradient import with_likelihood


class ClassifierGuidance(Wrapper):
    """Adds the gradient of a classifier's log-probability to the score.

    Args:
        denoiser: the `Denoiser` to guide, conditional or not.
        log_prob: function (x `(B, ...)`, level) → log p(y | x_t) `(B,)`, of operations that the backend can
            differentiate. Each entry must depend on its own sample alone.
        scale: w, a number or a scalar tensor. Default 1.

    Example:

    >>> log_prob = lambda x, level: -((x[:, 0] - 1.0) ** 2)  # of any classifier of noisy samples
    >>> guided = kd.guidance.ClassifierGuidance(unconditional, log_prob, scale=2.0)
    >>> x0, eps = guided(x, level)

    Reference:
        Dhariwal & Nichol 2021, arXiv:2105.05233, algorithm 2.
    """

    def __init__(self, denoiser, log_prob, scale=1.0):
        self.scale = check_number("scale", scale)
        super().__init__(denoiser)

    def __call__(self, x, level):
        x, level = as_tensors(x, level)
        log_prob, _, vjp = pullback(lambda x: (self.log_prob(x, level), ()), x)
        return with_likelihood(self.denoiser(x, level), self.scale * vjp(ops.ones_like(log_prob)), level)
