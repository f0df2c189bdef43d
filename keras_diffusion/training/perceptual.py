"""Perceptual losses: how different pictures look to a network, on tensors, with gradients."""

import keras
from keras import ops

from keras_diffusion.configs.checks import shown


class PerceptualLoss:
    """A distance of pictures, from whatever measures one.

    Args:
        measure: a Keras model of two batches of pictures that says distances `(B,)`, or an object with one as its
            `distance_network`, such as `metrics.LPIPS`; a Keras model or layer of one batch, whose outputs are the
            features to compare, by their mean squared difference; or a function of two batches that returns `(B,)`.

    Call arguments:
        pictures: `(B, H, W, C)`, float in [−1, 1]; for networks of three channels, grey ones are repeated.
        originals: what they should be, likewise.

    Returns:
        tensor `(B,)`.

    Raises:
        ValueError: none of these.

    Example:

    >>> loss = PerceptualLoss(lambda x, y: ops.mean((x - y) ** 2, axis=(1, 2, 3)))
    >>> loss(ops.zeros((2, 8, 8, 3)), ops.ones((2, 8, 8, 3))).shape
    (2,)

    Reference:
        Zhang et al. 2018, arXiv:1801.03924; Johnson et al. 2016, arXiv:1603.08155, section 3.2.
    """

    def __init__(self, measure):
        measure = getattr(measure, "distance_network", measure)
        if not callable(measure):
            raise ValueError(
                "`perceptual` is a Keras model of features or of distances, `metrics.LPIPS`, or a function of two "
                f"batches of pictures. Received: perceptual={shown(measure)}"
            )
        self.measure = measure
        self._of_pair = not isinstance(measure, keras.layers.Layer)
        if isinstance(measure, keras.layers.Layer):
            measure.trainable = False
            self._of_pair = isinstance(measure, keras.Model) and len(getattr(measure, "inputs", None) or ()) == 2

    def __call__(self, pictures, originals):
        x, y = self._with_channels(pictures), self._with_channels(originals)
        if not isinstance(self.measure, keras.layers.Layer):
            return ops.cast(self.measure(x, y), "float32")
        if self._of_pair:
            return ops.cast(ops.reshape(self.measure([x, y], training=False), (-1,)), "float32")
        features = (keras.tree.flatten(self.measure(images)) for images in (x, y))
        return sum(_difference(f, ops.stop_gradient(g)) for f, g in zip(*features, strict=True))

    def _with_channels(self, x):
        inputs = getattr(self.measure, "inputs", None) or ()
        wanted = inputs[0].shape[-1] if inputs else None
        return ops.repeat(x, wanted, axis=-1) if x.shape[-1] == 1 and wanted == 3 else x


def _difference(f, g):
    return ops.mean(ops.square(ops.cast(f, "float32") - ops.cast(g, "float32")), axis=tuple(range(1, len(f.shape))))
