"""Classifier-free guidance: away from what the network says without the condition.

    y = y_∅ + w·(y_c − y_∅)

w = 1 is the conditional prediction itself, w = 0 the unconditional one, w > 1 exaggerates the condition at the price of variety.
x0 and ε are both linear in the network's output, so it makes no difference which of them is extrapolated.
"""

import math

from keras import ops

from keras_diffusion.core.broadcast import expand_to_rank
from keras_diffusion.core.levels import Prediction
from keras_diffusion.denoisers.denoiser import Denoiser


class ClassifierFreeGuidance(Denoiser):
    """Extrapolates from an unconditional to a conditional denoiser; both are evaluated in one doubled batch where they share a network.

    Args:
        conditional: `Denoiser` with the condition.
        unconditional: `Denoiser` without it.
        scale: guidance scale w, a number or a scalar tensor.
        interval: (low, high): guide only where low < σ/α ≤ high, else return the conditional prediction. The doubled batch is
            evaluated either way, so that one program serves all steps. Default: everywhere.

    Raises:
        ValueError: an interval that is empty.

    Reference:
        Ho & Salimans 2022, arXiv:2207.12598; interval: Kynkäänniemi et al. 2024, arXiv:2404.07724.
    """

    def __init__(self, conditional, unconditional, scale, interval=None):
        low, high = interval or (0.0, math.inf)
        if not 0 <= low < high:
            raise ValueError(f"A guidance interval is a range of σ/α with 0 <= low < high. Received: interval={interval}")
        self.conditional, self.unconditional, self.scale, self.interval = conditional, unconditional, scale, (low, high)

    def __call__(self, x, level):
        conditional, unconditional = self.conditional.together(self.unconditional, x, level)
        scale = self.scale
        if self.interval != (0.0, math.inf):
            ratio = level.sigma / level.alpha
            inside = ops.logical_and(ratio > self.interval[0], ratio <= self.interval[1])
            scale = expand_to_rank(ops.where(inside, scale, 1.0), x)
        return Prediction(*(u + scale * (c - u) for c, u in zip(conditional, unconditional, strict=True)))
