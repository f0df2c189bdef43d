"""ε-prediction: the network says which noise was added.

DDPM's choice; undefined at α = 0, where x_t is nothing but ε.
"""

from keras import ops

from keras_diffusion.predictors.predictor import PREDICTORS, Predictor


@PREDICTORS.register("epsilon", "eps", "noise", "EpsilonPredictionTransform")
class EpsilonPredictor(Predictor):
    """y = ε. Arguments: see `Predictor`.

    Reference:
        Ho et al. 2020, arXiv:2006.11239, eq. 12.
    """

    def row(self, alpha, sigma):
        return ops.zeros_like(alpha), ops.ones_like(sigma)
