"""Training against a discriminator: two opponents in one loss.

    D:    Σ max(0, 1 − D(x)) + max(0, 1 + D(x̂))                  hinge: tell originals x from reconstructions x̂
    G:    reconstruction − w·λ·mean D(x̂)                         be taken for an original
          λ = ‖∂ reconstruction/∂W‖ / (‖∂ mean D(x̂)/∂W‖ + 1e-6)   within [0, 1e4]; W: the kernel of the last layer

λ gives both wishes of the autoencoder the same say, however steep the discriminator is (VQGAN, equation 7); w then
weighs them.

Keras takes the gradient of one number. Here that is the reconstruction loss plus a term whose value is 0 and whose
gradients are these: at the discriminator's weights that of its own loss, and at x̂ that of the autoencoder's wish, as a
constant, so that the discriminator does not learn to be fooled. Keras's own training step then does both at once on
every backend, and the loss that it reports stays that of the autoencoder.

Before step `start` the term has no gradients at all: the autoencoder learns as without it, and the discriminator waits.
VQGAN does the same: against the first, grey reconstructions a discriminator would win by brightness alone.
"""

import contextlib

import keras
from keras import ops

from keras_diffusion.configs.checks import check_flag, check_number, check_whole, shown
from keras_diffusion.core.autodiff import pullback

_EPSILON, _MOST = 1e-6, 1e4  # of λ


class Adversary(keras.layers.Layer):
    """A discriminator, and what it adds to the loss of the one whose pictures it judges.

    Args:
        discriminator: Keras model from pictures `(B, H, W, C)` to logits `(B, …)`, above 0 for real ones.
        weight: w > 0, of being taken for real, beside the reconstruction. Default 0.5.
        start: number of training steps, in batches, before the discriminator counts and learns. Default 0.
        adaptive: whether w is multiplied by λ. Default True.

    Attributes:
        num_steps: training steps so far, a variable.

    Raises:
        ValueError: numbers out of range.

    Reference:
        Esser et al. 2021, arXiv:2012.09841, equations 6 and 7; Lim & Ye 2017, "Geometric GAN", arXiv:1705.02894, for
        the hinge.
    """

    def __init__(self, discriminator, weight=0.5, start=0, adaptive=True, **kwargs):
        super().__init__(**{"name": "adversary", "dtype": "float32", **kwargs})
        self.weight = check_number("discriminator_weight", weight, above=0)
        rule = "`discriminator_start` counts training steps before the discriminator joins in, an integer ≥ 0"
        self.start = check_whole("discriminator_start", start, 0, rule=rule)
        self.adaptive = check_flag("adaptive_weight", adaptive)
        self.discriminator = discriminator
        names = ["discriminator_loss", "generator_loss", "discriminator_accuracy"]
        names += ["adaptive_weight"] if adaptive else []
        self.means = {name: keras.metrics.Mean(name=name) for name in names}
        self.num_steps = self.add_weight(
            shape=(), dtype="int32", initializer="zeros", trainable=False, name="num_steps"
        )
        self.built = True

    def opposition(self, pictures, originals, weights, reconstruction, last=None, training=True):
        """The term of the loss; also updates the metrics, and counts the step.

        Args:
            pictures: x̂ `(B, H, W, C)`.
            originals: x, likewise.
            weights: `(B,)`, of each picture's loss.
            reconstruction: function from pictures to the loss that λ compares with, a number.
            last: (layer, input): the layer that made x̂, with a `kernel`, and what it was given; needed for λ.
            training: whether this is a step of training, and no evaluation.

        Returns:
            tensor `()`, of value 0.
        """
        made = ops.stop_gradient(pictures)
        started = ops.cast(self.num_steps >= self.start, "float32")
        real, fake = self._logits(originals), self._logits(made)
        own = ops.mean(weights * (_mean(ops.relu(1.0 - real)) + _mean(ops.relu(1.0 + fake))))
        wish, _, derivative = pullback(lambda x: (-ops.mean(weights * _mean(self._logits(x))), ()), made)
        gradient = derivative(ops.ones_like(wish))
        factor = self.weight * started
        if self.adaptive:
            value, _, derivative = pullback(lambda x: (reconstruction(x), ()), made)
            ratio = _ratio(last, derivative(ops.ones_like(value)), gradient)
            self.means["adaptive_weight"].update_state(ratio, sample_weight=started)
            factor = factor * ratio
        told = 0.5 * (_mean(ops.cast(real > 0, "float32")) + _mean(ops.cast(fake < 0, "float32")))
        for name, number in (("discriminator_loss", own), ("generator_loss", wish), ("discriminator_accuracy", told)):
            self.means[name].update_state(ops.stop_gradient(number))
        if not training:
            return ops.zeros(())
        self.num_steps.assign(self.num_steps + 1)
        push = ops.sum(ops.stop_gradient(factor * gradient) * (pictures - made))
        return push + started * (own - ops.stop_gradient(own))

    def _logits(self, pictures):
        return ops.cast(self.discriminator(pictures), "float32")


def last_layer(autoencoder):
    """The layer that makes the pictures: the last of the decoder with a `kernel`.

    Args:
        autoencoder: with a Keras model as its `decoder`, or around an `autoencoder` that has one.

    Raises:
        ValueError: no such layer.
    """
    decoder = getattr(getattr(autoencoder, "autoencoder", autoencoder), "decoder", None)
    layers = decoder._flatten_layers(include_self=False) if isinstance(decoder, keras.Model) else ()
    found = [layer for layer in layers if getattr(layer, "kernel", None) is not None]
    if not found:
        raise ValueError(
            "The weight of a discriminator is adapted at the kernel of the last layer of `autoencoder.decoder`, a "
            f"Keras model. Received: decoder={shown(decoder)}. Pass adaptive_weight=False for a fixed weight"
        )
    return found[-1]


@contextlib.contextmanager
def inputs_of(layer):
    """A context that yields a list, which fills with what `layer` is called with.

    Args:
        layer: Keras layer of one input.
    """
    found, call = [], layer.call

    def noted(x, *args, **kwargs):
        found.append(x)
        return call(x, *args, **kwargs)

    vars(layer)["call"] = noted  # past Keras, which would keep an account of it
    try:
        yield found
    finally:
        del vars(layer)["call"]


def _ratio(last, *gradients):
    """λ: the ratio of the norms of two gradients at the kernel, from those at the layer's output."""
    layer, features = last
    values = {id(v): ops.stop_gradient(ops.convert_to_tensor(v)) for v in layer.variables}
    groups = layer.trainable_variables, layer.non_trainable_variables

    def output(kernel):
        given = {**values, id(layer.kernel): kernel}
        found = ([given[id(v)] for v in group] for group in groups)
        return layer.stateless_call(*found, ops.stop_gradient(features))[0], ()

    y, _, derivative = pullback(output, values[id(layer.kernel)])
    norms = [_norm(derivative(ops.cast(gradient, y.dtype))) for gradient in gradients]
    return ops.stop_gradient(ops.clip(norms[0] / (norms[1] + _EPSILON), 0.0, _MOST))


def _norm(x):
    return ops.sqrt(ops.sum(ops.square(ops.cast(x, "float32"))))


def _mean(values):
    return ops.mean(ops.reshape(values, (ops.shape(values)[0], -1)), axis=1)
