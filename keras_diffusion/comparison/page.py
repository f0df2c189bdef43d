"""`compare.html`: one self-contained file, pictures included, without scripts."""

import html

from keras_diffusion.comparison import tables
from keras_diffusion.comparison.pictures import sample_figures
from keras_diffusion.comparison.svg import bars, chart
from keras_diffusion.runtime.files import write_whole

COLOURS = {"jax": "#2563eb", "tensorflow": "#ea580c", "torch": "#16a34a"}
_WIDE = 1080  # pixels, of a plot across the page
_FLOOR = 1e-9  # smaller differences, and zero, are drawn here

STYLE = """
:root { --ink: #0f172a; --soft: #64748b; --line: #e2e8f0; --paper: #ffffff; --ground: #f8fafc; --warn: #b45309 }
* { box-sizing: border-box }
body { margin: 0; background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans",
  sans-serif }
main { max-width: 1140px; margin: 0 auto; padding: 32px 24px 64px }
h1 { font-size: 26px; margin: 0 0 4px }
h2 { font-size: 19px; margin: 36px 0 10px }
h3 { font-size: 15px; margin: 0 0 6px }
p { margin: 6px 0; max-width: 84ch }
.soft, figcaption { color: var(--soft) }
.legend { display: flex; gap: 18px; margin: 8px 0 }
.legend i { display: inline-block; width: 22px; height: 5px; border-radius: 3px; margin-right: 7px;
  vertical-align: middle }
.scroll { overflow-x: auto; background: var(--paper); border: 1px solid var(--line); border-radius: 10px }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 14px }
th, td { padding: 9px 12px; text-align: right; border-bottom: 1px solid var(--line) }
tr:last-child td { border-bottom: 0 }
th { color: var(--soft); font-weight: 600; vertical-align: bottom }
th:first-child, td:first-child { text-align: left; font-weight: 600 }
td.reason { text-align: left; color: var(--warn) }
code { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: 13px }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(440px, 1fr)); gap: 18px }
.plots > .wide { grid-column: 1 / -1 }
.line { fill: none; stroke-linejoin: round }
.plots > div, figure { background: var(--paper); border: 1px solid var(--line); border-radius: 10px;
  padding: 14px 16px; margin: 0 }
.samples { display: flex; flex-wrap: wrap; gap: 18px; margin-bottom: 18px }
figure img { display: block; max-width: 100%; image-rendering: pixelated }
figure svg { width: 460px; max-width: 100% }
figcaption { margin-top: 8px }
svg { width: 100%; display: block }
svg text { fill: var(--soft); font: 12px system-ui, "DejaVu Sans", sans-serif }
.grid { stroke: var(--line) }
.axis { stroke: #94a3b8 }
.guide { stroke: #dc2626; stroke-dasharray: 5 4 }
.whisker { stroke: var(--ink); stroke-width: 2.5 }
"""


def write_page(path, summary, samples):
    """Writes the page.

    Args:
        path: the file.
        summary: the content of `compare.json`.
        samples: backend → array `(N, ...)`, of the backends that have finished.
    """
    write_whole(path, render(summary, samples).encode("utf-8"))


def render(summary, samples):
    """The page as text; arguments as in `write_page`."""
    done = {name: row for name, row in summary["backends"].items() if row["status"] == "ok"}
    compared = {name: row["difference"] for name, row in done.items() if row.get("difference")}
    title = f"{summary['title']}: {', '.join(summary['backends'])}"
    body = [
        _head(summary, title),
        _legend(done),
        *(_section(section, summary) for section in tables.sections(summary)),
        *([_plots(summary, done, compared)] if done else []),
        _samples(summary, samples),
        _made_with(summary, done),
    ]
    head = (
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{html.escape(title)}</title>'
    )
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}<style>{STYLE}</style></head>\n<body><main>\n'
        + "\n".join(body)
        + "\n</main></body></html>\n"
    )


def _head(summary, title):
    settings, shape = summary["settings"], "×".join(map(str, summary["sample_shape"]))
    text = (
        f"{summary['network']}, {summary['parameters']:,} parameters, samples of {shape}. The same weights, batches, "
        f"noise and latents on every backend: {settings['num_samples']} samples in {settings['num_steps']} steps, then "
        f"{settings['steps']} training steps of {settings['batch_size']}."
    )
    if summary["random_data"]:
        text += " Random numbers stood in for data, so the losses show agreement and nothing else."
    return f'<h1>{html.escape(title)}</h1><p class="soft">{html.escape(text)}</p>'


