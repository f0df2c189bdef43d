"""How like another picture a picture is: what was reconstructed, inpainted or enlarged, beside the original.

    PSNR = 10·log₁₀(1/mean (x − y)²)                                                   decibels
    SSIM = mean over pixels of l·c,      l = (2μ_x·μ_y + C₁)/(μ_x² + μ_y² + C₁),   c = (2σ_xy + C₂)/(σ_x² + σ_y² + C₂)
    MS-SSIM = l·c at the coarsest scale^w₅ · Π c at the scales before it^w_i

Pictures count from 0 to 1: SSIM does change when black is called −1. Means and variances are weighted by a Gaussian of
standard deviation 1.5 over 11×11 pixels, C₁ = 0.01², C₂ = 0.03². All of it is float64 on the host.

They compare pictures one by one. For sets of pictures there are metrics of features (`metrics.get`).

References: Wang et al., "Image quality assessment: from error visibility to structural similarity",
doi:10.1109/TIP.2003.819861; Wang et al., "Multiscale structural similarity for image quality assessment",
doi:10.1109/ACSSC.2003.1292216.
"""

import numpy as np

from keras_diffusion.configs.checks import check_array
from keras_diffusion.metrics.extractors.extractor import check_images

SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_SIGMA, _REACH = 1.5, 5  # of the Gaussian, in pixels
_LUMINANCE, _CONTRAST = 0.01**2, 0.03**2
_AT_ONCE = 16  # pictures


def psnr(pictures, originals):
    """Peak signal-to-noise ratio: how far below white the error lies.

    Args:
        pictures: `(N, H, W, C)`, uint8, or floats in [−1, 1].
        originals: `(N, H, W, C)`, what they should be.

    Returns:
        float64 `(N,)`, decibels; infinite for equal pictures.

    Raises:
        ValueError: unequal shapes, other types, NaN or infinity.

    Example:

    >>> black, white = np.full((1, 8, 8, 1), -1.0), np.ones((1, 8, 8, 1))
    >>> kd.metrics.psnr(0.8 * black, black)  # an error of a tenth of the range
    array([20.])
    """
    pictures, originals = check_pair(pictures, originals)
    error = np.array([np.mean((_unit(x) - _unit(y)) ** 2) for x, y in zip(pictures, originals)])
    with np.errstate(divide="ignore"):
        return -10.0 * np.log10(error) + 0.0


def ssim(pictures, originals):
    """Structural similarity: 1 for equal pictures, 0 for unrelated ones.

    The numbers are those of torchmetrics with `data_range=1.0` on pictures in [0, 1].

    Args:
        pictures: `(N, H, W, C)`, uint8, or floats in [−1, 1]; H and W at least 6.
        originals: `(N, H, W, C)`, what they should be.

    Returns:
        float64 `(N,)`, in [−1, 1].

    Raises:
        ValueError: unequal shapes, pictures that are too small, other types, NaN or infinity.

    Example:

    >>> picture = np.linspace(-1, 1, 64).reshape(1, 8, 8, 1)
    >>> kd.metrics.ssim(picture, picture), bool(kd.metrics.ssim(-picture, picture)[0] < 0)
    (array([1.]), True)
    """
    pictures, originals = check_pair(pictures, originals)
    _check_size(pictures, _REACH + 1, "the Gaussian reaches 5 pixels beyond the border, where pictures are mirrored")
    return _in_parts(pictures, originals, lambda x, y: np.mean(np.multiply(*_similarity(x, y)), axis=(1, 2, 3)))


