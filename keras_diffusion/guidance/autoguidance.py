"""Autoguidance: away from a weaker version of the same network.

    y = y_weak + w·(y − y_weak)

The weak network makes the errors of the good one, only larger: smaller, less trained, or both, with the same data and
condition. Going away from it removes errors and keeps the variety that classifier-free guidance gives up. A network
that is weak in another way (other data, another degradation) points in some other direction.
"""

from keras_diffusion.guidance.classifier_free import ClassifierFreeGuidance


class Autoguidance(ClassifierFreeGuidance):
    """Extrapolates from a weak to a good denoiser.

    Args:
        denoiser: `Denoiser`, the good one.
        weak: `Denoiser`, the weak one, on the same scale of noise levels.
        scale: guidance scale w, a number or a scalar tensor; 1 is off.
        interval: (low, high): guide only where low < σ/α ≤ high. Default: everywhere.

    Raises:
        ValueError: an interval that is empty.

    Example:

    >>> guided = kd.guidance.Autoguidance(conditional, weak, scale=2.0)
    >>> x0, eps = guided(x, level)

    Reference:
        Karras et al. 2024, arXiv:2406.02507, section 4.
    """

    def __init__(self, denoiser, weak, scale, interval=None):
        super().__init__(denoiser, weak, scale, interval)