def _legend(done):
    return (
        '<div class="legend">'
        + "".join(f'<span><i style="background:{COLOURS[name]}"></i>{name}</span>' for name in done)
        + "</div>"
    )


def _section(section, summary):
    head = "".join(f"<th>{html.escape(column)}</th>" for column in section.columns)
    rows = []
    for name, cells in section.rows.items():
        if cells is None:
            row = summary["backends"][name]
            reason = html.escape(f"{row['status']}: {row['reason']}")
            rows.append(f'<td>{name}</td><td class="reason" colspan="{len(section.columns) - 1}">{reason}</td>')
        else:
            rows.append("".join(f"<td>{html.escape(cell)}</td>" for cell in (name, *cells)))
    table = _table(rows, f"<thead><tr>{head}</tr></thead>")
    return f"<h2>{section.title}</h2>{table}<p class='soft'>{html.escape(section.note)}</p>"


def _plots(summary, done, compared):
    steps = range(1, summary["settings"]["steps"] + 1)
    losses = {name: (steps, row["training"]["losses"]) for name, row in done.items()}
    apart = {name: (steps, found["loss_of_steps"]) for name, found in compared.items()}
    times = {name: _quartiles(row["training"]) for name, row in done.items()}
    sampling = {name: _quartiles(row["sampling"]) for name, row in done.items()}
    plots = [_plot("Loss", chart(losses, COLOURS, "training step", "loss"))]
    if compared:
        difference = chart(apart, COLOURS, "training step", "relative difference", log=True, floor=_FLOOR)
        plots.append(_plot(f"Difference of the loss from {summary['reference']}", difference))
    plots.append(_plot("Time of a training step", bars(times, COLOURS, "median, with quartiles", tables.seconds)))
    title = f"Time of {summary['settings']['num_samples']} samples"
    plots.append(_plot(title, bars(sampling, COLOURS, "median, with quartiles", tables.seconds)))
    if compared:
        plots.append(_layers_plot(summary, compared))
    return f'<h2>Plots</h2><div class="plots">{"".join(plots)}</div>'


def _layers_plot(summary, compared):
    limit, found = summary["layer_limit"], {name: list(zip(*row["layers"])) for name, row in compared.items()}
    layers = {name: (range(len(values)), values) for name, (_, values) in found.items()}
    axes = ("layer, in the order of the forward pass", "relative difference")
    options = {"log": True, "floor": _FLOOR, "guide": limit, "mode": "points", "width": _WIDE}
    names, _ = next(iter(found.values()))
    note = (
        f"Hover over a point for the layer’s name. Dashed: {limit:.0e}, above which a layer computes something else. "
        f"At {_FLOOR:.0e}: this little, or no difference at all."
    )
    title = f"Difference of each layer’s outputs from {summary['reference']}"
    return _plot(title, chart(layers, COLOURS, *axes, names=names, **options), note, "wide")


def _table(rows, head=""):
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>'


def _plot(title, plot, note="", size=""):
    under = f'<p class="soft">{html.escape(note)}</p>' if note else ""
    return f'<div class="{size}"><h3>{html.escape(title)}</h3>{plot}{under}</div>'


def _quartiles(timing):
    low, high = timing["quartiles_s"]
    return low, timing["median_s"], high


def _samples(summary, samples):
    rows = sample_figures(samples, summary["reference"], COLOURS)
    shown = ""
    for row in rows:
        figures = (
            f"<figure>{picture}<figcaption>{html.escape(caption)}</figcaption></figure>" for caption, picture in row
        )
        shown += f'<div class="samples">{"".join(figures)}</div>'
    return f"<h2>Samples</h2>{shown}" if rows else ""


def _made_with(summary, done):
    rows = []
    for name, row in done.items():
        versions = ", ".join(f"{package} {version}" for package, version in row["versions"].items())
        before = f"{row['memory']['before'] / 2**20:,.0f} MiB before the model was loaded"
        cells = (name, ", ".join(row["devices"]), versions, before)
        rows.append("".join(f"<td>{html.escape(cell)}</td>" for cell in cells))
    where = html.escape(f"keras_diffusion {summary['keras_diffusion']}, {summary['platform']}, {summary['time']}")
    return f'<h2>Made with</h2>{_table(rows)}<p class="soft">{where}</p>'
