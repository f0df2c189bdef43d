"""x0-prediction: the network says what the clean sample is; ε then follows by dividing by σ."""

from keras import ops

from keras_diffusion.predictors.predictor import PREDICTORS, Predictor


@PREDICTORS.register("x0", "sample", "DirectPredictionTransform")
class X0Predictor(Predictor):
    """y = x0. Arguments: see `Predictor`.

    Example:

    >>> predictor = kd.predictors.X0Predictor()
    >>> [round(float(number), 3) for number in predictor.row(0.8, 0.6)]  # (a, b) at α = 0.8, σ = 0.6
    [1.0, 0.0]

    Reference:
        Salimans & Ho 2022, arXiv:2202.00512, section 4.
    """

    def row(self, alpha, sigma):
        return ops.ones_like(alpha), ops.zeros_like(sigma)
