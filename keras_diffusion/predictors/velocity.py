"""Velocity prediction: the derivative along the straight line of flow matching, u = ε − x0."""

from keras import ops

from keras_diffusion.predictors.predictor import PREDICTORS, Predictor


@PREDICTORS.register("velocity", "flow", "flow_prediction")
class VelocityPredictor(Predictor):
    """y = ε − x0. Arguments: see `Predictor`.

    Example:

    >>> predictor = kd.predictors.VelocityPredictor()
    >>> [round(float(number), 3) for number in predictor.row(0.8, 0.6)]  # (a, b) at α = 0.8, σ = 0.6
    [-1.0, 1.0]

    Reference:
        Lipman et al. 2022, arXiv:2210.02747; Liu et al. 2022, arXiv:2209.03003.
    """

    def row(self, alpha, sigma):
        return -ops.ones_like(alpha), ops.ones_like(sigma)
