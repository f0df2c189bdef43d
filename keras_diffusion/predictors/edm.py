"""EDM preconditioning: input and output of the network have unit variance at every noise level.

    D(x; σ) = c_skip·x + c_out·F(c_in·x)
    c_skip = σ_d²/(σ² + σ_d²),  c_out = σ·σ_d/√(σ² + σ_d²),  c_in = 1/√(σ² + σ_d²)

Written as a row of (x0, ε), F is v-prediction with the sign turned and the data's scale put in: F = (σ/σ_d·x0 −
α·σ_d·ε)/√(α²σ_d² + σ²).
"""

from keras import ops

from keras_diffusion.configs.checks import check_choice, check_number
from keras_diffusion.predictors.predictor import PREDICTORS, Predictor


@PREDICTORS.register("edm", "KarrasEDMPredictor", "KarrasPredictionTransform")
class EDMPredictor(Predictor):
    """y = (σ/σ_d·x0 − α·σ_d·ε)/√(α²σ_d² + σ²), with the input scaled by 1/√(α²σ_d² + σ²).

    Args:
        sigma_data: standard deviation σ_d of the data, > 0. Default 0.5, about right for images in [−1, 1].
        prediction: "epsilon" (default), y as above, EDM's own: near pure noise it points to x0, near clean samples to
            −ε. "v": −y, the same with the sign turned, as diffusers' EDM schedulers have it for "v_prediction".
        condition: see `Predictor`.
        timesteps: see `Predictor`.

    Example:

    >>> predictor = kd.predictors.EDMPredictor(sigma_data=0.5)
    >>> [round(float(number), 3) for number in predictor.row(0.8, 0.6)]  # (a, b) at α = 0.8, σ = 0.6
    [1.664, -0.555]

    Reference:
        Karras et al. 2022, arXiv:2206.00364, table 1, last column.
    """

    def __init__(self, sigma_data=0.5, condition="c_noise", timesteps=1000, prediction="epsilon", **kwargs):
        super().__init__(condition, timesteps, **kwargs)
        rule = "`sigma_data` is a standard deviation and must be positive"
        self.sigma_data = check_number("sigma_data", sigma_data, above=0, rule=rule)
        rule = "`prediction` gives the sign of the output: 'epsilon' or 'v'"
        self.prediction = check_choice("prediction", prediction, ("epsilon", "v"), rule=rule)

    def row(self, alpha, sigma):
        scale = self.input_scale(alpha, sigma)
        scale = -scale if self.prediction == "v" else scale
        return sigma * scale / self.sigma_data, -alpha * self.sigma_data * scale

    def input_scale(self, alpha, sigma):
        return 1.0 / ops.sqrt(ops.square(alpha * self.sigma_data) + ops.square(sigma))
