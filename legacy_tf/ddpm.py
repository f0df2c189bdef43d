"""Denoising diffusion probabilistic models in TensorFlow 2 style: a U-Net, a table of betas, a `train_step`.

    q(x_t | x_0) = N(√ᾱ_t·x_0, (1 − ᾱ_t)·I),   ᾱ_t = Π(1 − β_s),   β from 1e-4 to 0.02 on a line, t = 0 … T−1

The network sees x_t and the integer t and predicts the noise ε. Layers, their order and their names are those of the
Keras example "Denoising Diffusion Probabilistic Models" (A. K. Nain, 2022), so that checkpoints of that example fit.

Reference:
    Ho et al. 2020, arXiv:2006.11239; DDIM: Song et al. 2020, arXiv:2010.02502.
"""

import math

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tf_keras import layers

# What the published checkpoint was trained with, on 64×64 photographs of flowers.
PUBLISHED = {
    "image_size": 64,
    "image_channels": 3,
    "first_conv_channels": 64,
    "widths": (64, 128, 256, 512),
    "has_attention": (False, False, True, True),
    "num_res_blocks": 2,
    "norm_groups": 8,
}


class GaussianDiffusion:
    """The forward process and its reversal, by tables that are indexed with t.

    Args:
        beta_start: β_0. Default 1e-4.
        beta_end: β_{T−1}. Default 0.02.
        timesteps: T. Default 1000.
        clip_min: smallest pixel, to which a predicted x_0 is clipped in `p_sample`. Default −1.
        clip_max: largest pixel. Default 1.
    """

    def __init__(self, beta_start=1e-4, beta_end=0.02, timesteps=1000, clip_min=-1.0, clip_max=1.0):
        self.timesteps = timesteps
        self.clip_min, self.clip_max = clip_min, clip_max

        betas = np.linspace(beta_start, beta_end, timesteps, dtype="float64")
        alphas = 1.0 - betas
        self.alphas_cumprod = np.cumprod(alphas)
        previous = np.append(1.0, self.alphas_cumprod[:-1])
        variance = betas * (1.0 - previous) / (1.0 - self.alphas_cumprod)

        def constant(values):
            return tf.constant(values, dtype=tf.float32)

        self.sqrt_alphas_cumprod = constant(np.sqrt(self.alphas_cumprod))
        self.sqrt_one_minus_alphas_cumprod = constant(np.sqrt(1.0 - self.alphas_cumprod))
        self.posterior_std = constant(np.sqrt(variance))
        # The mean of q(x_{t−1} | x_t, x_0) is a weighted sum of x_0 and x_t (DDPM, eq. 7).
        self.posterior_mean_x0 = constant(betas * np.sqrt(previous) / (1.0 - self.alphas_cumprod))
        self.posterior_mean_xt = constant((1.0 - previous) * np.sqrt(alphas) / (1.0 - self.alphas_cumprod))

    @staticmethod
    def _extract(table, t):
        return tf.gather(table, t)[:, None, None, None]

    def q_sample(self, x_start, t, noise):
        """x_t of clean images `(B, H, W, C)` at integer times `(B,)`."""
        signal, std = self._extract(self.sqrt_alphas_cumprod, t), self._extract(self.sqrt_one_minus_alphas_cumprod, t)
        return signal * x_start + std * noise

    def predict_start_from_noise(self, x_t, t, noise):
        """The x_0 that goes with x_t and a predicted ε."""
        signal, std = self._extract(self.sqrt_alphas_cumprod, t), self._extract(self.sqrt_one_minus_alphas_cumprod, t)
        return (x_t - std * noise) / signal

    def p_sample(self, pred_noise, x, t, clip_denoised=True):
        """One ancestral step from t to t − 1."""
        x_start = self.predict_start_from_noise(x, t, pred_noise)
        if clip_denoised:
            x_start = tf.clip_by_value(x_start, self.clip_min, self.clip_max)
        mean = self._extract(self.posterior_mean_x0, t) * x_start + self._extract(self.posterior_mean_xt, t) * x
        # The posterior's variance is 0 at t = 0: the last step adds no noise.
        return mean + self._extract(self.posterior_std, t) * tf.random.normal(tf.shape(x))

    def p_sample_loop(self, predict_noise, x):
        """All T ancestral steps. `predict_noise(x, t)` is the network, t of shape `(B,)`."""
        step = tf.function(lambda x, t: self.p_sample(predict_noise(x, t), x, t))
        for index in reversed(range(self.timesteps)):
            x = step(x, tf.fill([x.shape[0]], tf.constant(index, tf.int64)))
        return x

    def ddim_times(self, num_steps):
        """The integer times that `num_steps` steps visit: T−1, T−1−T/n, …, T/n−1."""
        return np.round(self.timesteps * (1.0 - np.arange(num_steps) / num_steps)).astype("int64") - 1

    def ddim_sample_loop(self, predict_noise, x, num_steps=20, clip_denoised=False):
        """Deterministic DDIM steps; the last one ends at the predicted x_0.

        Nothing is clipped by default: at the first steps, where hardly any signal is left, a small error of the noise
        is a large one of x_0, and now and then an image runs off. With `clip_denoised` x_0 is clipped, and the noise is
        what then remains of x_t.
        """

        @tf.function
        def predict(x, t):
            noise = predict_noise(x, t)
            x_start = self.predict_start_from_noise(x, t, noise)
            if clip_denoised:
                x_start = tf.clip_by_value(x_start, self.clip_min, self.clip_max)
                signal, std = (
                    self._extract(self.sqrt_alphas_cumprod, t),
                    self._extract(self.sqrt_one_minus_alphas_cumprod, t),
                )
                noise = (x - signal * x_start) / std
            return x_start, noise

        times = self.ddim_times(num_steps)
        for index, following in zip(times, np.append(times[1:], -1)):
            x_start, noise = predict(x, tf.fill([x.shape[0]], tf.constant(index)))
            if following < 0:
                return x_start
            x = self.q_sample(x_start, tf.fill([x.shape[0]], tf.constant(following)), noise)


