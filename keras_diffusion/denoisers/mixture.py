"""The exact denoiser of a Gaussian mixture: a diffusion model without a network.

    p(x0) = Σ_k w_k·N(μ_k, s_k²·I)      ⇒      p(x_t) = Σ_k w_k·N(α·μ_k, v_k·I),   v_k = α²s_k² + σ²

    r_k = softmax_k(log w_k − d/2·log v_k − |x − α·μ_k|²/(2·v_k))
    x0  = Σ_k r_k·(μ_k + α·s_k²/v_k·(x − α·μ_k)),     ε = Σ_k r_k·σ/v_k·(x − α·μ_k)

With it a solver's error is the solver's alone: orders can be measured and densities compared without training anything.
"""

import math

import numpy as np
from keras import ops

from keras_diffusion.configs.checks import check_array
from keras_diffusion.configs.registry import serializable
from keras_diffusion.core.levels import Levels, Prediction
from keras_diffusion.core.noise import check_seed
from keras_diffusion.core.precision import solver_dtype
from keras_diffusion.denoisers.denoiser import Denoiser


@serializable
class MixtureDenoiser(Denoiser):
    """Posterior means of x0 and ε for a mixture of isotropic Gaussians.

    Args:
        weights: `(K,)` positive numbers; normalized to sum 1.
        means: `(K, ...)`, the components' means, shaped like samples.
        stds: `(K,)` standard deviations ≥ 0; 0 is a point mass.

    Raises:
        ValueError: lengths differ, weights not positive, or negative standard deviations.

    Example:

    >>> denoise = kd.denoisers.MixtureDenoiser([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.0]], [0.2, 0.2])
    >>> x0, eps = denoise(x, level)
    >>> denoise.sample(3).shape, tuple(denoise.log_prob(x).shape)
    ((3, 2), (2,))
    """

    def __init__(self, weights, means, stds):
        given = (("weights", weights), ("means", means), ("stds", stds))
        self.weights, self.means, self.stds = (check_array(name, value, "float64") for name, value in given)
        if not (
            self.weights.ndim == self.stds.ndim == 1 and len(self.weights) == len(self.means) == len(self.stds) > 0
        ):
            raise ValueError(
                "A mixture needs one weight, one mean and one standard deviation per component. "
                f"Received shapes: weights {self.weights.shape}, means {self.means.shape}, stds {self.stds.shape}"
            )
        if not np.all(self.weights > 0) or not np.all(self.stds >= 0):
            raise ValueError(
                f"Weights must be positive and standard deviations not negative. Received: weights={self.weights}, "
                f"stds={self.stds}"
            )
        self.weights = self.weights / self.weights.sum()

    def __call__(self, x, level):
        x = ops.convert_to_tensor(x, dtype=solver_dtype())
        logits, offset, variance = self._components(x, level)
        means, stds = self._tensor(self.means.reshape(1, len(self.weights), -1)), self._tensor(self.stds[None])
        alpha, sigma = _columns(level, x)
        share = ops.softmax(logits, axis=-1)[..., None]
        x0 = ops.sum(share * (means + (alpha * stds**2 / variance)[..., None] * offset), axis=1)
        eps = ops.sum(share * (sigma / variance)[..., None] * offset, axis=1)
        return Prediction(ops.reshape(x0, ops.shape(x)), ops.reshape(eps, ops.shape(x)))

    def log_prob(self, x, level=None):
        """Log-density of the mixture itself, or of its noisy density at a level.

        Args:
            x: points `(B, ...)`.
            level: `Levels` of one level or of one per point; None (default) for clean samples.

        Returns:
            tensor `(B,)`, in nats.

        Raises:
            ValueError: a clean level and a component that is a point, which has no density.
        """
        if level is None and not np.all(self.stds > 0):
            raise ValueError(f"A point has no density; take a level with noise. Received: level=None, stds={self.stds}")
        x = ops.convert_to_tensor(x, dtype=solver_dtype())
        logits, _, _ = self._components(x, Levels(0.0, 1.0, 0.0) if level is None else level)
        return ops.logsumexp(logits, axis=-1) - 0.5 * math.prod(self.means.shape[1:]) * math.log(2 * math.pi)

    def _components(self, x, level):
        """log(w_k·N(x; α·μ_k, v_k)) without its constant (B, K), x − α·μ_k (B, K, D), and v_k (B or 1, K)."""
        dims = math.prod(self.means.shape[1:])
        means = self._tensor(self.means.reshape(1, len(self.weights), dims))
        stds, log_weights = self._tensor(self.stds[None]), self._tensor(np.log(self.weights)[None])
        alpha, sigma = _columns(level, x)
        variance = alpha**2 * stds**2 + sigma**2
        offset = ops.reshape(x, (-1, 1, dims)) - alpha[..., None] * means
        return (
            log_weights - 0.5 * dims * ops.log(variance) - 0.5 * ops.sum(offset**2, axis=-1) / variance,
            offset,
            variance,
        )

    def sample(self, num_samples, level=None, seed=0):
        """Draws from the mixture itself, or from its noisy density at a level.

        Args:
            num_samples: number of samples n.
            level: `Levels` of one level, or None for clean samples.
            seed: int.

        Returns:
            float64 array `(n, ...)`.
        """
        rng = np.random.default_rng(check_seed(seed))
        component = rng.choice(len(self.weights), num_samples, p=self.weights)
        shape = self.means[component].shape
        stds = self.stds[component].reshape((-1,) + (1,) * (len(shape) - 1))
        x = self.means[component] + stds * rng.standard_normal(shape)
        return x if level is None else level.alpha * x + level.sigma * rng.standard_normal(shape)

    def _tensor(self, value):
        return ops.convert_to_tensor(value, dtype=solver_dtype())


def _columns(level, x):
    """α and σ as (B, 1) or (1, 1), against the components' (1, K)."""
    return tuple(ops.reshape(ops.convert_to_tensor(v, dtype=x.dtype), (-1, 1)) for v in (level.alpha, level.sigma))
