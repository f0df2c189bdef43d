"""The InceptionV3 of 2015 from which FID is computed, layer by layer.

It differs from the one in `keras.applications` and torchvision, which were trained anew: 1,008 classes instead of
1,000; average pooling that leaves the border's zeros out of the mean; and in the last block, `Mixed_7c`, maximum
pooling in the place of average pooling.

Convolutions have no bias and are followed by batch normalization, which in inference is a factor and a shift of each
channel: both are put into the convolution when weights are read, W·γ/√(v + ε) and β − m·γ/√(v + ε).

Names of layers are those of torch-fidelity's and pytorch-fid's state dict, with "-" for ".".

Reference: Szegedy et al., "Rethinking the inception architecture for computer vision", arXiv:1512.00567.
"""

import keras
import numpy as np

from keras_diffusion.layers.initializers import Zeros

SIZE, CLASSES, EPSILON = 299, 1008, 1e-3
TAPS = (64, 192, 768, 2048)

# A branch is a chain of convolutions (name, filters, kernel); "s" halves the size. Where the last entry is a list, its
# convolutions stand side by side.
_MIXED_A = (
    (("branch1x1", 64, 1),),
    (("branch5x5_1", 48, 1), ("branch5x5_2", 64, 5)),
    (("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)),
)
_MIXED_B = (
    (("branch3x3", 384, 3, "s"),),
    (("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3, "s")),
)
_MIXED_D = (
    (("branch3x3_1", 192, 1), ("branch3x3_2", 320, 3, "s")),
    (
        ("branch7x7x3_1", 192, 1),
        ("branch7x7x3_2", 192, (1, 7)),
        ("branch7x7x3_3", 192, (7, 1)),
        ("branch7x7x3_4", 192, 3, "s"),
    ),
)
_MIXED_E = (
    (("branch1x1", 320, 1),),
    (("branch3x3_1", 384, 1), [("branch3x3_2a", 384, (1, 3)), ("branch3x3_2b", 384, (3, 1))]),
    (
        ("branch3x3dbl_1", 448, 1),
        ("branch3x3dbl_2", 384, 3),
        [("branch3x3dbl_3a", 384, (1, 3)), ("branch3x3dbl_3b", 384, (3, 1))],
    ),
)


def _mixed_c(inner):
    names = [f"branch7x7dbl_{i}" for i in range(1, 6)]
    kernels = (1, (7, 1), (1, 7), (7, 1), (1, 7))
    return (
        (("branch1x1", 192, 1),),
        (("branch7x7_1", inner, 1), ("branch7x7_2", inner, (1, 7)), ("branch7x7_3", 192, (7, 1))),
        tuple(zip(names, (inner, inner, inner, inner, 192), kernels)),
    )


# (name, branches, pooling, filters behind the pooling)
_BLOCKS = (
    ("Mixed_5b", _MIXED_A, "mean", 32),
    ("Mixed_5c", _MIXED_A, "mean", 64),
    ("Mixed_5d", _MIXED_A, "mean", 64),
    ("Mixed_6a", _MIXED_B, "halve", None),
    ("Mixed_6b", _mixed_c(128), "mean", 192),
    ("Mixed_6c", _mixed_c(160), "mean", 192),
    ("Mixed_6d", _mixed_c(160), "mean", 192),
    ("Mixed_6e", _mixed_c(192), "mean", 192),
    ("Mixed_7a", _MIXED_D, "halve", None),
    ("Mixed_7b", _MIXED_E, "mean", 192),
    ("Mixed_7c", _MIXED_E, "maximum", 192),
)


def inception_v3(features=2048):
    """The network up to one of its taps.

    Args:
        features: 64, 192 or 768: means over the picture of what lies before the second, the third and the last stage;
            2048: the last layer before the classes.

    Returns:
        Keras model from pictures `(B, 299, 299, 3)`, (y − 128)/128, to a dict: "features" `(B, features)`, and for 2048
        "logits" `(B, 1008)` without the bias, as the Inception Score takes them.
    """
    pictures = keras.Input((SIZE, SIZE, 3), name="pictures")
    outputs = {}

    def tap(x, width):
        outputs[width] = keras.layers.GlobalAveragePooling2D(name=f"mean_{width}")(x)
        return width == features

    x = _stem(pictures, tap, features)
    if features not in outputs:
        for name, *block in _BLOCKS:
            x = _mixed(x, name, *block)
            if name == "Mixed_6e" and tap(x, 768):
                break
        else:
            tap(x, 2048)
    found = {"features": outputs[features]}
    if features == 2048:
        classes = keras.layers.Dense(CLASSES, use_bias=False, kernel_initializer=Zeros(), name="fc")
        found["logits"] = classes(outputs[2048])
    return keras.Model(pictures, found, name="inception_v3")


def _stem(x, tap, features):
    x = _convolution(x, "Conv2d_1a_3x3", 32, 3, strides=2, padding="valid")
    x = _convolution(x, "Conv2d_2a_3x3", 32, 3, padding="valid")
    x = _convolution(x, "Conv2d_2b_3x3", 64, 3)
    x = keras.layers.MaxPooling2D(3, 2, name="MaxPool_1")(x)
    if tap(x, 64):
        return x
    x = _convolution(x, "Conv2d_3b_1x1", 80, 1)
    x = _convolution(x, "Conv2d_4a_3x3", 192, 3, padding="valid")
    x = keras.layers.MaxPooling2D(3, 2, name="MaxPool_2")(x)
    tap(x, 192)
    return x


def _mixed(x, block, branches, pooling, filters):
    """Branches side by side, and a pooled one behind them."""
    found = []
    for branch in branches:
        h = x
        for entry in branch:
            together = isinstance(entry, list)
            parts = [_entry(h, block, *part) for part in (entry if together else [entry])]
            h = keras.layers.Concatenate(name=f"{block}-{entry[0][0]}-join")(parts) if together else parts[0]
        found.append(h)
    if pooling == "halve":
        pooled = keras.layers.MaxPooling2D(3, 2, name=f"{block}-pool")(x)
    else:
        kind = keras.layers.MaxPooling2D if pooling == "maximum" else keras.layers.AveragePooling2D
        pooled = kind(3, 1, padding="same", name=f"{block}-pool")(x)  # the mean is over pixels that there are
        pooled = _convolution(pooled, f"{block}-branch_pool", filters, 1)
    return keras.layers.Concatenate(name=block)([*found, pooled])


def _entry(x, block, name, filters, kernel, halve=None):
    stride = {"strides": 2, "padding": "valid"} if halve else {}
    return _convolution(x, f"{block}-{name}", filters, kernel, **stride)


def _convolution(x, name, filters, kernel, strides=1, padding="same"):
    options = {"kernel_initializer": Zeros(), "bias_initializer": Zeros(), "data_format": "channels_last"}
    return keras.layers.Conv2D(filters, kernel, strides, padding, activation="relu", name=name, **options)(x)


def sources(network):
    """Where the weights come from: triples (variable, names of tensors, function of their arrays)."""
    for layer in network.layers:
        name = layer.name.replace("-", ".")
        if isinstance(layer, keras.layers.Conv2D):
            scales = (f"{name}.bn.weight", f"{name}.bn.running_var")
            yield layer.kernel, (f"{name}.conv.weight", *scales), _folded_kernel
            yield layer.bias, (f"{name}.bn.bias", f"{name}.bn.running_mean", *scales), _folded_bias
        elif layer.name == "fc":
            yield layer.weights[0], ("fc.weight",), np.transpose


def _folded_kernel(kernel, gamma, variance):
    return kernel.astype("float64").transpose(2, 3, 1, 0) * _factor(gamma, variance)


def _folded_bias(beta, mean, gamma, variance):
    return beta.astype("float64") - mean * _factor(gamma, variance)


def _factor(gamma, variance):
    return gamma.astype("float64") / np.sqrt(variance.astype("float64") + EPSILON)
