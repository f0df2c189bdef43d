"""What the network predicts: noise, clean sample, v, velocity, or EDM's preconditioned output."""

from keras_diffusion.predictors.edm import EDMPredictor
from keras_diffusion.predictors.epsilon import EpsilonPredictor
from keras_diffusion.predictors.predictor import PREDICTORS, Predictor
from keras_diffusion.predictors.v import VPredictor
from keras_diffusion.predictors.velocity import VelocityPredictor
from keras_diffusion.predictors.x0 import X0Predictor

get, names = PREDICTORS.functions()

__all__ = [
    "EDMPredictor",
    "EpsilonPredictor",
    "Predictor",
    "VPredictor",
    "VelocityPredictor",
    "X0Predictor",
    "get",
    "names",
]
__dir__ = __all__.copy
