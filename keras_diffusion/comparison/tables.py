"""The numbers of a comparison as text, for the terminal and for the page.

A summary is the content of `compare.json`.
"""

from typing import NamedTuple


class Section(NamedTuple):
    """One table: column heads, and backend → cells, None for a backend that has not finished."""

    title: str
    columns: tuple
    rows: dict
    note: str


def sections(summary):
    """The tables of training, sampling and differences, a list of `Section`."""
    settings, limit = summary["settings"], summary["layer_limit"]
    training = ("backend", "compile", "step", "quartiles", "images/s", "peak memory")
    sampling = ("backend", "compile", f"{settings['num_samples']} samples", "quartiles", "images/s")
    apart = ("backend", "loss", "samples", "layers", f"first above {limit:.0e}")
    return [
        Section(
            "Training",
            training,
            _rows(summary, lambda row: (*_timing(row["training"]), _memory(row["memory"]))),
            "Compile: the first call minus the median of the others; on torch, which does not compile, the extra time "
            "of the first call. Step: the median, including reading data. Peak memory: of the whole process, or the "
            "memory allocated on a device.",
        ),
        Section(
            "Sampling",
            sampling,
            _rows(summary, lambda row: _timing(row["sampling"])),
            f"{settings['num_steps']} steps of {sampler_name(settings['sampler'])}, all samples at once.",
        ),
        Section(
            "Differences",
            apart,
            _rows(summary, lambda row: _differences(row, summary["reference"])),
            f"From {summary['reference']}. Loss: largest relative difference over the steps. Samples: largest "
            "absolute difference. "
            "Layers: largest difference of a layer's outputs for one input, relative to the largest of them.",
        ),
    ]


def rich_tables(summary):
    """The sections as `rich` tables, a list."""
    from rich import box
    from rich.table import Table

    tables = []
    for section in sections(summary):
        table = Table(
            title=section.title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
        )
        for i, column in enumerate(section.columns):
            table.add_column(column, justify="left" if i == 0 else "right", overflow="fold")
        for backend, cells in section.rows.items():
            table.add_row(*((backend, summary["backends"][backend]["status"]) if cells is None else (backend, *cells)))
        tables.append(table)
    return tables


def reasons(summary):
    """A line for each backend that did not come to its end."""
    ended = ((backend, row) for backend, row in summary["backends"].items() if row["status"] != "ok")
    return [f"{backend}: {row['status']}. {row['reason']}" for backend, row in ended]


def sampler_name(sampler):
    """A sampler's identifier as text: "dpmpp_2m", "ddim, eta=1.0"."""
    if isinstance(sampler, str):
        return sampler
    return ", ".join(str(value) if key == "name" else f"{key}={value}" for key, value in sampler.items())


def seconds(value):
    """A time with three digits: "12.3 ms", "1.20 s"."""
    number, unit = (1000 * value, "ms") if value < 1 else (value, "s")
    digits = sum(number < limit for limit in (100, 10)) if unit == "ms" else 1 + (number < 10)
    return f"{number:.{digits}f} {unit}"


def interval(low, high):
    """Two times, with one unit if it is the same: "12.1–12.9 ms"."""
    (first, unit), (last, same) = seconds(low).split(), seconds(high).split()
    return f"{first}–{last} {unit}" if unit == same else f"{first} {unit}–{last} {same}"


def rate(value):
    """A rate with three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def scientific(value):
    """A difference, such as "3.2e-06", or "0"; text is returned unchanged."""
    if isinstance(value, str):
        return value
    return f"{value:.1e}" if value else "0"


def _rows(summary, cells):
    return {backend: cells(row) if row["status"] == "ok" else None for backend, row in summary["backends"].items()}


def _timing(timing):
    low, high = timing["quartiles_s"]
    quartiles = interval(low, high)
    return seconds(timing["compile_s"]), seconds(timing["median_s"]), quartiles, rate(timing["images_per_s"])


def _memory(memory):
    return f"{memory['bytes'] / 2**20:,.0f} MiB" + (" on device" if memory["of"] == "device" else "")


def _differences(row, reference):
    if "difference" not in row:
        return "no reference", "", "", ""
    found = row["difference"]
    if found is None:
        return "reference", "", "", ""
    (name, value), first = found["largest_layer"], found["first_layer_above_limit"]
    return (
        scientific(found["loss"]),
        scientific(found["samples"]),
        f"{scientific(value)} in {name}",
        f"{scientific(first[1])} in {first[0]}" if first else "none",
    )
