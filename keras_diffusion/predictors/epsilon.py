"""ε-prediction: the network says which noise was added.

DDPM's choice; undefined at α = 0, where x_t is nothing but ε.
"""

from keras import ops

from keras_diffusion.predictors.predictor import PREDICTORS, Predictor


@PREDICTORS.register("epsilon", "eps", "noise", "EpsilonPredictionTransform")
class EpsilonPredictor(Predictor):
    """y = ε. Arguments: see `Predictor`.

    Example:

    >>> predictor = kd.predictors.EpsilonPredictor()
    >>> [round(float(number), 3) for number in predictor.row(0.8, 0.6)]  # (a, b) at α = 0.8, σ = 0.6
    [0.0, 1.0]

    Reference:
        Ho et al. 2020, arXiv:2006.11239, eq. 12.
    """

    def row(self, alpha, sigma):
        return ops.zeros_like(alpha), ops.ones_like(sigma)
