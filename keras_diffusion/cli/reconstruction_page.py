"""`evaluation.html` of autoencoders: originals above what becomes of them, in one file without scripts."""

import html

import numpy as np

from keras_diffusion.cli.evaluation_page import (
    as_floats,
    html_figures,
    html_numbers,
    html_picture,
    quotable,
    write_page,
)
from keras_diffusion.metrics.picture_quality import psnr
from keras_diffusion.visualization.grid import image_grid

_SHOWN, _EXTREMES = 24, 8  # pictures at first, and of the best and the worst
_COLUMNS = 8
_NOTE = (
    "± is a standard error, over pictures for PSNR and SSIM. The last column is the metric between random halves of "
    "the real pictures: what two sets without any flaw differ by. Reconstructions are compared with their own "
    "originals, and may come closer than that; a perfect autoencoder has 0. Values of other numbers of pictures, "
    "features or resizing cannot be compared with these."
)


def write_reconstruction_page(path, title, evaluator, results, remade, rows, summary):
    """Writes the page.

    Args:
        path: the file.
        title: what is measured.
        evaluator: `ReconstructionEvaluator`.
        results: model → metric → `MetricResult`.
        remade: model → reconstructions `(N, H, W, C)`.
        rows: rows of the table before those of `results`, lists of texts.
        summary: the content of metrics.json.
    """
    reader = evaluator.reference.extractor.name
    introduction = html.escape(
        f"{evaluator.num_samples:,} pictures, encoded and decoded, beside their originals; distances in the features "
        f"of {reader}."
    )
    parts = [
        f'<p class="soft">{introduction}</p>',
        html_numbers(evaluator.metrics, results, _NOTE, rows),
        *(_pictures(name, pictures, evaluator.originals) for name, pictures in remade.items()),
        quotable(results, summary),
    ]
    write_page(path, f"How good are the reconstructions of {title}?", parts)


def _pictures(name, pictures, originals):
    """The first pictures, and the best and the worst by PSNR."""
    quality = psnr(pictures, originals)
    order = np.argsort(quality, kind="stable")
    shown = np.arange(min(_SHOWN, len(pictures)))
    figures = [
        (f"The first {len(shown)}, not chosen: originals above reconstructions.", shown),
        (f"The worst, {_range(quality[order[:_EXTREMES]])}.", order[:_EXTREMES]),
        (f"The best, {_range(quality[order[::-1][:_EXTREMES]])}.", order[::-1][:_EXTREMES]),
    ]
    figures = [(text, _pairs(pictures, originals, chosen)) for text, chosen in figures]
    return f"<h2>Originals and reconstructions: {html.escape(name)}</h2>{html_figures(figures)}"


def _range(decibels):
    return f"{decibels[0]:.1f} to {decibels[-1]:.1f} dB"


def _pairs(pictures, originals, chosen):
    """Rows of originals, each above the row of their reconstructions."""
    rows = [chosen[i : i + _COLUMNS] for i in range(0, len(chosen), _COLUMNS)]
    found = []
    for row in rows:
        for images in (originals[row], pictures[row]):
            blank = np.ones((min(_COLUMNS, len(chosen)) - len(row), *images.shape[1:]), images.dtype)
            found.append(np.concatenate([images, blank]))
    grid = image_grid(as_floats(np.concatenate(found)), cols=min(_COLUMNS, len(chosen)), scale="auto")
    return html_picture(grid, f"{len(chosen)} originals and their reconstructions")
