"""Samples on the page: image grids and their differences, points in the plane, curves."""

import base64
import math

import numpy as np

from keras_diffusion.comparison.svg import chart
from keras_diffusion.visualization.grid import image_grid, png_bytes

_CURVES = 3  # of sequences, shown


def shows_images(sample_shape):
    """Whether samples are images that fit into a PNG file."""
    return len(sample_shape) == 3 and sample_shape[-1] in (1, 3, 4)


def sample_figures(samples, reference, colours):
    """Figures of the samples of all backends.

    Args:
        samples: backend → array `(N, ...)`.
        reference: name of the backend that the others are compared with; it may be missing in `samples`.
        colours: backend → CSS colour.

    Returns:
        list of rows, each a list of (caption, HTML): grids for images and, below, their differences; a plot for vectors
        (the first two numbers of each), and for sequences `(L, C)` (the first channel of the first three); empty
        for others.
    """
    shape = next(iter(samples.values())).shape[1:] if samples else ()
    if shows_images(shape):
        grids = [
            (f"{name}, the reference" if name == reference else name, _picture(images))
            for name, images in samples.items()
        ]
        others = [name for name in samples if name != reference] if reference in samples else []
        return [grids, [_difference(name, samples[name], reference, samples[reference]) for name in others]]
    if len(shape) == 1 and shape[0] >= 2:
        points = {name: (x[:, 0], x[:, 1]) for name, x in samples.items()}
        return [[("The first two numbers of every sample.", chart(points, colours, "x₁", "x₂", mode="points"))]]
    if len(shape) == 2:
        curves = min(_CURVES, len(next(iter(samples.values()))))
        lines = [{name: (range(shape[0]), x[i, :, 0]) for name, x in samples.items()} for i in range(curves)]
        charts = [chart(line, colours, "position", "value") for line in lines]
        return [[(f"Sample {i + 1}, channel 1.", plot) for i, plot in enumerate(charts)]]
    return []


def amplification(difference):
    """The power of ten that brings the largest absolute difference to between 0.2 and 2, the whole range."""
    largest = float(np.max(difference, initial=0.0))
    return 10.0 ** math.floor(math.log10(2.0 / largest)) if 0 < largest < math.inf else 1.0


def _difference(name, images, reference, expected):
    difference = np.nan_to_num(np.abs(images[..., :3] - expected[..., :3]), nan=2.0)
    factor = amplification(difference)
    return f"|{name} − {reference}|, × {factor:,.0f}", _picture(np.clip(factor * difference - 1.0, -1.0, 1.0))


def _picture(images):
    images = np.nan_to_num(images, nan=0.0)
    columns = math.ceil(math.sqrt(len(images)))
    data = base64.b64encode(png_bytes(image_grid(images, cols=columns, scale="auto"))).decode("ascii")
    return f'<img alt="{len(images)} samples" src="data:image/png;base64,{data}">'
