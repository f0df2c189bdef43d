"""Guidance from a pair of predictions: one with the condition, one without it (or from a weaker network), and a scale.

    y = combine(y_c, y_∅),    y = a·x0 + b·ε

outside an interval of noise levels y = y_c. A combination whose weights do not add up to 1, or that is not linear,
gives another sample for another choice of (a, b), so these say which prediction they act on. The other fields follow
from x = α·x0 + σ·ε, which thus holds for the guided prediction too.
"""

import math

from keras import ops

from keras_diffusion import predictors
from keras_diffusion.configs.checks import check_number, shown
from keras_diffusion.configs.registry import Registry
from keras_diffusion.core.broadcast import expand_to_rank, sample_axes
from keras_diffusion.core.function_denoiser import as_denoiser
from keras_diffusion.core.levels import Prediction
from keras_diffusion.denoisers.denoiser import Denoiser, as_tensors

GUIDANCES = Registry("guidance", saved=False)


@GUIDANCES.base
class PairGuidance(Denoiser):
    """Base class of guidance from a conditional and an unconditional denoiser. A subclass writes `combine`.

    Both are evaluated in one doubled batch where they share a network.

    Args:
        conditional: `Denoiser` with the condition.
        unconditional: `Denoiser` without it.
        scale: guidance scale w, a number or a scalar tensor; 1 is the conditional prediction.
        interval: (low, high): guide only where low < σ/α ≤ high, else return the conditional prediction. The doubled
            batch is evaluated either way, so that one program serves all steps. Default: everywhere.
        rescale: share φ in [0, 1] of the guided prediction whose contrast is set back, see `RescaledGuidance`. None
            (default) is off.
        predictor: `Predictor`, or its name: the prediction that is combined. Default "x0".

    Raises:
        ValueError: an interval that is empty, or φ outside [0, 1].

    Reference:
        interval: Kynkäänniemi et al. 2024, arXiv:2404.07724.
    """

    def __init__(self, conditional, unconditional, scale, interval=None, rescale=None, predictor="x0"):
        check_number(
            "rescale",
            rescale,
            0,
            1,
            rule="`rescale` is a share and must lie in [0, 1], or be None for none",
            optional=True,
        )
        if not ops.is_tensor(scale):
            scale = check_number("scale", scale)
        self.interval = None if interval is None else _range_of(interval)
        self.scale, self.predictor = scale, predictors.get(predictor)
        self.conditional = as_denoiser(conditional, "conditional")
        self.unconditional = as_denoiser(unconditional, "unconditional")

    def __call__(self, x, level):
        x, level = as_tensors(x, level)
        conditional, unconditional = self.conditional.together(self.unconditional, x, level)
        guided = self.guide(conditional, unconditional, x, level)
        inside = self.inside(x, level)
        if inside is None:
            return guided
        return Prediction(*(ops.where(inside, g, c) for g, c in zip(guided, conditional, strict=True)))

    def guide(self, conditional, unconditional, x, level):
        """The guided prediction of two others, inside the interval.

        Args:
            conditional: `Prediction` with the condition, of tensors `(B, ...)`.
            unconditional: `Prediction` without it.
            x: noisy samples `(B, ...)`.
            level: their `Levels`.

        Returns:
            `Prediction` with x = α·x0 + σ·ε.
        """
        conditional, unconditional = (
            self.predictor.target(*p, level.alpha, level.sigma) for p in (conditional, unconditional)
        )
        guided = self.combine(conditional, unconditional, x, level)
        if self.rescale is not None:
            guided = rescaled(guided, conditional, self.rescale)
        return self.predictor.split(guided, x, level.alpha, level.sigma)

    def combine(self, conditional, unconditional, x, level):
        """The guided output of two outputs, in terms of `predictor`.

        Args:
            conditional: y_c, a tensor `(B, ...)`.
            unconditional: y_∅, a tensor `(B, ...)`.
            x: noisy samples `(B, ...)`.
            level: their `Levels`.

        Returns:
            y, a tensor `(B, ...)`.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement combine(conditional, unconditional, x, level)")

    def inside(self, x, level):
        """Whether the level is within the interval.

        Args:
            x: noisy samples `(B, ...)`.
            level: their `Levels`.

        Returns:
            boolean tensor that broadcasts to `x`, or None where there is no interval.
        """
        if self.interval in (None, (0.0, math.inf)):
            return None
        ratio = level.sigma / level.alpha
        return expand_to_rank(ops.logical_and(ratio > self.interval[0], ratio <= self.interval[1]), x)


def rescaled(guided, conditional, share):
    """`guided`, a share of it scaled to each sample's standard deviation in `conditional` (Lin et al.

    2023, section 3.4).
    """
    axes = sample_axes(guided)
    std, wanted = (ops.std(y, axis=axes, keepdims=True) for y in (guided, conditional))
    # A sample without contrast has no scale: it stays as it is.
    factor = ops.where(std > 0, wanted / ops.where(std > 0, std, 1.0), 1.0)
    return share * factor * guided + (1.0 - share) * guided


def _range_of(interval):
    """A guidance interval as a pair of floats."""
    rule = "A guidance interval is a range of σ/α with 0 <= low < high"
    if not isinstance(interval, (list, tuple)) or len(interval) != 2:
        raise ValueError(f"{rule}. Received: interval={shown(interval)}")
    low, high = (check_number("interval", number, rule=rule, finite=False) for number in interval)
    if not 0 <= low < high:
        raise ValueError(f"{rule}. Received: interval={shown(interval)}")
    return low, high
