"""Denoising diffusion implicit models, as one wrote them in TensorFlow 2: continuous time, a residual U-Net, KID.

    x_t = cos θ·x_0 + sin θ·ε,   θ from arccos 0.95 at t = 0 to arccos 0.02 at t = 1

The network sees x_t and the noise variance sin²θ and predicts ε. Images are normalized to zero mean and unit variance
before noise is added. Layers, their order and their names are those of the Keras example "Denoising Diffusion Implicit
Models" (A. Béres, 2022), so that checkpoints of that example fit.

Reference:
    Song et al. 2020, arXiv:2010.02502; KID: Bińkowski et al. 2018, arXiv:1801.01401.
"""

import math

import tensorflow as tf
import tf_keras as keras
from tf_keras import layers

# What the published checkpoint was trained with, on 64×64 photographs of flowers.
PUBLISHED = {"image_size": 64, "image_channels": 3, "widths": (32, 64, 96, 128), "block_depth": 2, "embedding_dims": 32}

KID_IMAGE_SIZE = 75  # the smallest that Inception takes


def inception_encoder(image_size, image_channels=3):
    """Images in [0, 1] to features `(B, 2048)`: the pooled last feature map of Inception v3.

    Raises:
        RuntimeError: the weights are neither on this machine nor could they be downloaded.
    """
    try:
        inception = keras.applications.InceptionV3(
            include_top=False, input_shape=(KID_IMAGE_SIZE, KID_IMAGE_SIZE, 3), weights="imagenet"
        )
    except Exception as error:  # tf_keras has no narrower class for a failed download
        raise RuntimeError(
            "KID compares features of Inception v3, whose weights are downloaded when they are first used. Without a "
            f"network, give `compile` another `kid_encoder`, such as `random_encoder({image_size}, "
            f"{image_channels})`. Received: {error}"
        ) from error
    images = keras.Input((image_size, image_size, image_channels))
    x = images if image_channels == 3 else layers.Concatenate(axis=-1)([images] * 3)
    x = layers.Resizing(height=KID_IMAGE_SIZE, width=KID_IMAGE_SIZE)(layers.Rescaling(255.0)(x))
    x = inception(keras.applications.inception_v3.preprocess_input(x))
    return keras.Model(images, layers.GlobalAveragePooling2D()(x), name="inception")


def random_encoder(image_size, image_channels=3, features=64, seed=0):
    """A small convolutional network with seeded random weights: features that need no download.

    Its KID tells distributions apart, but its values compare with no published ones.
    """

    def init(offset):
        return keras.initializers.HeNormal(seed=seed + offset)

    images = keras.Input((image_size, image_size, image_channels))
    x = layers.Conv2D(features // 2, kernel_size=3, padding="same", activation="relu", kernel_initializer=init(0))(
        images
    )
    x = layers.Conv2D(
        features, kernel_size=3, strides=2, padding="same", activation="relu", kernel_initializer=init(1)
    )(x)
    return keras.Model(images, layers.GlobalAveragePooling2D()(x), name="random_encoder")


class KID(keras.metrics.Metric):
    """Kernel Inception distance, averaged over batches.

    It is the squared maximum mean discrepancy of features under a cubic kernel.

    Args:
        encoder: model from images in [0, 1] to features `(B, F)`.
    """

    def __init__(self, encoder, name="kid", **kwargs):
        super().__init__(name=name, **kwargs)
        self.encoder = encoder
        self.kid_tracker = keras.metrics.Mean(name="kid_tracker")

    @staticmethod
    def polynomial_kernel(features_1, features_2):
        dims = tf.cast(tf.shape(features_1)[1], tf.float32)
        return (features_1 @ tf.transpose(features_2) / dims + 1.0) ** 3.0

    def update_state(self, real_images, generated_images, sample_weight=None):
        real, generated = self.encoder(real_images, training=False), self.encoder(generated_images, training=False)
        batch_size = tf.cast(tf.shape(real)[0], tf.float32)

        def mean_of_pairs(features):
            # An image paired with itself says nothing: without the diagonal the estimate is unbiased.
            kernel = self.polynomial_kernel(features, features)
            return (tf.reduce_sum(kernel) - tf.linalg.trace(kernel)) / (batch_size * (batch_size - 1.0))

        cross = tf.reduce_mean(self.polynomial_kernel(real, generated))
        self.kid_tracker.update_state(mean_of_pairs(real) + mean_of_pairs(generated) - 2.0 * cross)

    def result(self):
        return self.kid_tracker.result()

    def reset_state(self):
        self.kid_tracker.reset_state()


