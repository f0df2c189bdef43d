"""LPIPS: how different two pictures look, by the layers of a network for classes.

    LPIPS(x, y) = Σ over layers of mean over positions of Σ_c w_c·(f̂_c(x) − f̂_c(y))²,      f̂ = f/|f| at each position

The network is AlexNet, VGG16 or SqueezeNet 1.1 as torchvision trained them on ImageNet; the weights w ≥ 0 (the heads)
were fitted to the judgement of people.

Reference: Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric", arXiv:1801.03924.
"""

import keras
import numpy as np
from keras import ops

from keras_diffusion.configs.arguments import ArgumentsMixin
from keras_diffusion.configs.checks import check_choice, check_whole
from keras_diffusion.layers.initializers import Zeros
from keras_diffusion.metrics.extractors.preprocessing import three_channels, to_floats
from keras_diffusion.metrics.extractors.program import Program
from keras_diffusion.metrics.extractors.vision_transformer import convolution_kernel
from keras_diffusion.metrics.extractors.weights import fill, open_weights
from keras_diffusion.metrics.picture_quality import check_pair

BACKBONES = {
    "alex": ("https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",),
    "vgg": ("https://download.pytorch.org/models/vgg16-397923af.pth",),
    "squeeze": ("https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth",),
}
HEADS = "the package `lpips` on PyPI, lpips/weights/v0.1/{}.pth"
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_EPSILON = 1e-10

# Layers in a row, by their numbers in torchvision's `features`: (number, filters, kernel, stride, padding) is a
# convolution, (number, filters) a fire module, "pool" halves the size, "tap" gives its input to a head.
_LAYERS = {
    "alex": [
        *((0, 64, 11, 4, 2), "tap", "pool", (3, 192, 5, 1, 2), "tap", "pool", (6, 384, 3, 1, 1), "tap"),
        *((8, 256, 3, 1, 1), "tap", (10, 256, 3, 1, 1), "tap"),
    ],
    "vgg": [
        *((0, 64, 3, 1, 1), (2, 64, 3, 1, 1), "tap", "pool", (5, 128, 3, 1, 1), (7, 128, 3, 1, 1), "tap", "pool"),
        *((10, 256, 3, 1, 1), (12, 256, 3, 1, 1), (14, 256, 3, 1, 1), "tap", "pool"),
        *((17, 512, 3, 1, 1), (19, 512, 3, 1, 1), (21, 512, 3, 1, 1), "tap", "pool"),
        *((24, 512, 3, 1, 1), (26, 512, 3, 1, 1), (28, 512, 3, 1, 1), "tap"),
    ],
    "squeeze": [
        *((0, 64, 3, 2, 0), "tap", "pool", (3, 64), (4, 64), "tap", "pool", (6, 128), (7, 128), "tap", "pool"),
        *((9, 192), "tap", (10, 192), "tap", (11, 256), "tap", (12, 256), "tap"),
    ],
}
_SQUEEZED = {64: 16, 128: 32, 192: 48, 256: 64}
_POOL = {"alex": (3, False), "vgg": (2, False), "squeeze": (3, True)}  # window, and whether a cut one at the end counts


class LPIPS(ArgumentsMixin):
    """Learned perceptual image patch similarity: 0 for equal pictures, more the more different they look.

    With the same weights, the numbers are those of the package `lpips`, version 0.1 of its heads.

    Args:
        network: "alex" (default: the one to report), "vgg" or "squeeze".
        backbone: path of torchvision's weights of that network.
        heads: path of the file of the same name in the package `lpips`.
        batch_size: pairs of pictures at a time. Default 16.

    Attributes:
        distance_network: Keras model from a list of two batches `(B, H, W, 3)` in [−1, 1] to distances `(B,)`, with
            gradients: what `AutoencoderModel(perceptual=…)` trains on.

    Call arguments:
        pictures: `(N, H, W, C)`, uint8, or floats in [−1, 1], C 1 or 3.
        originals: `(N, H, W, C)`, what they should be.

    Returns:
        float32 `(N,)`.

    Raises:
        ValueError: another network, no weights (the message says where they are published); pictures of unequal
            shapes.
        FileNotFoundError: nothing at a path.
        CheckpointError: a damaged file, or one of another network.

    Example:

    >>> distance = kd.metrics.LPIPS(backbone="alexnet-owt-7be5be79.pth", heads="lpips/weights/v0.1/alex.pth")
    >>> distance(pictures, originals).mean()
    0.12...
    """

    def __init__(self, network="alex", backbone=None, heads=None, batch_size=16):
        check_choice("network", network, tuple(_LAYERS))
        check_whole("batch_size", batch_size, 1)
        with (
            open_weights(backbone, f"LPIPS's network {network!r}", BACKBONES[network], "backbone") as trunk,
            open_weights(heads, f"LPIPS's heads of {network!r}", (HEADS.format(network),), "heads") as lins,
        ):
            taps, model = lpips_network(network)
            fill(trunk, _trunk_sources(taps))
            fill(lins, _head_sources(model))
        self.distance_network, self._program = model, Program(model)

    def __call__(self, pictures, originals):
        pictures, originals = check_pair(pictures, originals)
        size, parts = self.batch_size, []
        for start in range(0, len(pictures), size):
            pair = [three_channels(to_floats(images[start : start + size])) for images in (pictures, originals)]
            count = len(pair[0])
            padded = [np.concatenate([x, np.repeat(x[:1], size - count, axis=0)]) for x in pair]
            parts.append(self._program(padded)[:count])
        return np.concatenate(parts)


