"""The Gaussian corruption x_t = α·x0 + σ·ε, forwards and backwards.

Whatever a network predicts is a row (a, b):  y = a·x0 + b·ε. With the row of x_t itself, this is a 2×2 linear system in
(x0, ε):

    ⎡α σ⎤ ⎡x0⎤   ⎡x_t⎤            x0 = (b·x_t − σ·y) / (α·b − σ·a)
    ⎣a b⎦ ⎣ε ⎦ = ⎣ y ⎦            ε  = (α·y − a·x_t) / (α·b − σ·a)

The determinant vanishes where the output repeats x_t: for x0-prediction at σ = 0, where x_t is x0, and for ε-prediction
at α = 0, where x_t is ε. Evaluate at σ > 0 only.
"""

from keras_diffusion.core.broadcast import expand_to_rank
from keras_diffusion.core.levels import Prediction


def mix(x0, eps, alpha, sigma):
    """The noisy sample x_t = α·x0 + σ·ε.

    Args:
        x0: clean samples `(B, ...)`.
        eps: standard normal noise, shaped like `x0`.
        alpha: signal scale α, `()` or `(B,)`.
        sigma: noise scale σ, `()` or `(B,)`.

    Returns:
        tensor `(B, ...)`.
    """
    return expand_to_rank(alpha, x0) * x0 + expand_to_rank(sigma, x0) * eps


def solve(output, x_t, row, alpha, sigma):
    """Solves the 2×2 system above.

    Args:
        output: network output y, `(B, ...)`.
        x_t: noisy sample, shaped like `output`.
        row: (a, b), each `()` or `(B,)`.
        alpha: signal scale, `()` or `(B,)`.
        sigma: noise scale, `()` or `(B,)`.

    Returns:
        `Prediction(x0, eps)`, each shaped like `x_t`.
    """
    a, b = row
    det = alpha * b - sigma * a
    # The four ratios are scalars per sample: compute them before they are broadcast to full tensors.
    x_to_x0, y_to_x0, y_to_eps, x_to_eps = (expand_to_rank(v / det, x_t) for v in (b, sigma, alpha, a))
    return Prediction(x_to_x0 * x_t - y_to_x0 * output, y_to_eps * output - x_to_eps * x_t)
