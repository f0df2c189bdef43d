"""Noise levels: how far a sample is from data to noise.

Throughout the library

    x_t = α·x0 + σ·ε,        ε ~ N(0, I)

α is the signal scale, σ the noise scale and t ∈ [0, 1] the time, 1 being pure noise. A `Levels` holds all three. On the
host they are float64 arrays of a whole grid; inside a compiled loop, float32 scalars (one level for the batch) or
vectors (one level per sample).
"""

from typing import Any, NamedTuple

import numpy as np
from keras import ops


class Levels(NamedTuple):
    """Times with their signal and noise scales.

    Attributes:
        t: time in [0, 1]; 1 is pure noise. Host: float64 `(n + 1,)`, decreasing when it is a sampling grid. Device:
            `()` or `(B,)`.
        alpha: signal scale α, same shape.
        sigma: noise scale σ, same shape.
    """

    t: Any
    alpha: Any
    sigma: Any

    @property
    def log_snr(self):
        """log(α²/σ²): +∞ at σ = 0, −∞ at α = 0."""
        if ops.is_tensor(self.alpha) or ops.is_tensor(self.sigma):
            return 2.0 * (ops.log(self.alpha) - ops.log(self.sigma))
        with np.errstate(divide="ignore"):
            return 2.0 * (np.log(self.alpha) - np.log(self.sigma))

    def map(self, function):
        """The same levels with a function applied to each field: `levels.map(lambda v: v[:-1])` drops the last one.

        Args:
            function: function from an array or tensor to another.

        Returns:
            `Levels`.
        """
        return Levels(*(function(field) for field in self))

    def at_unit_alpha(self):
        """The same host levels at α = 1, with σ/α for σ: the scale of k-diffusion and EDM, on which x is x/α.

        Pure noise has σ = ∞ there.

        Returns:
            `Levels` of float64 arrays.

        Example:

        >>> levels = keras_diffusion.schedulers.get("cosine").levels([0.9, 0.5, 0.1])
        >>> sigmas = levels.at_unit_alpha().sigma
        """
        with np.errstate(divide="ignore"):
            return Levels(self.t, np.ones_like(self.sigma), np.divide(self.sigma, self.alpha))

    def with_clean_end(self):
        """Host levels with a clean one, (t, α, σ) = (0, 1, 0), appended, as k-diffusion appends a zero to its sigmas.

        Returns:
            `Levels` of n + 2 entries.

        Raises:
            ValueError: the last level is clean already.
        """
        if np.size(self.sigma) and self.sigma[-1] == 0:
            raise ValueError(
                "Only the last level of a grid may be clean, and this grid's last one already is. "
                f"Received: sigma={self.sigma}"
            )
        return Levels(*(np.append(field, end) for field, end in zip(self, (0.0, 1.0, 0.0), strict=True)))


class Prediction(NamedTuple):
    """What a denoiser returns: its estimates of the clean sample and of the noise.

    Attributes:
        x0: estimate of the clean sample, a tensor `(B, ...)` shaped like x.
        eps: estimate of the noise ε, a tensor `(B, ...)` shaped like x, with x = α·x0 + σ·ε.
    """

    x0: Any
    eps: Any
