"""From a batch of pictures to what a network sees: 8 bits, another size, other numbers for black and white.

    pictures ── 8 bits ── y = A·x·Bᵀ for each channel ── clip ── (y − shift)/scale

Published tools differ in the resizing, and with it their numbers: A and B are the matrices of one dimension.

    convention        resizing                                         clip   as
    "clean"           bicubic, a = −½, as wide as the reduction        yes    clean-fid: Pillow, each channel in float32
    "torch-fidelity"  bilinear from the corner, two pixels, TF 1.x     no     torch-fidelity, torchmetrics
    "tensorflow"      the same                                         no     the TensorFlow original; clean-fid's
                                                                              "legacy_tensorflow"
    "pytorch"         bilinear from the centre, two pixels             no     pytorch-fid, dgm-eval's DINOv2;
                                                                              clean-fid's "legacy_pytorch"

"Two pixels": however much a picture is reduced, each new pixel looks at two old ones in a row, so that fine patterns
become coarse ones (aliasing). Parmar et al. measure what that does to FID, and recommend "clean".

Reference: Parmar, Zhang & Zhu, "On aliased resizing and surprising subtleties in GAN evaluation", arXiv:2104.11222.
"""

import functools

import numpy as np

from keras_diffusion.configs.arguments import ArgumentsMixin
from keras_diffusion.configs.checks import check_choice, check_whole
from keras_diffusion.runtime import limits

# What a network was trained on: (y − shift)/scale of y in 0…255, a number or one for each channel.
NORMALIZATIONS = {
    "inception": (128.0, 128.0),
    "symmetric": (127.5, 127.5),
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "clip": ((122.7709383, 116.7460125, 104.09373615), (68.5005327, 66.6321579, 70.32316305)),
    "none": (0.0, 1.0),
}


def bicubic_matrix(old, new):
    """Weights `(new, old)` by which Pillow's bicubic filter resizes a row of pixels.

    The filter of a = −½ is stretched by the reduction, cut off at the border, and normalized.
    """
    scale = old / new
    stretch = max(scale, 1.0)
    matrix = np.zeros((new, old))
    for i in range(new):
        centre = (i + 0.5) * scale
        # Pillow's rounding: of non-negative numbers towards zero
        first = max(int(centre - 2.0 * stretch + 0.5), 0)
        last = min(int(centre + 2.0 * stretch + 0.5), old)
        at = (np.arange(first, last) - centre + 0.5) / stretch
        weights = _cubic(np.abs(at), -0.5)
        matrix[i, first:last] = weights / weights.sum()
    return matrix


def corner_bilinear_matrix(old, new):
    """Weights `(new, old)` of TensorFlow 1's bilinear resizing: pixel i lies at i·old/new."""
    return _two_pixels(np.arange(new, dtype="float32") * np.float32(old / new), old)


def centre_bilinear_matrix(old, new):
    """Weights `(new, old)` of PyTorch's bilinear resizing: pixel i lies at (i + ½)·old/new − ½."""
    return _two_pixels(np.maximum((np.arange(new) + 0.5) * (old / new) - 0.5, 0.0), old)


def torch_bicubic_matrix(old, new, scale=None):
    """Weights `(new, old)` of PyTorch's bicubic resizing without antialiasing: four pixels, a = −¾.

    Args:
        old, new: numbers of pixels.
        scale: old pixels for each new one; None (default) for old/new.
    """
    at = (np.arange(new) + 0.5) * (old / new if scale is None else scale) - 0.5
    first = np.floor(at)
    matrix = np.zeros((new, old))
    for offset in (-1, 0, 1, 2):
        column = np.clip(first + offset, 0, old - 1).astype(int)
        np.add.at(matrix, (np.arange(new), column), _cubic(np.abs(at - first - offset), -0.75))
    return matrix


RESIZINGS = {
    "clean": bicubic_matrix,
    "torch-fidelity": corner_bilinear_matrix,
    "tensorflow": corner_bilinear_matrix,
    "pytorch": centre_bilinear_matrix,
}


