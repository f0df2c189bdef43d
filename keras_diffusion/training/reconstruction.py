"""Losses of pictures against their originals, on tensors, with gradients: what an autoencoder is trained on.

    l1      mean |x̂ − x|             l2      mean (x̂ − x)²             ssim    1 − SSIM(x̂, x)

Pictures are in [−1, 1], means are over the numbers of a picture, and each picture has its own value. On the host and
in float64, `metrics.psnr` and `metrics.ssim` say the same of finished pictures.
"""

import numpy as np
from keras import ops

from keras_diffusion.configs.checks import check_choice, check_number, shown

SMALLEST_SIDE = 6  # of a picture that has an SSIM: the Gaussian reaches 5 pixels beyond the border
_SIGMA, _REACH = 1.5, 5  # of SSIM's Gaussian, in pixels
_LUMINANCE, _CONTRAST = 0.01**2, 0.03**2
_LEAST = 1e-10  # squared error of what counts as equal: 100 dB


def absolute_error(pictures, originals):
    """Mean absolute difference of each picture.

    Args:
        pictures, originals: `(B, H, W, C)`, float in [−1, 1].

    Returns:
        tensor `(B,)`.
    """
    return _mean(ops.abs(pictures - originals))


def squared_error(pictures, originals):
    """Mean squared difference of each picture.

    Args:
        pictures, originals: `(B, H, W, C)`, float in [−1, 1].

    Returns:
        tensor `(B,)`.
    """
    return _mean(ops.square(pictures - originals))


def structural_similarity(pictures, originals):
    """SSIM of each picture: 1 for equal ones; the numbers of `metrics.ssim`.

    Args:
        pictures, originals: `(B, H, W, C)`, float in [−1, 1]; H and W at least 6.

    Returns:
        tensor `(B,)`, in [−1, 1].

    Reference:
        Wang et al. 2004, doi:10.1109/TIP.2003.819861.
    """
    x, y = (pictures + 1.0) / 2.0, (originals + 1.0) / 2.0
    channels = x.shape[-1]
    moments = _blurred(ops.concatenate([x, y, x * x, y * y, x * y], axis=-1))
    mean_x, mean_y, square_x, square_y, product = (moments[..., i * channels : (i + 1) * channels] for i in range(5))
    variance_x = ops.maximum(square_x - ops.square(mean_x), 0.0)
    variance_y = ops.maximum(square_y - ops.square(mean_y), 0.0)
    covariance = product - mean_x * mean_y
    luminance = (2.0 * mean_x * mean_y + _LUMINANCE) / (ops.square(mean_x) + ops.square(mean_y) + _LUMINANCE)
    return _mean(luminance * (2.0 * covariance + _CONTRAST) / (variance_x + variance_y + _CONTRAST))


def dissimilarity(pictures, originals):
    """1 − SSIM of each picture.

    Args:
        pictures, originals: `(B, H, W, C)`, float in [−1, 1]; H and W at least 6.

    Returns:
        tensor `(B,)`, in [0, 2].

    Reference:
        Zhao et al. 2017, "Loss functions for image restoration with neural networks", arXiv:1511.08861.
    """
    return 1.0 - structural_similarity(pictures, originals)


def signal_to_noise(pictures, originals):
    """Peak signal-to-noise ratio of each picture, at most 100: the numbers of `metrics.psnr`.

    Args:
        pictures, originals: `(B, H, W, C)`, float in [−1, 1].

    Returns:
        tensor `(B,)`, decibels.
    """
    error = ops.maximum(squared_error(pictures, originals) / 4.0, _LEAST)
    return ops.log(error) * (-10.0 / np.log(10.0))


RECONSTRUCTION_LOSSES = {"l1": absolute_error, "l2": squared_error, "ssim": dissimilarity}


def reconstruction_weights(reconstruction):
    """The weights of reconstruction losses.

    Args:
        reconstruction: a name, "l1", "l2" or "ssim", or a dict from names to weights > 0.

    Returns:
        dict from names to floats.

    Raises:
        ValueError: unknown names, weights that are not above 0, an empty dict.

    Example:

    >>> reconstruction_weights("l1"), reconstruction_weights({"l1": 1, "ssim": 0.2})
    ({'l1': 1.0}, {'l1': 1.0, 'ssim': 0.2})
    """
    given = reconstruction if isinstance(reconstruction, dict) else {reconstruction: 1.0}
    rule = f"`reconstruction` is one of {', '.join(RECONSTRUCTION_LOSSES)}, or a dict from them to weights"
    if not given:
        raise ValueError(f"{rule}. Received: reconstruction={shown(reconstruction)}")
    for name in given:
        check_choice("reconstruction", name, tuple(RECONSTRUCTION_LOSSES), rule)
    return {name: check_number(f"reconstruction[{name!r}]", weight, above=0) for name, weight in given.items()}


def _mean(values):
    return ops.mean(values, axis=tuple(range(1, len(values.shape))))


def _blurred(x):
    """`x` under SSIM's Gaussian, mirrored at the border without the border itself."""
    weights = np.exp(-0.5 * (np.arange(-_REACH, _REACH + 1) / _SIGMA) ** 2)
    weights = ops.convert_to_tensor((weights / weights.sum()).astype("float32"))
    x = ops.pad(x, ((0, 0), (_REACH, _REACH), (_REACH, _REACH), (0, 0)), mode="reflect")
    height, width = ops.shape(x)[1] - 2 * _REACH, ops.shape(x)[2] - 2 * _REACH
    # Sums of shifted pictures: a depthwise convolution costs several times as much on CPUs.
    x = sum(weights[i] * x[:, i : i + height] for i in range(2 * _REACH + 1))
    return sum(weights[i] * x[:, :, i : i + width] for i in range(2 * _REACH + 1))
