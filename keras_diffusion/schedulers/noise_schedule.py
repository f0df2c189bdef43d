"""Noise schedules: how much signal and how much noise there is at time t.

    x_t = α(t)·x0 + σ(t)·ε,     t ∈ [0, 1],  t = 1 is (nearly) pure noise

A schedule is only this curve t → (α, σ). Which t training draws is a time distribution's business, which t a sampler
visits a spacing's. What matters of a curve is its log-SNR λ = log(α²/σ²), which must fall from t = 0 to t = 1; two
schedules with the same λ differ by a factor on x alone.

A curve may end exactly at σ(0) = 0 (λ = +∞) or at α(1) = 0 (λ = −∞); nothing here divides by either.
"""

import keras
import numpy as np
from keras import ops

from keras_diffusion.configs.arguments import ArgumentsMixin
from keras_diffusion.configs.checks import check_array
from keras_diffusion.configs.registry import Registry
from keras_diffusion.core.levels import Levels
from keras_diffusion.core.precision import solver_layer_options

SCHEDULES = Registry("noise schedule")


@SCHEDULES.base
class NoiseSchedule(ArgumentsMixin, keras.layers.Layer):
    """Base class: a curve t → (α, σ).

    Subclasses write the formula once, in `alpha_sigma`, for NumPy (host, float64) and for `keras.ops` (device,
    float32), and the inverse `time` where it has a closed form.

    Args:
        spacing: the spacing that `generate` uses by default: a name, or a dict with options. None (default):
            the class's own.

    Call arguments:
        t: times in [0, 1], a tensor of any shape.

    Returns:
        (alpha, sigma), tensors shaped like `t`.
    """

    spacing = "linspace"
    timesteps = None  # number of noise levels of a discretely trained network

    def __init__(self, spacing=None, **kwargs):
        super().__init__(**solver_layer_options(kwargs, self))
        if spacing is None:
            del vars(self)["spacing"]  # the class's attribute counts
        self.built = True

    def alpha_sigma(self, t, xp):
        """The formula of the curve, written once for the host and the device.

        Args:
            t: times in [0, 1], of any shape `(...,)`: a float64 array for NumPy, a tensor for `keras.ops`.
            xp: the namespace to compute with, `numpy` or `keras.ops`.

        Returns:
            (alpha, sigma), shaped like `t`.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement alpha_sigma(t, xp)")

    def call(self, t):
        return self.alpha_sigma(ops.convert_to_tensor(t, dtype=self.compute_dtype), ops)

    def levels(self, t):
        """The levels at times `t`, on the host.

        Args:
            t: array-like of times in [0, 1], of any shape `(...,)`; not the timesteps 0 … T − 1, of which i is the
                time (i + 1)/T.

        Returns:
            `Levels` of float64 NumPy arrays shaped like `t`.

        Raises:
            ValueError: a time outside [0, 1] or not finite.
        """
        t = check_array("t", t, "float64", finite=False)
        if not np.all((t >= 0) & (t <= 1)):
            raise ValueError(f"Times of a noise schedule lie in [0, 1], 1 being pure noise. Received: t={t}")
        alpha, sigma = self.alpha_sigma(t, np)
        return Levels(t, np.asarray(alpha, "float64"), np.asarray(sigma, "float64"))

    def log_snr(self, t):
        """λ(t) = log(α²/σ²), which falls from clean to noisy.

        Args:
            t: tensor or array-like of times in [0, 1], of any shape `(...,)`.

        Returns:
            log-SNR shaped like `t`, a tensor for a tensor, a float64 array for anything else. It is ∞ where σ = 0 and
            −∞ where α = 0.

        Raises:
            ValueError: a time outside [0, 1] or not finite, unless they are a tensor.
        """
        if ops.is_tensor(t):
            return Levels(t, *self.alpha_sigma(t, ops)).log_snr
        return self.levels(t).log_snr

    def time(self, log_snr):
        """The inverse of `log_snr`: the time at which the log-SNR is `log_snr`.

        Args:
            log_snr: tensor or array-like of any shape `(...,)`; beyond the curve's ends the result is clipped or
                extrapolated.

        Returns:
            times, a tensor for a tensor, a float64 array for anything else.
        """
        if ops.is_tensor(log_snr):
            return self.time_at(log_snr, ops)
        with np.errstate(over="ignore", divide="ignore"):
            return np.asarray(self.time_at(np.asarray(log_snr, "float64"), np), "float64")

    def time_at(self, log_snr, xp):
        """`time` for one namespace. The base class bisects, which needs nothing but a falling log-SNR.

        Args:
            log_snr: array or tensor of any shape `(...,)`.
            xp: the namespace to compute with, `numpy` or `keras.ops`.

        Returns:
            times shaped like `log_snr`.
        """
        low, high = xp.zeros_like(log_snr), xp.ones_like(log_snr)  # λ(low) ≥ log_snr ≥ λ(high)
        for _ in range(64 if xp is np else 32):
            middle = 0.5 * (low + high)
            too_clean = Levels(middle, *self.alpha_sigma(middle, xp)).log_snr > log_snr
            low, high = xp.where(too_clean, middle, low), xp.where(too_clean, high, middle)
        return 0.5 * (low + high)

    def compute_output_shape(self, input_shape):
        return input_shape, input_shape

    def get_config(self):
        config = super().get_config()
        if self.spacing == type(self).spacing:
            del config["spacing"]
        return config
