"""The DDPM U-Net with class labels, and classifier-free guidance.

    ε̂ = ε(x_t, t, ∅) + w·(ε(x_t, t, c) − ε(x_t, t, ∅))

A label is a row of an embedding table, added to the embedded time. The last row, of index `num_classes`, is the null
label ∅: in training it takes the place of one label in ten, so that the network learns to predict with and without a
class.

Reference:
    Ho & Salimans 2022, arXiv:2207.12598.
"""

import tensorflow as tf
import tf_keras as keras
from tf_keras import layers

from legacy_tf import ddpm


def build_model(
    image_size,
    image_channels,
    num_classes,
    widths,
    has_attention,
    first_conv_channels=None,
    num_res_blocks=2,
    norm_groups=8,
):
    """The U-Net `[image (B, H, W, C), time (B,), label (B,)] → noise (B, H, W, C)`; arguments as in `ddpm.build_model`.

    Args:
        num_classes: number of classes; labels are 0 … num_classes − 1, and num_classes is the null label.
    """
    first = first_conv_channels or widths[0]
    image_input = layers.Input((image_size, image_size, image_channels), name="image_input")
    time_input = layers.Input((), dtype=tf.int64, name="time_input")
    label_input = layers.Input((), dtype=tf.int64, name="label_input")

    x = layers.Conv2D(first, kernel_size=3, padding="same", kernel_initializer=ddpm.kernel_init(1.0))(image_input)
    temb = ddpm.TimeMLP(first * 4)(ddpm.TimeEmbedding(first * 4)(time_input))
    label_embedding = layers.Embedding(num_classes + 1, first * 4)(label_input)
    temb = layers.Add()([temb, label_embedding])
    x = ddpm.unet_body(x, temb, image_channels, widths, has_attention, num_res_blocks, norm_groups)
    return keras.Model([image_input, time_input, label_input], x, name="class_conditional_unet")


class ClassConditionalDiffusionModel(ddpm.DiffusionModel):
    """`ddpm.DiffusionModel` on pairs of images and labels.

    Args:
        network, ema_network, diffusion, ema: see `ddpm.DiffusionModel`.
        num_classes: index of the null label.
        label_dropout: share of labels replaced by the null label in training. Default 0.1.
    """

    def __init__(self, network, ema_network, diffusion, num_classes, label_dropout=0.1, ema=0.999):
        super().__init__(network, ema_network, diffusion, ema)
        self.num_classes, self.label_dropout = num_classes, label_dropout

    def train_step(self, data):
        images, labels = data
        batch_size = tf.shape(images)[0]
        t = tf.random.uniform((batch_size,), minval=0, maxval=self.diffusion.timesteps, dtype=tf.int64)
        noise = tf.random.normal(tf.shape(images))
        images_t = self.diffusion.q_sample(images, t, noise)
        dropped = tf.random.uniform((batch_size,)) < self.label_dropout
        labels = tf.where(dropped, tf.constant(self.num_classes, tf.int64), tf.cast(labels, tf.int64))

        with tf.GradientTape() as tape:
            loss = self.loss(noise, self.network([images_t, t, labels], training=True))
        gradients = tape.gradient(loss, self.network.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.network.trainable_weights))

        for weight, average in zip(self.network.weights, self.ema_network.weights):
            average.assign(self.ema * average + (1.0 - self.ema) * weight)
        return {"loss": loss}

    def predictor(self, labels, guidance_scale=1.0, network=None):
        """`predict_noise(x, t)` for labels `(B,)`, guided by scale w.

        0 leaves the labels out, 1 is the plain prediction.
        """
        network = self.ema_network if network is None else network
        labels = tf.constant(labels, tf.int64)
        null = tf.fill(tf.shape(labels), tf.constant(self.num_classes, tf.int64))

        def predict_noise(x, t):
            both = network([tf.concat([x, x], 0), tf.concat([t, t], 0), tf.concat([labels, null], 0)], training=False)
            conditional, unconditional = tf.split(both, 2)
            return unconditional + guidance_scale * (conditional - unconditional)

        return predict_noise

    def generate_images(self, labels, guidance_scale=1.0):
        """Images in [−1, 1] by T ancestral steps, one per label: `(len(labels), H, W, C)`."""
        noise = tf.random.normal((len(labels), *self.network.input_shape[0][1:]))
        return self.diffusion.p_sample_loop(self.predictor(labels, guidance_scale), noise).numpy()

    def ddim_images(self, noise, labels, guidance_scale=1.0, num_steps=20, network=None, clip_denoised=False):
        """Images by DDIM from x_T, without randomness; see `GaussianDiffusion.ddim_sample_loop`."""
        predict_noise = self.predictor(labels, guidance_scale, network)
        return self.diffusion.ddim_sample_loop(predict_noise, tf.constant(noise), num_steps, clip_denoised).numpy()