class Preprocessing(ArgumentsMixin):
    """Resizing by a convention, and the numbers that a network wants.

    Args:
        convention: "clean", "torch-fidelity", "tensorflow" or "pytorch"; None for no resizing.
        size: height and width afterwards; None (default) keeps those of the pictures.
        normalization: "inception": (y − 128)/128; "symmetric": y/127.5 − 1; "imagenet" or "clip": mean and standard
            deviation of each channel; "none" (default): 0…255.
        quantize: whether floats are first rounded to 8 bits, as if they had been saved: what every published number
            was computed from. Default True.

    Call arguments:
        images: `(B, H, W, C)`, uint8 or floats in [−1, 1], C 1 or 3. One channel becomes three.

    Returns:
        float32 `(B, size, size, 3)`.

    Raises:
        ValueError: an unknown convention or normalization; pictures of another form.

    Example:

    >>> prepare = Preprocessing("clean", 299, "inception")
    >>> prepare(np.zeros((2, 32, 32, 3), "uint8")).shape
    (2, 299, 299, 3)
    """

    def __init__(self, convention, size=None, normalization="none", quantize=True):
        if convention is not None:
            check_choice("preprocessing", convention, tuple(RESIZINGS))
        check_choice("normalization", normalization, tuple(NORMALIZATIONS))
        check_whole("size", size, 1, optional=True)

    @property
    def name(self):
        """The convention; "none" where pictures keep their size."""
        return self.convention or "none"

    def __call__(self, images):
        images = three_channels(to_bytes(images) if self.quantize else to_levels(images))
        shift, scale = (np.asarray(value, "float32") for value in NORMALIZATIONS[self.normalization])
        return (self.resize(images.astype("float32")) - shift) / scale

    def resize(self, images):
        """Pictures of the size that is wanted.

        Args:
            images: float32 `(B, H, W, C)` in 0…255.

        Returns:
            float32 `(B, size, size, C)`.

        Raises:
            ValueError: pictures or a size beyond the limit `table_values` of runtime/limits.py.
        """
        if self.convention is None or self.size is None:
            return images
        height, width = images.shape[1:3]
        limits.check(self.size * max(height, width), "table_values", "The number of weights to resize a picture with")
        rows, columns = (_matrix(self.convention, n, self.size) for n in (height, width))
        # Columns first: one product for all rows of all pictures, channels included.
        resized = np.einsum("bhwc,vw->bhvc", images, columns, optimize=True)
        resized = np.einsum("bhvc,uh->buvc", resized, rows, optimize=True)
        return np.clip(resized, 0.0, 255.0) if self.convention == "clean" else resized


def to_levels(images):
    """Pictures as float32 in 0…255, unrounded: floats in [−1, 1] are stretched, uint8 is converted."""
    if images.dtype == np.uint8:
        return images.astype("float32")
    return (np.asarray(images, "float32") + np.float32(1.0)) * np.float32(127.5)


def to_bytes(images):
    """Pictures as uint8: floats in [−1, 1] are rounded, and clipped where they leave the range."""
    if images.dtype == np.uint8:
        return images
    return np.clip(np.round((np.asarray(images, "float64") + 1.0) * 127.5), 0, 255).astype("uint8")


def to_floats(images):
    """Pictures as float32, uint8 in [−1, 1]; floats are left as they are."""
    if images.dtype == np.uint8:
        return images.astype("float32") / np.float32(127.5) - np.float32(1.0)
    return np.asarray(images, "float32")


def three_channels(images):
    """Pictures `(B, H, W, 3)`: one channel is repeated."""
    channels = images.shape[-1]
    if channels not in (1, 3):
        raise ValueError(
            "A network for pictures takes 3 channels, or 1, which is repeated. Received: images of shape "
            f"{tuple(images.shape)}. Put transparent pictures on a background first"
        )
    return np.repeat(images, 3, axis=-1) if channels == 1 else images


@functools.lru_cache(maxsize=32)
def _matrix(convention, old, new):
    return RESIZINGS[convention](old, new).astype("float32")


def _two_pixels(at, old):
    low = at.astype(int)
    matrix = np.zeros((len(at), old))
    rows = np.arange(len(at))
    np.add.at(matrix, (rows, np.minimum(low, old - 1)), 1.0 - (at - low))
    np.add.at(matrix, (rows, np.minimum(low + 1, old - 1)), at - low)
    return matrix


def _cubic(at, a):
    """The cubic convolution kernel at distances `at` ≥ 0."""
    near = (a + 2.0) * at**3 - (a + 3.0) * at**2 + 1.0
    far = a * (at**3 - 5.0 * at**2 + 8.0 * at - 4.0)
    return np.where(at < 1.0, near, np.where(at < 2.0, far, 0.0))
