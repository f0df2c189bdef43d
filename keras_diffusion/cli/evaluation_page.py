"""`evaluation.html`: one self-contained file, pictures included, without scripts."""

import base64
import html
import math

import numpy as np

from keras_diffusion.comparison.page import STYLE
from keras_diffusion.comparison.pictures import sample_figures, shows_images
from keras_diffusion.metrics.result import with_error
from keras_diffusion.runtime.files import write_whole
from keras_diffusion.visualization.grid import image_grid, png_bytes

_COLOURS = ("#2563eb", "#ea580c", "#16a34a", "#9333ea", "#db2777")
_SHOWN, _EXTREMES = 64, 16  # samples in a grid, and of the best and the worst
_NOTE = (
    "± is a standard error: two values closer than twice that may be equal. The last column is what perfect samples "
    "would get: the metric between random halves of the real data, and how much it varies from one to the next. Values "
    "of other numbers of samples, features or resizing cannot be compared with these."
)
_MORE = """
.better td { background: #f0fdf4 }
td.line { text-align: left; white-space: nowrap }
"""


def write_generation_page(path, title, evaluator, results, samples, looked_at, summary):
    """Writes the page.

    Args:
        path: the file.
        title: what is measured.
        evaluator: `GenerationEvaluator`.
        results: model → metric → `MetricResult`.
        samples: model → generated samples `(N, ...)`.
        looked_at: model → what is shown of its samples, see `evaluating._look`.
        summary: the content of metrics.json.
    """
    parts = [
        f'<p class="soft">{_introduction(evaluator)}</p>',
        html_numbers(evaluator.metrics, results, _NOTE),
        _side_by_side(evaluator, samples),
        *(_neighbours(name, samples[name], found) for name, found in looked_at.items()),
        *(_extremes(name, samples[name], found) for name, found in looked_at.items()),
        quotable(results, summary),
    ]
    write_page(path, f"How good are the samples of {title}?", parts)


def write_page(path, title, parts):
    """Writes a page of HTML parts; empty ones are left out."""
    title = html.escape(title)
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
    page = (
        f'<!doctype html>\n<html lang="en"><head>{head}<style>{STYLE}{_MORE}</style></head>\n<body><main>\n'
        + "\n".join([f"<h1>{title}</h1>", *(part for part in parts if part)])
        + "\n</main></body></html>\n"
    )
    write_whole(path, page.encode("utf-8"))


def _introduction(evaluator):
    reference = evaluator.reference
    return html.escape(
        f"{evaluator.num_samples:,} generated samples against {evaluator.num_real:,} real ones, in the features of "
        f"{reference.extractor.name}. All models start from the same noise, and their samples have the labels or "
        "captions of the real ones."
    )


def html_numbers(metrics, results, note, more=()):
    """The table of metrics, with the floor, and what it means.

    Args:
        metrics: the metrics, in order.
        results: model → metric → `MetricResult`.
        note: HTML below the table.
        more: further rows, each a list of texts.
    """
    head = "".join(f"<th>{html.escape(text)}</th>" for text in ("metric", "better", *results, "real against real"))
    rows = [list(row) for row in more]
    for metric in metrics:
        found = [values[metric.name] for values in results.values()]
        floor = found[0].floor
        last = "–" if floor is None else f"{with_error(floor.value, floor.spread)} at {floor.n:,}"
        rows.append([metric.title, metric.better, *(result.shown() for result in found), last])
    rows = ["".join(f"<td>{html.escape(cell)}</td>" for cell in cells) for cells in rows]
    return f'<h2>Numbers</h2>{html_table(rows, head)}<p class="soft">{note}</p>'


def _side_by_side(evaluator, samples):
    real = evaluator.reference.images
    if not shows_images(real.shape[1:]):
        named = {"real": real, **samples}
        colours = dict(zip(named, ("#64748b", *_COLOURS * len(named))))
        named = {name: images[:500] for name, images in named.items()}
        figures = [figure for row in sample_figures(named, None, colours) for figure in row]
        return f"<h2>Real and generated</h2>{html_figures(figures)}" if figures else ""
    figures = [("Real.", _picture(real[:_SHOWN]))]
    figures += [
        (f"{name}: the first {min(_SHOWN, len(images))}, not chosen.", _picture(images[:_SHOWN]))
        for name, images in samples.items()
    ]
    return f"<h2>Real and generated</h2>{html_figures(figures)}"


def _neighbours(name, images, found):
    """The first samples above what is nearest to each of them among real ones."""
    if not shows_images(images.shape[1:]):
        return ""
    count = len(found["pixels"])
    distances = [f"{distance:.3g}" for distance in found["distances"]]
    grid = image_grid(
        np.concatenate([as_floats(images[:count]), found["pixels"], found["features"]]),
        rows=3,
        cols=count,
        scale="auto",
        titles=["generated", "nearest, pixels", "nearest, features"],
        column_titles=distances,
    )
    note = (
        f"The first samples of {name}, above the nearest of {found['searched']:,} training samples by pixels, whose "
        "distance stands on top, and the nearest real sample by features. A copy would have a distance near 0."
    )
    figure = (note, html_picture(grid, "generated samples, and the nearest training samples"))
    return f"<h2>Nearest training samples: {html.escape(name)}</h2>{html_figures([figure])}"


def _extremes(name, images, found):
    """The samples nearest to a real one in features, and those farthest from all."""
    if not shows_images(images.shape[1:]):
        return ""
    best, worst = found["order"][:_EXTREMES], found["order"][::-1][:_EXTREMES]
    figures = [
        (
            f"{text} Distances {found['realism'][rows[0]]:.3g} to {found['realism'][rows[-1]]:.3g}.",
            _picture(images[rows]),
        )
        for text, rows in (("Nearest to a real sample.", best), ("Farthest from all real samples.", worst))
    ]
    return f"<h2>The best and the worst: {html.escape(name)}</h2>{html_figures(figures)}"


def quotable(results, summary):
    """Each number with all that it depends on, to be copied."""
    rows = [
        f'<td>{html.escape(name)}</td><td class="line"><code>{html.escape(str(result))}</code></td>'
        for name, found in results.items()
        for result in found.values()
    ]
    where = html.escape(f"keras_diffusion {summary['keras_diffusion']}, {summary['time']}, data: {summary['data']}")
    return f'<h2>To be quoted</h2>{html_table(rows)}<p class="soft">{where}</p>'


def html_table(rows, head=""):
    """A table that scrolls where the window is narrow, from the HTML of its rows and of its head."""
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    head = f"<thead><tr>{head}</tr></thead>" if head else ""
    return f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>'


def html_figures(figures):
    """Pictures beside each other, from pairs of a caption and the HTML of a picture."""
    shown = "".join(
        f"<figure>{picture}<figcaption>{html.escape(caption)}</figcaption></figure>" for caption, picture in figures
    )
    return f'<div class="samples">{shown}</div>'


def _picture(images):
    columns = math.ceil(math.sqrt(len(images)))
    return html_picture(image_grid(as_floats(images), cols=columns, scale="auto"), f"{len(images)} samples")


def as_floats(images):
    """Pictures as a grid takes them: within [−1, 1], where what is not finite is grey."""
    return np.clip(np.nan_to_num(images), -1.0, 1.0)


def html_picture(grid, text):
    """A grid of pictures as HTML, within the page, with the text for those who do not see it."""
    data = base64.b64encode(png_bytes(grid)).decode("ascii")
    return f'<img alt="{html.escape(text)}" src="data:image/png;base64,{data}">'