def make_sinusoidal_embedding(embedding_dims, embedding_max_frequency):
    def sinusoidal_embedding(x):
        frequencies = tf.exp(tf.linspace(tf.math.log(1.0), tf.math.log(embedding_max_frequency), embedding_dims // 2))
        angular_speeds = 2.0 * math.pi * frequencies
        return tf.concat([tf.sin(angular_speeds * x), tf.cos(angular_speeds * x)], axis=3)

    return sinusoidal_embedding


def ResidualBlock(width):
    def apply(x):
        residual = x if x.shape[3] == width else layers.Conv2D(width, kernel_size=1)(x)
        x = layers.BatchNormalization(center=False, scale=False)(x)
        x = layers.Conv2D(width, kernel_size=3, padding="same", activation="swish")(x)
        x = layers.Conv2D(width, kernel_size=3, padding="same")(x)
        return layers.Add()([x, residual])

    return apply


def DownBlock(width, block_depth):
    def apply(x):
        x, skips = x
        for _ in range(block_depth):
            x = ResidualBlock(width)(x)
            skips.append(x)
        return layers.AveragePooling2D(pool_size=2)(x)

    return apply


def UpBlock(width, block_depth):
    def apply(x):
        x, skips = x
        x = layers.UpSampling2D(size=2, interpolation="bilinear")(x)
        for _ in range(block_depth):
            x = layers.Concatenate()([x, skips.pop()])
            x = ResidualBlock(width)(x)
        return x

    return apply


def get_network(image_size, widths, block_depth, image_channels=3, embedding_dims=32, embedding_max_frequency=1000.0):
    """The residual U-Net `[image (B, H, W, C), noise variance (B, 1, 1, 1)] → noise (B, H, W, C)`.

    Args:
        image_size: height and width, divisible by 2^(number of widths − 1).
        widths: channels of every level.
        block_depth: residual blocks per level.
        image_channels: C. Default 3.
        embedding_dims: channels of the embedded noise variance, even. Default 32.
        embedding_max_frequency: largest frequency; the smallest is 1. Default 1000.
    """
    noisy_images = keras.Input((image_size, image_size, image_channels))
    noise_variances = keras.Input((1, 1, 1))

    e = layers.Lambda(make_sinusoidal_embedding(embedding_dims, embedding_max_frequency))(noise_variances)
    e = layers.UpSampling2D(size=image_size, interpolation="nearest")(e)

    x = layers.Conv2D(widths[0], kernel_size=1)(noisy_images)
    x = layers.Concatenate()([x, e])

    skips = []
    for width in widths[:-1]:
        x = DownBlock(width, block_depth)([x, skips])
    for _ in range(block_depth):
        x = ResidualBlock(widths[-1])(x)
    for width in reversed(widths[:-1]):
        x = UpBlock(width, block_depth)([x, skips])

    x = layers.Conv2D(image_channels, kernel_size=1, kernel_initializer="zeros")(x)
    return keras.Model([noisy_images, noise_variances], x, name="residual_unet")


class DiffusionModel(keras.Model):
    """Normalizer, network, its exponential moving average, training and sampling. Images lie in [0, 1].

    Args:
        network: what `get_network` returns. Call `model.normalizer.adapt(images)` before training.
        ema: share of the old average kept in every step. Default 0.999.
        min_signal_rate: cos θ at t = 1. Default 0.02.
        max_signal_rate: cos θ at t = 0. Default 0.95.
        kid_diffusion_steps: steps that draw the images for KID. Default 5.
    """

    def __init__(self, network, ema=0.999, min_signal_rate=0.02, max_signal_rate=0.95, kid_diffusion_steps=5):
        super().__init__()
        self.normalizer = layers.Normalization()
        self.network = network
        self.ema_network = keras.models.clone_model(network)
        self.ema_network.set_weights(network.get_weights())
        self.ema = ema
        self.min_signal_rate, self.max_signal_rate = min_signal_rate, max_signal_rate
        self.kid_diffusion_steps = kid_diffusion_steps

    def compile(self, kid_encoder=None, **kwargs):
        """As in Keras, with the loss as an object; `kid_encoder` takes the place of Inception in KID."""
        super().compile(**kwargs)
        self.noise_loss_tracker = keras.metrics.Mean(name="n_loss")
        self.image_loss_tracker = keras.metrics.Mean(name="i_loss")
        self.kid = KID(inception_encoder(*self.network.input_shape[0][2:]) if kid_encoder is None else kid_encoder)

    @property
    def metrics(self):
        return [self.noise_loss_tracker, self.image_loss_tracker, self.kid]

    def denormalize(self, images):
        """From the network's units back to pixels in [0, 1]."""
        return tf.clip_by_value(self.normalizer.mean + images * self.normalizer.variance**0.5, 0.0, 1.0)

    def diffusion_schedule(self, diffusion_times):
        """Noise rates sin θ and signal rates cos θ at times in [0, 1]."""
        start_angle, end_angle = tf.acos(self.max_signal_rate), tf.acos(self.min_signal_rate)
        diffusion_angles = start_angle + diffusion_times * (end_angle - start_angle)
        return tf.sin(diffusion_angles), tf.cos(diffusion_angles)

    def denoise(self, noisy_images, noise_rates, signal_rates, training, network=None):
        """Predicted noise and images; the average's, unless in training or another network is given."""
        if network is None:
            network = self.network if training else self.ema_network
        pred_noises = network([noisy_images, noise_rates**2], training=training)
        return pred_noises, (noisy_images - noise_rates * pred_noises) / signal_rates

    def reverse_diffusion(self, initial_noise, diffusion_steps, network=None):
        """From noise at t = 1 to images in the network's units."""
        num_images = tf.shape(initial_noise)[0]
        step_size = 1.0 / diffusion_steps

        next_noisy_images = initial_noise
        for step in range(diffusion_steps):
            noisy_images = next_noisy_images
            diffusion_times = tf.ones((num_images, 1, 1, 1)) - step * step_size
            noise_rates, signal_rates = self.diffusion_schedule(diffusion_times)
            pred_noises, pred_images = self.denoise(
                noisy_images, noise_rates, signal_rates, training=False, network=network
            )

            next_noise_rates, next_signal_rates = self.diffusion_schedule(diffusion_times - step_size)
            next_noisy_images = next_signal_rates * pred_images + next_noise_rates * pred_noises
        return pred_images

    def generate(self, num_images, diffusion_steps):
        """Images in [0, 1]: `(num_images, H, W, C)`."""
        initial_noise = tf.random.normal((num_images, *self.network.input_shape[0][1:]))
        return self.denormalize(self.reverse_diffusion(initial_noise, diffusion_steps))

    def ddim_images(self, noise, num_steps=20, network=None):
        """Images in [0, 1] from given noise, compiled; the average's unless another network is given."""
        walk = tf.function(lambda x: self.denormalize(self.reverse_diffusion(x, num_steps, network)))
        return walk(tf.constant(noise)).numpy()

    def _mixed(self, images):
        batch_size = tf.shape(images)[0]
        noises = tf.random.normal(tf.shape(images))
        noise_rates, signal_rates = self.diffusion_schedule(tf.random.uniform((batch_size, 1, 1, 1)))
        return signal_rates * images + noise_rates * noises, noises, noise_rates, signal_rates

    def train_step(self, images):
        images = self.normalizer(images, training=True)
        noisy_images, noises, noise_rates, signal_rates = self._mixed(images)

        with tf.GradientTape() as tape:
            pred_noises, pred_images = self.denoise(noisy_images, noise_rates, signal_rates, training=True)
            noise_loss = self.loss(noises, pred_noises)
            image_loss = self.loss(images, pred_images)
        gradients = tape.gradient(noise_loss, self.network.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.network.trainable_weights))

        self.noise_loss_tracker.update_state(noise_loss)
        self.image_loss_tracker.update_state(image_loss)
        for weight, average in zip(self.network.weights, self.ema_network.weights):
            average.assign(self.ema * average + (1.0 - self.ema) * weight)
        # KID draws images and is left to `evaluate` and the validation.
        return {metric.name: metric.result() for metric in self.metrics[:-1]}

    def test_step(self, images):
        normalized = self.normalizer(images, training=False)
        noisy_images, noises, noise_rates, signal_rates = self._mixed(normalized)
        pred_noises, pred_images = self.denoise(noisy_images, noise_rates, signal_rates, training=False)
        self.noise_loss_tracker.update_state(self.loss(noises, pred_noises))
        self.image_loss_tracker.update_state(self.loss(normalized, pred_images))
        self.kid.update_state(images, self.generate(tf.shape(images)[0], self.kid_diffusion_steps))
        return {metric.name: metric.result() for metric in self.metrics}
