"""The residual U-Net of the Keras example "Denoising Diffusion Implicit Models".

    x ─ conv 1×1 ─┐
                  ├ concat ─┬─ level 0: R … R ──────────────── skips ────────── concat, R … concat, R ─┬─ conv 1×1 ─ out
    σ² ─ NoiseMap ┘         │      average pooling             └── each block's       bilinear ×2      │
                            │  level 1: R … R ──────────────────── output ───── concat, R …            │
                            │      average pooling                                                     │
                            └─ last level: R … R ──────────────────────────────────────────────────────┘

    R:  out = shortcut(x) + conv 3×3(swish(conv 3×3(batch norm(x))))

Small and fast, with the noise level (the noise variance σ²) given once, at the entrance. The batch normalization has
neither scale nor offset; at inference it uses the moving averages of training, so a model that has trained for a few
hundred steps only samples badly with them. They are weights like others: the average of the weights (`ema`) averages
them too, as the example does.

The last convolution starts at 0: the untrained network predicts ε = 0.

Reference: A. Béres, "Denoising diffusion implicit models", keras.io/examples/generative/ddim (2022).
"""

import keras

from keras_diffusion.layers import NoiseMap
from keras_diffusion.layers.initializers import Ones, Zeros
from keras_diffusion.layers.options import convolution
from keras_diffusion.networks.network import NETWORKS, Network, check_positive_int


@NETWORKS.register("residual_unet")
class ResidualUNet(Network):
    """U-Net of the Keras example of DDIM, for noise variances and ε-prediction.

    Use it with a predictor that tells it noise variances: `EpsilonPredictor(condition="noise_variance")`.

    Args:
        input_shape: `(H, W, C)`. H and W multiples of 2^(levels − 1), or None for any such size.
        widths: channels of each level, finest first. Default (32, 64, 96, 128).
        block_depth: residual blocks per level, on the way down and on the way up. Default 2.
        embedding_dims: channels of the noise map, even, ≥ 4. Default 32.
        embedding_max_frequency: highest frequency of the noise map. Default 1000.
        out_channels: channels of the output; None (default) for as many as the input.

    Call arguments:
        inputs: dict: "x" `(B, H, W, C)` of unit variance, "noise_level" `(B,)` noise variances.
        training: whether the batch normalization uses the batch's own statistics, and moves its averages.

    Returns:
        `(B, H, W, out_channels)`, float32 under mixed precision.

    Raises:
        ValueError: `input_shape` of another rank than 3 or of a size that the levels do not divide; sizes < 1.

    Example:

    >>> network = ResidualUNet((64, 64, 3))
    >>> network.count_params()
    1953507

    Reference:
        A. Béres, keras.io/examples/generative/ddim (2022).
    """

    def __init__(
        self,
        input_shape,
        widths=(32, 64, 96, 128),
        block_depth=2,
        embedding_dims=32,
        embedding_max_frequency=1000.0,
        out_channels=None,
        name="residual_unet",
        trainable=True,
        dtype=None,
    ):
        self.check_levels()
        check_positive_int(block_depth=block_depth)
        super().__init__(name, trainable, dtype)

    def graph(self, inputs):
        noise_map = NoiseMap(self.embedding_dims, self.embedding_max_frequency, name="noise_map")
        noise = noise_map(inputs["noise_level"], inputs["x"])
        h = convolution(2, self.widths[0], 1, name="conv_in", dtype=self.policy)(inputs["x"])
        h, skips = self.join(h, noise, "concat_in"), []
        for i, width in enumerate(self.widths[:-1]):
            for j in range(self.block_depth):
                h = self._residual(h, width, f"down_{i}_block_{j}")
                skips.append(h)
            pool = keras.layers.AveragePooling2D(
                2, data_format="channels_last", name=f"down_{i}_pool", dtype=self.policy
            )
            h = pool(h)
        for j in range(self.block_depth):
            h = self._residual(h, self.widths[-1], f"middle_block_{j}")
        for i, width in reversed(list(enumerate(self.widths[:-1]))):
            up = {"interpolation": "bilinear", "data_format": "channels_last"}
            h = keras.layers.UpSampling2D(2, **up, name=f"up_{i}_upsample", dtype=self.policy)(h)
            for j in range(self.block_depth):
                h = self.join(h, skips.pop(), f"up_{i}_concat_{j}")
                h = self._residual(h, width, f"up_{i}_block_{j}")
        return convolution(2, self.channels_out, 1, kernel_initializer="zeros", name="conv_out", dtype=self.wide)(h)

    def _residual(self, h, width, name):
        shortcut = h
        if h.shape[-1] != width:
            shortcut = convolution(2, width, 1, name=f"{name}_shortcut", dtype=self.policy)(h)
        options = {"moving_mean_initializer": Zeros(), "moving_variance_initializer": Ones(), "dtype": self.policy}
        h = keras.layers.BatchNormalization(center=False, scale=False, **options, name=f"{name}_norm")(h)
        h = convolution(2, width, 3, activation="swish", name=f"{name}_conv1", dtype=self.policy)(h)
        h = convolution(2, width, 3, name=f"{name}_conv2", dtype=self.policy)(h)
        return keras.layers.Add(name=f"{name}_add", dtype=self.policy)([h, shortcut])