def ms_ssim(pictures, originals, weights=SCALES):
    """Multi-scale structural similarity: SSIM's contrast at several scales, its luminance at the coarsest.

    The numbers are those of torchmetrics with `data_range=1.0` on pictures in [0, 1].

    Args:
        pictures: `(N, H, W, C)`, uint8, or floats in [−1, 1]; with five scales H and W at least 176.
        originals: `(N, H, W, C)`, what they should be.
        weights: exponents of the scales `(scales,)`, from fine to coarse. Default: those of the paper; for smaller
            pictures take fewer, whose numbers compare with no others.

    Returns:
        float64 `(N,)`, in [0, 1].

    Raises:
        ValueError: unequal shapes, pictures that are too small, other types, NaN or infinity; weights that are not
            positive.

    Example:

    >>> picture = np.linspace(-1, 1, 32 * 32).reshape(1, 32, 32, 1)
    >>> kd.metrics.ms_ssim(picture, picture, weights=(0.5, 0.5))
    array([1.])
    """
    pictures, originals = check_pair(pictures, originals)
    weights = check_array("weights", weights, "float64")
    if weights.ndim != 1 or not weights.size or not np.all(weights > 0):
        raise ValueError(f"`weights` are numbers > 0, one for each scale. Received: weights={weights}")
    # At each scale the contrast is taken 5 pixels from the border: at the coarsest, 11 pixels leave one.
    least = (2 * _REACH + 1) * 2 ** (len(weights) - 1)
    _check_size(pictures, least, f"{len(weights)} scales halve it {len(weights) - 1} times. Pass fewer weights")

    def several(x, y):
        value = np.ones(len(x))
        for i, weight in enumerate(weights):
            luminance, contrast = _similarity(x, y)
            if i == len(weights) - 1:
                part = np.mean(luminance * contrast, axis=(1, 2, 3))
            else:
                part = np.mean(contrast[:, _REACH:-_REACH, _REACH:-_REACH], axis=(1, 2, 3))
                x, y = _halved(x), _halved(y)
            value *= np.maximum(part, 0.0) ** weight
        return value

    return _in_parts(pictures, originals, several)


def _similarity(x, y):
    """SSIM's luminance and contrast of each pixel, for pictures in [0, 1]."""
    mean_x, mean_y = _blurred(x), _blurred(y)
    variance_x = np.maximum(_blurred(x * x) - mean_x**2, 0.0)
    variance_y = np.maximum(_blurred(y * y) - mean_y**2, 0.0)
    covariance = _blurred(x * y) - mean_x * mean_y
    luminance = (2.0 * mean_x * mean_y + _LUMINANCE) / (mean_x**2 + mean_y**2 + _LUMINANCE)
    return luminance, (2.0 * covariance + _CONTRAST) / (variance_x + variance_y + _CONTRAST)


def _blurred(x):
    from scipy.ndimage import correlate1d

    weights = np.exp(-0.5 * (np.arange(-_REACH, _REACH + 1) / _SIGMA) ** 2)
    weights /= weights.sum()
    return correlate1d(correlate1d(x, weights, axis=1, mode="mirror"), weights, axis=2, mode="mirror")


def _halved(x):
    height, width = x.shape[1] // 2, x.shape[2] // 2
    x = x[:, : 2 * height, : 2 * width]
    return x.reshape(len(x), height, 2, width, 2, -1).mean(axis=(2, 4))


def _in_parts(pictures, originals, function):
    starts = range(0, len(pictures), _AT_ONCE)
    parts = [(pictures[i : i + _AT_ONCE], originals[i : i + _AT_ONCE]) for i in starts]
    return np.concatenate([function(_unit(x), _unit(y)) for x, y in parts])


def _unit(images):
    """Pictures as float64 in [0, 1], unrounded and not clipped."""
    if images.dtype == np.uint8:
        return images / 255.0
    return (images.astype("float64") + 1.0) / 2.0


def check_pair(pictures, originals):
    """Two batches of pictures as arrays of one shape; ValueError for anything else."""
    pictures, originals = check_images(pictures), check_images(originals)
    if pictures.shape != originals.shape:
        raise ValueError(
            "Each picture is compared with its original, of the same shape. Received: pictures of shape "
            f"{pictures.shape}, originals of shape {originals.shape}"
        )
    for name, images in (("pictures", pictures), ("originals", originals)):
        bad = 0 if images.dtype == np.uint8 else int((~np.isfinite(images)).sum())
        if bad:
            raise ValueError(f"Pictures must be finite. Received: {name} with {bad} NaN or infinite values")
    return pictures, originals


def _check_size(pictures, least, why):
    if min(pictures.shape[1:3]) < least:
        raise ValueError(
            f"Height and width must be at least {least}: {why}. Received: pictures of shape {pictures.shape}"
        )
