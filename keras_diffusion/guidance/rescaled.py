"""Rescaled guidance: classifier-free guidance whose contrast is that of the conditional prediction.

    y = y_∅ + w·(y_c − y_∅)
    y ← φ·y·std(y_c)/std(y) + (1 − φ)·y        std over all of a sample

A large w makes y larger than any prediction, and images overexposed. The mean is scaled along with the contrast, so
samples whose mean carries meaning (a bright picture, a point in the plane) are moved.
"""

from keras_diffusion.guidance.pair import GUIDANCES, PairGuidance


@GUIDANCES.register("rescale", "rescaled")
class RescaledGuidance(PairGuidance):
    """Classifier-free guidance with its standard deviation set back by a share φ.

    Args:
        conditional, unconditional, scale, interval, predictor: see `PairGuidance`.
        rescale: φ in [0, 1]. Default 0.7.

    Example:

    >>> guided = kd.guidance.RescaledGuidance(conditional, unconditional, scale=5.0, rescale=0.7)
    >>> x0, eps = guided(x, level)

    Reference:
        Lin et al. 2023, arXiv:2305.08891, section 3.4, on x0 (the paper takes the output of its network, v).
    """

    def __init__(self, conditional, unconditional, scale, rescale=0.7, interval=None, predictor="x0"):
        super().__init__(conditional, unconditional, scale, interval, rescale, predictor)

    def combine(self, conditional, unconditional, x, level):
        return unconditional + self.scale * (conditional - unconditional)
