"""v-prediction: the direction along the circle of (α, σ).

ε where x_t is clean, −x0 where it is noise: defined everywhere.
"""

from keras import ops

from keras_diffusion.predictors.predictor import PREDICTORS, Predictor


@PREDICTORS.register("v", "v_prediction", "VPredictionTransform")
class VPredictor(Predictor):
    """y = (α·ε − σ·x0)/√(α² + σ²). The root is 1 for variance-preserving schedules. Arguments: see `Predictor`.

    Reference:
        Salimans & Ho 2022, arXiv:2202.00512, appendix D.
    """

    def row(self, alpha, sigma):
        norm = ops.sqrt(ops.square(alpha) + ops.square(sigma))
        return -sigma / norm, alpha / norm