def lpips_network(name):
    """The network and its heads.

    Args:
        name: "alex", "vgg" or "squeeze".

    Returns:
        (Keras model from a picture to its layers, Keras model from a list of two batches of pictures `(B, H, W, 3)` in
        [−1, 1] to distances `(B,)`), which share their layers.
    """
    picture = keras.Input((None, None, 3))
    x = (picture - np.float32(_SHIFT)) / np.float32(_SCALE)
    taps = []
    for i, layer in enumerate(_LAYERS[name]):
        if layer == "tap":
            taps.append(x)
        elif layer == "pool":
            x = _pool(x, *_POOL[name], i)
        elif len(layer) == 2:
            x = _fire(x, *layer)
        else:
            x = _convolution(x, f"features-{layer[0]}", *layer[1:])
    trunk = keras.Model(picture, taps, name=name)
    pair = [keras.Input((None, None, 3)) for _ in range(2)]
    first, second = (trunk(x) for x in pair)
    distance = 0.0
    for i, (f, g) in enumerate(zip(first, second)):
        options = {"use_bias": False, "kernel_initializer": Zeros(), "data_format": "channels_last"}
        head = keras.layers.Conv2D(1, 1, name=f"lin{i}", **options)
        distance = distance + ops.mean(head((_direction(f) - _direction(g)) ** 2), axis=(1, 2, 3))
    return trunk, keras.Model(pair, distance, name=f"lpips_{name}")


def _direction(f):
    return f / (ops.sqrt(ops.sum(f**2, axis=-1, keepdims=True)) + _EPSILON)


def _convolution(x, name, filters, kernel, stride=1, padding=0):
    if padding:  # on all sides, whatever the stride
        x = keras.layers.ZeroPadding2D(padding, data_format="channels_last", name=f"{name}-pad")(x)
    options = {"kernel_initializer": Zeros(), "bias_initializer": Zeros(), "data_format": "channels_last"}
    return keras.layers.Conv2D(filters, kernel, stride, activation="relu", name=name, **options)(x)


def _fire(x, number, filters):
    name = f"features-{number}"
    x = _convolution(x, f"{name}-squeeze", _SQUEEZED[filters], 1)
    parts = [_convolution(x, f"{name}-expand1x1", filters, 1), _convolution(x, f"{name}-expand3x3", filters, 3, 1, 1)]
    return keras.layers.Concatenate(name=name)(parts)


def _pool(x, window, cut, number):
    if cut:  # a row of zeros is never the maximum of what a ReLU has left, unless all are zeros
        x = keras.layers.ZeroPadding2D(((0, 1), (0, 1)), data_format="channels_last", name=f"pad-{number}")(x)
    return keras.layers.MaxPooling2D(window, 2, data_format="channels_last", name=f"pool-{number}")(x)


def _trunk_sources(trunk):
    for layer in trunk.layers:
        if isinstance(layer, keras.layers.Conv2D):
            name = layer.name.replace("-", ".")
            yield layer.kernel, (f"{name}.weight",), convolution_kernel
            yield layer.bias, (f"{name}.bias",), np.asarray


def _head_sources(model):
    for layer in model.layers:
        if layer.name.startswith("lin"):
            yield layer.kernel, (f"{layer.name}.model.1.weight",), convolution_kernel
