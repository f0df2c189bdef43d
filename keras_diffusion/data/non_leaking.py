"""Augmentation that does not leak: the network is told what was done to each picture.

    picture ──▶ turned by 30°, moved to the left ──▶ network ◀── "augmentation": a vector of nine numbers
    sampling: zeros, "nothing was done"

A network trained on turned pictures draws turned pictures. Told of the turn, it learns from them all the same, and at
zeros draws pictures as they were: with few pictures it memorizes them later. What is drawn, and the nine numbers, are
EDM's:

    mirrored left to right, upside down       0 or 1
    scaled by 2^(σ·a)                         a, normal
    turned by φ                               cos φ − 1, sin φ
    stretched by 2^(σ·a) along an axis θ      a·cos θ, a·sin θ
    moved                                     two normals

Each is done with its own probability, the left-right flip with 1/2; a number is 0 where it is not.

Reference: Karras et al., "Elucidating the design space of diffusion-based generative models", arXiv:2206.00364,
appendix F.2; Karras et al., "Training generative adversarial networks with limited data", arXiv:2006.06676 (the
pipeline).
"""

import numpy as np

from keras_diffusion.configs.checks import check_flag, check_number
from keras_diffusion.runtime.optional import import_optional

_FINE = 2  # points per pixel and axis, for edges that stay smooth


class NonLeaking:
    """Flips, scaling, rotation, stretching and translation, and the vectors that tell of them.

    For `augment` of `data.load` and `data.Batches`, whose batches then hold float32 `(B, 9)` under "augmentation", and
    a network made with `augmentation_dim=9`. Beyond the edges the picture is continued by its mirror image.

    Args:
        probability: with which each is done, in [0, 1]. Default 0.12, for tens of thousands of pictures; up to 0.4 for
            fewer.
        horizontal_flip: whether half of the pictures are mirrored left to right. Default True.
        vertical_flip: whether half of those that `probability` allows are turned upside down. Default True.
        scale: standard deviation of the binary logarithm of the size, in [0, 0.5]. Default 0.2.
        rotation: share of all directions, in [0, 1]: angles are even from −180° to 180° times it. Default 1.
        stretch: standard deviation of the binary logarithm of stretching, in [0, 0.5]. Default 0.2.
        translation: standard deviation of shifts, in widths and heights, in [0, 0.5]. Default 0.125.

    Attributes:
        dim: length of the vectors, 9 whatever the arguments are.

    Call arguments:
        images: float32 `(B, H, W, C)`.
        rng: NumPy generator; all that is random comes from it.

    Returns:
        (images float32 `(B, H, W, C)`, vectors float32 `(B, 9)`).

    Raises:
        ValueError: numbers out of range, or what is no batch of pictures.

    Example:

    >>> data = kd.data.load("emoji", batch_size=32, augment=kd.data.NonLeaking(0.12))
    >>> data[0]["augmentation"].shape
    (32, 9)
    >>> network = kd.networks.UNet(data.image_shape, widths=(16, 32), num_classes=9, augmentation_dim=9)
    """

    dim = 9

    def __init__(
        self,
        probability=0.12,
        horizontal_flip=True,
        vertical_flip=True,
        scale=0.2,
        rotation=1.0,
        stretch=0.2,
        translation=0.125,
    ):
        self.probability = check_number("probability", probability, 0, 1)
        self.horizontal_flip = check_flag("horizontal_flip", horizontal_flip)
        self.vertical_flip = check_flag("vertical_flip", vertical_flip)
        self.scale, self.stretch, self.translation = (
            check_number(name, value, 0, 0.5)
            for name, value in (("scale", scale), ("stretch", stretch), ("translation", translation))
        )
        self.rotation = check_number("rotation", rotation, 0, 1)

    def __repr__(self):
        return f"{type(self).__name__}(probability={self.probability:g})"

    def __call__(self, images, rng):
        if images.ndim != 4:
            raise ValueError(
                f"{type(self).__name__} changes pictures (batch, height, width, channels). Received: "
                f"shape={images.shape}"
            )
        mirrored, upside_down, sizes, angles, stretches, axes, shifts = self._draw(len(images), rng)
        images = np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
        images = np.where(upside_down[:, None, None, None], images[:, ::-1], images)
        extent = np.array(images.shape[2:0:-1])  # width, height
        moved = np.flatnonzero((sizes != 0) | (angles != 0) | (stretches != 0) | (shifts != 0).any(axis=1))
        for i in moved:
            matrix = _scaling(2 ** (self.scale * sizes[i])) @ _rotation(angles[i])
            factor = 2 ** (self.stretch * stretches[i])
            matrix = matrix @ _rotation(axes[i]) @ np.diag([factor, 1 / factor]) @ _rotation(-axes[i])
            images[i] = _transformed(images[i], matrix, shifts[i] * self.translation * extent)
        columns = (mirrored, upside_down, sizes, np.cos(angles) - 1, np.sin(angles))
        columns = (*columns, stretches * np.cos(axes), stretches * np.sin(axes), *shifts.T)
        return images, np.stack(columns, axis=1).astype("float32")

    def _draw(self, n, rng):
        """What is done to each of n pictures; the same numbers are drawn whatever the arguments are."""
        done = rng.random((n, 5)) < self.probability
        coins, turns, normals = rng.random((n, 2)) < 0.5, rng.uniform(-1, 1, (n, 2)), rng.standard_normal((n, 4))
        strengths = np.array([self.scale, self.stretch, self.translation, self.translation]) > 0
        sizes, stretches, *shifts = (normals * done[:, [1, 3, 4, 4]] * strengths).T
        return (
            coins[:, 0] & self.horizontal_flip,
            coins[:, 1] & done[:, 0] & self.vertical_flip,
            sizes,
            np.pi * self.rotation * turns[:, 0] * done[:, 2],
            stretches,
            np.pi * turns[:, 1],
            np.stack(shifts, axis=1),
        )


def _scaling(factor):
    return np.diag([factor, factor])


def _rotation(angle):
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _transformed(image, matrix, shift):
    """An image `(H, W, C)` whose point p from the centre, (x, y) in pixels, is moved to matrix·p + shift."""
    pil = import_optional("PIL.Image", extra="viz", purpose="augmenting pictures")
    height, width, channels = image.shape
    inverse, centre = np.linalg.inv(matrix), np.array([width, height]) / 2
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]])
    seen = (corners - centre - shift) @ inverse.T + centre
    before = np.maximum(0, np.ceil(-seen.min(axis=0))).astype(int) + 2  # bicubic interpolation looks two pixels on
    after = np.maximum(0, np.ceil(seen.max(axis=0) - (width, height))).astype(int) + 2
    padded = np.pad(image, [(before[1], after[1]), (before[0], after[0]), (0, 0)], mode="reflect")
    start = centre + before - inverse @ (centre + shift)
    row_x, row_y = ((*inverse[k] / _FINE, start[k]) for k in (0, 1))
    options = {"method": pil.Transform.AFFINE, "data": (*row_x, *row_y), "resample": pil.Resampling.BICUBIC}
    size = (_FINE * width, _FINE * height)
    planes = [pil.fromarray(np.ascontiguousarray(padded[..., c])).transform(size, **options) for c in range(channels)]
    made = np.stack([np.asarray(plane.reduce(_FINE)) for plane in planes], axis=-1)
    return np.clip(made, image.min(), image.max())  # bicubic interpolation overshoots at edges
