"""Predictors: what the network is asked for.

Every target in use is a row (a, b) of a linear form,  y = a·x0 + b·ε.  With the row (α, σ) of x_t itself that is a 2×2
system, so one solve turns any network's output into (x0, ε), and a new parameterization is one line: its row.

    predictor   row (a, b)                        undefined at
    epsilon     (0, 1)                            α = 0
    x0          (1, 0)                            σ = 0
    v           (−σ, α)/√(α² + σ²)                –
    velocity    (−1, 1)                           –
    edm         (σ/σ_d, −α·σ_d)/√(α²σ_d² + σ²)    –
"""

import math

import keras
from keras import ops

from keras_diffusion.configs.arguments import ArgumentsMixin
from keras_diffusion.configs.checks import check_choice, check_whole
from keras_diffusion.configs.registry import Registry
from keras_diffusion.core import gaussian
from keras_diffusion.core.precision import solver_layer_options

PREDICTORS = Registry("predictor")

# What a network may receive as its noise level. At the ends of a schedule log(σ/α) is infinite: it is cut at ±10.
_LARGEST_RATIO = math.exp(10.0)
_SMALLEST_RATIO = math.exp(-20.0)
_CONDITIONS = {
    "c_noise": lambda level, timesteps: _log_ratio(level) / 4.0,
    "c_noise_timestep": lambda level, timesteps: timesteps * _log_ratio(level) / 4.0,
    "log_snr": lambda level, timesteps: -2.0 * _log_ratio(level),
    "time": lambda level, timesteps: level.t,
    "timestep": lambda level, timesteps: level.t * timesteps - 1.0,
    "sigma": lambda level, timesteps: ops.minimum(level.sigma / level.alpha, _LARGEST_RATIO),
    "continuous_timestep": lambda level, timesteps: level.t * (timesteps - 1.0),
    "flow_timestep": lambda level, timesteps: level.sigma / (level.alpha + level.sigma) * timesteps,
    "log_half_sigma": lambda level, timesteps: _log_ratio(level) - math.log(2.0),
    "noise_variance": lambda level, timesteps: level.sigma**2,
}


def _log_ratio(level):
    return ops.clip(ops.log(level.sigma) - ops.log(level.alpha), -10.0, 10.0)


@PREDICTORS.base
class Predictor(ArgumentsMixin, keras.layers.Layer):
    """Base class: a row (a, b), and what goes with it on the way into the network.

    Args:
        condition: what the network receives as its noise level: "c_noise", log(σ/α)/4, EDM's (default);
            "c_noise_timestep", T·log(σ/α)/4, for consistency models; "log_snr"; "time", t;
            "timestep", t·T − 1, for discretely trained networks; "continuous_timestep", t·(T − 1), for those of the
            variance-preserving SDE; "flow_timestep", T·σ/(α + σ), for flow matching; "sigma", σ/α; "log_half_sigma",
            log(σ/2α), for those of the variance-exploding SDE; "noise_variance", σ².
        timesteps: T, for the conditions with a T. Default 1000.

    Call arguments:
        output: network output, `(B, ...)`.
        x_t: noisy sample, `(B, ...)`.
        alpha: signal scale, `()` or `(B,)`.
        sigma: noise scale > 0, `()` or `(B,)`.

    Returns:
        `Prediction(x0, eps)`.
    """

    def __init__(self, condition="c_noise", timesteps=1000, **kwargs):
        super().__init__(**solver_layer_options(kwargs, self))
        rule = f"`condition` names what the network is told of the noise level: {', '.join(_CONDITIONS)}"
        self.condition = check_choice("condition", condition, tuple(_CONDITIONS), rule)
        self.timesteps = check_whole("timesteps", timesteps, 1)
        self.built = True

    def row(self, alpha, sigma):
        """The row (a, b) of y = a·x0 + b·ε at given levels.

        Args:
            alpha: signal scale α, a tensor `()` or `(B,)`.
            sigma: noise scale σ, a tensor of the same shape.

        Returns:
            (a, b), shaped like `alpha` and `sigma`.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement row(alpha, sigma)")

    def input_scale(self, alpha, sigma):
        """Factor on x_t before it enters the network; 1 by default.

        Args:
            alpha: signal scale α, a tensor `()` or `(B,)`.
            sigma: noise scale σ, a tensor of the same shape.

        Returns:
            tensor shaped like `sigma`.
        """
        return ops.ones_like(sigma)

    def noise_condition(self, level):
        """What the network receives as its noise level; see `condition`.

        Args:
            level: `Levels` of tensors `()` or `(B,)`.

        Returns:
            tensor shaped like `level.sigma`. log(σ/α) is cut at ±10, and σ/α at e^10.
        """
        return _CONDITIONS[self.condition](level, self.timesteps)

    def target(self, x0, eps, alpha, sigma):
        """The output y = a·x0 + b·ε that the network should give.

        Args:
            x0: clean samples `(B, ...)`.
            eps: their noise ε, shaped like `x0`.
            alpha: signal scale α, `()` or `(B,)`.
            sigma: noise scale σ, `()` or `(B,)`.

        Returns:
            tensor `(B, ...)`.
        """
        x0, eps, alpha, sigma = self._tensors(x0, eps, alpha, sigma)
        return gaussian.mix(x0, eps, *self.row(alpha, sigma))

    def split(self, output, x_t, alpha, sigma):
        """Solves for (x0, ε) from the network's output and x_t.

        Args:
            output: network output y, `(B, ...)`. Of one with more channels than `x_t`, the first ones count: behind
                them is a learned variance.
            x_t: noisy samples `(B, ...)`, on the scale α·x0 + σ·ε.
            alpha: signal scale α, `()` or `(B,)`.
            sigma: noise scale σ > 0, `()` or `(B,)`.

        Returns:
            `Prediction(x0, eps)`, both shaped like `x_t`.

        Raises:
            ValueError: an output with fewer channels than `x_t`, which would be broadcast silently.
        """
        output, x_t, alpha, sigma = self._tensors(output, x_t, alpha, sigma)
        if len(x_t.shape) and output.shape[-1] != x_t.shape[-1]:
            if output.shape[-1] < x_t.shape[-1]:
                raise ValueError(
                    "A network that denoises has an output for every channel of its samples. Received: an output of "
                    "shape "
                    f"{tuple(output.shape)}, x_t of shape {tuple(x_t.shape)}. Channels that are known and not "
                    "denoised are the condition "
                    "“concat” of a network with `concat_channels`"
                )
            output = output[..., : x_t.shape[-1]]
        return gaussian.solve(output, x_t, self.row(alpha, sigma), alpha, sigma)

    def call(self, output, x_t, alpha, sigma):
        return self.split(output, x_t, alpha, sigma)

    def x0_error_scale(self, alpha, sigma):
        """Factor s with |error of x0|² = s·|error of the output|² at a given x_t: (σ/(a·σ − b·α))².

        At σ = 0 and α = 0, where it may be 0/0, it is that of a level close by, with |log(α²/σ²)| = 40.

        Args:
            alpha: signal scale α, a tensor `()` or `(B,)`.
            sigma: noise scale σ, a tensor of the same shape.

        Returns:
            tensor of their shape.
        """
        alpha, sigma = ops.maximum(alpha, _SMALLEST_RATIO * sigma), ops.maximum(sigma, _SMALLEST_RATIO * alpha)
        a, b = self.row(alpha, sigma)
        return ops.square(sigma / (a * sigma - b * alpha))

    def _tensors(self, *values):
        return [ops.convert_to_tensor(v, dtype=self.compute_dtype) for v in values]
