"""Classifier-free guidance: away from what the network says without the condition.

    y = y_∅ + w·(y_c − y_∅)

w = 1 is the conditional prediction itself, w = 0 the unconditional one, w > 1 exaggerates the condition at the price of
variety. x0 and ε are both linear in the network's output, so it makes no difference which of them is extrapolated.
"""

from keras_diffusion.core.levels import Prediction
from keras_diffusion.guidance.pair import GUIDANCES, PairGuidance


@GUIDANCES.register("classifier_free", "cfg")
class ClassifierFreeGuidance(PairGuidance):
    """Extrapolates from an unconditional to a conditional denoiser. Arguments: see `PairGuidance`.

    Example:

    >>> guided = kd.guidance.ClassifierFreeGuidance(conditional, unconditional, scale=3.0)
    >>> x0, eps = guided(x, level)

    Reference:
        Ho & Salimans 2022, arXiv:2207.12598, eq. 6 (its w is w − 1 here).
    """

    def __init__(self, conditional, unconditional, scale, interval=None):
        super().__init__(conditional, unconditional, scale, interval)

    @property
    def weight(self):
        """w of the formula."""
        return self.scale

    def guide(self, conditional, unconditional, x, level):
        return Prediction(*(u + self.weight * (c - u) for c, u in zip(conditional, unconditional, strict=True)))
