"""Plain functions as denoisers: `lambda x, level: (x0, ε)` is one.

What a function returns is checked when it is called, which compiled programs do once.
"""

import keras

from keras_diffusion.configs.checks import shown
from keras_diffusion.core.levels import Prediction


def as_denoiser(denoiser, name="denoise"):
    """`denoiser` itself, or a plain function as a denoiser.

    Args:
        denoiser: a `Denoiser`, or a function of (x, level) that returns (x0, ε), both shaped like x.
        name: of the argument, for the message.

    Returns:
        a denoiser, `FunctionDenoiser` for a function.

    Raises:
        ValueError: anything else.
    """
    if hasattr(denoiser, "parts") and not isinstance(denoiser, type):
        return denoiser
    if not callable(denoiser) or isinstance(denoiser, (type, keras.layers.Layer)):
        raise ValueError(
            f"`{name}` must be a denoiser: a function of (x, level) that returns (x0, ε). Received: "
            f"{name}={shown(denoiser)}. A network becomes one with its predictor, "
            "`denoisers.NetworkDenoiser(network, predictor)`, a model with `model.denoiser()`"
        )
    return FunctionDenoiser(denoiser)


class FunctionDenoiser:
    """A function of (x, level) as a denoiser that remembers nothing.

    Args:
        function: function of (x, level) that returns (x0, ε).

    Call arguments:
        x: noisy samples `(B, ...)`.
        level: `Levels` of scalars `()` or per-sample vectors `(B,)`.

    Returns:
        `Prediction`, both fields shaped like `x`.

    Raises:
        ValueError: when called, if the function returns anything else than two tensors shaped like x.
    """

    def __init__(self, function):
        self.function = function

    def __call__(self, x, level):
        result = self.function(x, level)
        pair = result if isinstance(result, (tuple, list)) and len(result) == 2 else ()
        if not pair or any(tuple(getattr(value, "shape", ())) != tuple(x.shape) for value in pair):
            raise ValueError(
                f"A denoiser returns (x0, ε), two tensors of the shape of x, {tuple(x.shape)}. Received: "
                f"{shown(result)}. Where x0 is known, ε is (x − α·x0)/σ: return `Prediction(x0, "
                "(x - level.alpha * x0) / level.sigma)`"
            )
        return Prediction(*pair)

    def __repr__(self):
        return repr(self.function)

    def parts(self):
        """Nothing: a function remembers nothing, and wraps nothing that is known."""
        return []

    def together(self, other, x, level):
        """Two denoisers at the same samples.

        Args:
            other: a denoiser.
            x: noisy samples `(B, ...)`.
            level: their `Levels`.

        Returns:
            (self(x, level), other(x, level)).
        """
        return self(x, level), other(x, level)
