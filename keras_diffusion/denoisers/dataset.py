"""The ideal denoiser of a finite data set: what a network of unlimited capacity would learn, namely the training set by
heart.

    p(x0) = 1/N·Σ_i δ(x0 − x_i)     ⇒     x0(x, α, σ) = Σ_i softmax_i(−|x − α·x_i|²/(2σ²))·x_i

Sampling with it returns training points. That makes it a check of every schedule, predictor and sampler, and a
yardstick of what "memorized" means.
"""

from keras import ops

from keras_diffusion.configs.checks import check_array
from keras_diffusion.core.broadcast import expand_to_rank
from keras_diffusion.denoisers.denoiser import Denoiser, as_tensors, with_x0


class DatasetDenoiser(Denoiser):
    """Posterior mean over a finite data set.

    Args:
        data: array `(N, ...)`, N ≥ 1. All of it is compared with every sample: meant for thousands of small images.

    Raises:
        ValueError: no data.

    Example:

    >>> denoise = kd.denoisers.DatasetDenoiser([[-1.0, 0.0], [1.0, 0.0]])
    >>> x0, eps = denoise(x, level)
    """

    def __init__(self, data):
        self.data = check_array("data", data)
        if self.data.ndim < 1 or len(self.data) == 0:
            raise ValueError(
                f"The denoiser of a data set needs at least one sample. Received: an array of shape {self.data.shape}"
            )

    def __call__(self, x, level):
        x, level = as_tensors(x, level)
        data = ops.convert_to_tensor(self.data.reshape(len(self.data), -1), dtype=x.dtype)
        flat = ops.reshape(x, (-1, data.shape[1]))
        alpha, sigma = expand_to_rank(level.alpha, flat), expand_to_rank(level.sigma, flat)
        # |x − α·x_i|² without its part that all i share; the products are one matrix multiplication.
        logits = (alpha * ops.matmul(flat, ops.transpose(data)) - 0.5 * alpha**2 * ops.sum(data**2, axis=-1)) / sigma**2
        return with_x0(x, ops.reshape(ops.matmul(ops.softmax(logits, axis=-1), data), ops.shape(x)), level)
