"""v-prediction: the direction along the circle of (α, σ).

ε where x_t is clean, −x0 where it is noise: defined everywhere.
"""

from keras import ops

from keras_diffusion.predictors.predictor import PREDICTORS, Predictor


@PREDICTORS.register("v", "v_prediction", "VPredictionTransform")
class VPredictor(Predictor):
    """y = (α·ε − σ·x0)/√(α² + σ²). The root is 1 for variance-preserving schedules. Arguments: see `Predictor`.

    Example:

    >>> predictor = kd.predictors.VPredictor()
    >>> [round(float(number), 3) for number in predictor.row(0.8, 0.6)]  # (a, b) at α = 0.8, σ = 0.6
    [-0.6, 0.8]

    Reference:
        Salimans & Ho 2022, arXiv:2202.00512, appendix D.
    """

    def row(self, alpha, sigma):
        norm = ops.sqrt(ops.square(alpha) + ops.square(sigma))
        return -sigma / norm, alpha / norm