def kernel_init(scale):
    """Uniform fan-average initialization; scale 0 makes a layer that starts at (almost) zero."""
    return keras.initializers.VarianceScaling(max(scale, 1e-10), mode="fan_avg", distribution="uniform")


class TimeEmbedding(layers.Layer):
    """Sines, then cosines, of an integer time `(B,)` at frequencies from 1 down to 1e-4: `(B, dim)`."""

    def __init__(self, dim, **kwargs):
        super().__init__(**kwargs)
        self.dim = dim
        half = dim // 2
        self.frequencies = tf.exp(tf.range(half, dtype=tf.float32) * -(math.log(10000) / (half - 1)))

    def call(self, inputs):
        angles = tf.cast(inputs, tf.float32)[:, None] * self.frequencies[None, :]
        return tf.concat([tf.sin(angles), tf.cos(angles)], axis=-1)

    def get_config(self):
        return {**super().get_config(), "dim": self.dim}


class AttentionBlock(layers.Layer):
    """Self-attention with one head over all pixels. Its shortcut starts behind the normalization, not before it."""

    def __init__(self, units, groups=8, **kwargs):
        super().__init__(**kwargs)
        self.units, self.groups = units, groups
        self.norm = layers.GroupNormalization(groups=groups)
        self.query = layers.Dense(units, kernel_initializer=kernel_init(1.0))
        self.key = layers.Dense(units, kernel_initializer=kernel_init(1.0))
        self.value = layers.Dense(units, kernel_initializer=kernel_init(1.0))
        self.proj = layers.Dense(units, kernel_initializer=kernel_init(0.0))

    def call(self, inputs):
        batch, height, width = tf.shape(inputs)[0], tf.shape(inputs)[1], tf.shape(inputs)[2]
        inputs = self.norm(inputs)
        scores = tf.einsum("bhwc,bHWc->bhwHW", self.query(inputs), self.key(inputs)) * self.units**-0.5
        scores = tf.nn.softmax(tf.reshape(scores, [batch, height, width, height * width]), axis=-1)
        scores = tf.reshape(scores, [batch, height, width, height, width])
        return inputs + self.proj(tf.einsum("bhwHW,bHWc->bhwc", scores, self.value(inputs)))

    def get_config(self):
        return {**super().get_config(), "units": self.units, "groups": self.groups}


CUSTOM_OBJECTS = {"TimeEmbedding": TimeEmbedding, "AttentionBlock": AttentionBlock}


def TimeMLP(units):
    def apply(inputs):
        hidden = layers.Dense(units, activation="swish", kernel_initializer=kernel_init(1.0))(inputs)
        return layers.Dense(units, kernel_initializer=kernel_init(1.0))(hidden)

    return apply


def ResidualBlock(width, groups=8):
    def apply(inputs):
        x, t = inputs
        residual = (
            x if x.shape[3] == width else layers.Conv2D(width, kernel_size=1, kernel_initializer=kernel_init(1.0))(x)
        )
        shift = layers.Dense(width, kernel_initializer=kernel_init(1.0))(tf.nn.silu(t))[:, None, None, :]

        x = tf.nn.silu(layers.GroupNormalization(groups=groups)(x))
        x = layers.Conv2D(width, kernel_size=3, padding="same", kernel_initializer=kernel_init(1.0))(x)
        x = layers.Add()([x, shift])
        x = tf.nn.silu(layers.GroupNormalization(groups=groups)(x))
        x = layers.Conv2D(width, kernel_size=3, padding="same", kernel_initializer=kernel_init(0.0))(x)
        return layers.Add()([x, residual])

    return apply


def DownSample(width):
    def apply(x):
        return layers.Conv2D(width, kernel_size=3, strides=2, padding="same", kernel_initializer=kernel_init(1.0))(x)

    return apply


def UpSample(width):
    def apply(x):
        x = layers.UpSampling2D(size=2, interpolation="nearest")(x)
        return layers.Conv2D(width, kernel_size=3, padding="same", kernel_initializer=kernel_init(1.0))(x)

    return apply


def unet_body(x, temb, channels, widths, has_attention, num_res_blocks, norm_groups):
    """Everything between the first convolution and the predicted noise; the class-conditional network shares it."""

    def block(x, level, attention):
        x = ResidualBlock(widths[level], groups=norm_groups)([x, temb])
        return AttentionBlock(widths[level], groups=norm_groups)(x) if attention else x

    skips = [x]
    last = len(widths) - 1
    for level in range(len(widths)):
        for _ in range(num_res_blocks):
            x = block(x, level, has_attention[level])
            skips.append(x)
        if level != last:
            x = DownSample(widths[level])(x)
            skips.append(x)

    x = block(x, last, attention=True)
    x = block(x, last, attention=False)

    for level in reversed(range(len(widths))):
        for _ in range(num_res_blocks + 1):
            x = layers.Concatenate(axis=-1)([x, skips.pop()])
            x = block(x, level, has_attention[level])
        if level != 0:
            x = UpSample(widths[level])(x)

    x = tf.nn.silu(layers.GroupNormalization(groups=norm_groups)(x))
    return layers.Conv2D(channels, kernel_size=3, padding="same", kernel_initializer=kernel_init(0.0))(x)


def build_model(
    image_size, image_channels, widths, has_attention, first_conv_channels=None, num_res_blocks=2, norm_groups=8
):
    """The U-Net `[image (B, H, W, C), time (B,)] → noise (B, H, W, C)`.

    Args:
        image_size: height and width, divisible by 2^(number of levels − 1).
        image_channels: C.
        widths: channels of every level, each divisible by `norm_groups`.
        has_attention: whether the blocks of a level end with attention, one flag per level.
        first_conv_channels: channels of the first convolution, a quarter of the time embedding's. Default `widths[0]`.
        num_res_blocks: residual blocks per level on the way down; one more on the way up. Default 2.
        norm_groups: groups of every GroupNormalization. Default 8.
    """
    first = first_conv_channels or widths[0]
    image_input = layers.Input((image_size, image_size, image_channels), name="image_input")
    time_input = layers.Input((), dtype=tf.int64, name="time_input")

    x = layers.Conv2D(first, kernel_size=3, padding="same", kernel_initializer=kernel_init(1.0))(image_input)
    temb = TimeMLP(first * 4)(TimeEmbedding(first * 4)(time_input))
    x = unet_body(x, temb, image_channels, widths, has_attention, num_res_blocks, norm_groups)
    return keras.Model([image_input, time_input], x, name="unet")


class DiffusionModel(keras.Model):
    """Network, its exponential moving average, and the training step.

    `compile` takes the loss as an object, not by name.

    Args:
        network: what is trained.
        ema_network: a network of the same structure, which holds the average and draws the images.
        diffusion: `GaussianDiffusion`.
        ema: share of the old average kept in every step. Default 0.999.
    """

    def __init__(self, network, ema_network, diffusion, ema=0.999):
        super().__init__()
        self.network, self.ema_network = network, ema_network
        self.diffusion, self.ema = diffusion, ema
        self.ema_network.set_weights(network.get_weights())

    def train_step(self, images):
        batch_size = tf.shape(images)[0]
        t = tf.random.uniform((batch_size,), minval=0, maxval=self.diffusion.timesteps, dtype=tf.int64)
        noise = tf.random.normal(tf.shape(images))
        images_t = self.diffusion.q_sample(images, t, noise)

        with tf.GradientTape() as tape:
            loss = self.loss(noise, self.network([images_t, t], training=True))
        gradients = tape.gradient(loss, self.network.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.network.trainable_weights))

        for weight, average in zip(self.network.weights, self.ema_network.weights):
            average.assign(self.ema * average + (1.0 - self.ema) * weight)
        return {"loss": loss}

    def predictor(self, network=None):
        """`predict_noise(x, t)` for the loops of `GaussianDiffusion`: the average's unless another network is given."""
        network = self.ema_network if network is None else network
        return lambda x, t: network([x, t], training=False)

    def generate_images(self, num_images):
        """Images in [−1, 1] by T ancestral steps: `(num_images, H, W, C)`."""
        noise = tf.random.normal((num_images, *self.network.input_shape[0][1:]))
        return self.diffusion.p_sample_loop(self.predictor(), noise).numpy()

    def ddim_images(self, noise, num_steps=20, network=None, clip_denoised=False):
        """Images by DDIM from x_T, without randomness; `network` as in `predictor`."""
        return self.diffusion.ddim_sample_loop(
            self.predictor(network), tf.constant(noise), num_steps, clip_denoised
        ).numpy()
