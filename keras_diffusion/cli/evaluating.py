"""`keras-diffusion evaluate`: from trained models to a table, a file of numbers and a page of pictures.

metrics.json       every number with what it depends on
evaluation.html    the same, with pictures: real beside generated, nearest training samples, the best and the worst
"""

import datetime
import re
from pathlib import Path

import numpy as np
from rich import box
from rich.table import Table

from keras_diffusion import samplers, schedulers
from keras_diffusion.cli import building
from keras_diffusion.cli.config import ConfigError, config_errors
from keras_diffusion.cli.evaluation_page import write_generation_page
from keras_diffusion.cli.run_folder import RunFolder
from keras_diffusion.cli.sampling import identifier, load_model
from keras_diffusion.data import load
from keras_diffusion.data import names as data_names
from keras_diffusion.metrics.evaluator import DEFAULT_METRICS
from keras_diffusion.metrics.feature_metric import FEATURE_METRICS
from keras_diffusion.metrics.generation import GenerationEvaluator, walk_of
from keras_diffusion.metrics.neighbours import nearest_neighbours
from keras_diffusion.metrics.real_samples import read_samples
from keras_diffusion.metrics.reference import Reference, extract
from keras_diffusion.metrics.result import with_error
from keras_diffusion.models.guidance_argument import read_guidance
from keras_diffusion.runtime.files import unused_path, write_json
from keras_diffusion.version import __version__

KIND = "keras_diffusion evaluation"
_SEARCHED = 20_000  # training samples among which the nearest are looked for


def evaluate_models(
    console, paths, metrics, num_samples, data=None, extractor="auto", cache=None, out=None, overwrite=False, **walk
):
    """Measures models, prints a table, and writes metrics.json and evaluation.html.

    Args:
        console: `rich.console.Console`.
        paths: run folders, preset folders or `.keras` files; the data are those of the first.
        metrics: text: names with commas between, or JSON; None for the usual ones, as far as there are samples enough.
        num_samples: as in `GenerationEvaluator`.
        data: `source` of `data.load`; None (default) for the run's training data.
        extractor: name, or JSON.
        cache: folder for features; None (default): in the run's folder `generated`.
        out: folder to write to; None (default): a new one in the run's folder `generated`.
        overwrite: whether files in `out` are replaced.
        walk: arguments of `generate`; `sampler`, `spacing` and `guidance` a name or JSON.

    Returns:
        the content of metrics.json, a dict.

    Raises:
        ConfigError: an error that the user can fix.
    """
    walk = read_walk(walk)
    chosen = None if metrics is None else listed(metrics, "--metrics")
    with config_errors():
        [FEATURE_METRICS.get(metric) for metric in chosen or ()]
    out = folder_for(paths[0], out, "evaluation", ("metrics.json", "evaluation.html"), overwrite)
    models = {name_in(path, paths): load_model(path) for path in paths}
    model = next(iter(models.values()))[0]
    batches = data_for(paths[0], data, model)
    console.print(f"Real data: {data or 'of the run'}, {size_of(batches)}", markup=False, soft_wrap=True)
    with console.status("Features of real data"), config_errors():
        reference = Reference(batches, identifier(extractor), 2 * num_samples, cache_for(paths[0], cache))
        chosen = feasible(console, reference, num_samples) if chosen is None else chosen
        evaluator = GenerationEvaluator(reference, chosen, num_samples=num_samples, training_data=batches)
    results, samples = {}, {}
    for name, (model, about) in models.items():
        console.print(f"Sampling {num_samples:,} from {name} ({about})", markup=False, soft_wrap=True)
        with config_errors():
            samples[name] = evaluator.generate(model, verbose="auto", **walk)
        with console.status("Measuring"):
            results[name] = evaluator.measure(samples[name], **walk_of(model, walk))
    summary = summary_of(results, data)
    print_results(console, evaluator, results)
    write_json(out / "metrics.json", summary)
    looked_at = {name: _look(evaluator, batches, images) for name, images in samples.items()}
    write_generation_page(out / "evaluation.html", Path(paths[0]).name, evaluator, results, samples, looked_at, summary)
    console.print(f"Wrote {out / 'evaluation.html'} and metrics.json", markup=False, style="green", soft_wrap=True)
    return summary


def summary_of(results, data):
    """The content of metrics.json: what was found, when, on which data.

    Args:
        results: model → metric → `MetricResult`.
        data: what `--data` says, or None.
    """
    return {
        "kind": KIND,
        "keras_diffusion": __version__,
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "data": data or "the run's training data",
        "models": {name: {key: r.to_dict() for key, r in found.items()} for name, found in results.items()},
    }


def read_walk(walk):
    """Arguments of `generate` with names and JSON read, and unknown names refused."""
    walk = {**walk, **{name: identifier(walk.get(name)) for name in ("sampler", "spacing", "guidance")}}
    with config_errors():  # now, not after loading the model
        samplers.get(walk["sampler"] or "ddim")
        schedulers.SPACINGS.get(walk["spacing"] or "linspace")
        read_guidance(walk["guidance"], walk.get("guidance_scale", 1.0))
    return walk


def listed(text, option):
    """The names of an option, with commas between, or what JSON says: a list."""
    if text.lstrip().startswith(("{", "[")):
        found = identifier(text)
        return found if isinstance(found, list) else [found]
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise ConfigError(f"{option} takes names with commas between. Received: {text!r}")
    return names


def data_for(path, source, model):
    """The real data: those named, else those that a run was trained on."""
    if source is not None:
        shape = tuple(model.sample_shape)
        options = {"captions": True} if hasattr(model, "text_to_image") else {}
        known = len(shape) == 3 and None not in shape and model.autoencoder is None
        if known and source not in data_names() and not re.search(r"\.np[yz]$", source):
            options["image_size"] = shape[:2]
        with config_errors(kinds=(ValueError, OSError)):
            return load(source, **options)
    run = RunFolder(path)
    if not run.is_run:
        raise ConfigError(
            f"What samples are compared with has to be said for a model without a run. Received: {path}, no --data. "
            "Pass --data, such as digits or the path of a folder"
        )
    with run.only_config_errors():
        return building.load_data(run.config)[0]


def size_of(batches):
    """How many samples there are, as text."""
    return "a stream" if batches.num_samples is None else f"{batches.num_samples:,} samples"


def cache_for(path, cache):
    """The folder for features."""
    run = RunFolder(path)
    return cache if cache is not None or not run.is_run else run.generated / "features"


def folder_for(path, out, name, files, overwrite):
    """The folder to write to; refuses one that holds these files, unless they may be replaced."""
    if out is None:
        run = RunFolder(path)
        return unused_path((run.generated if run.is_run else Path()) / name)
    there = [file for file in files if (Path(out) / file).exists()]
    if there and not overwrite:
        raise ConfigError(
            f"Existing files are only replaced with --overwrite. Received: --out {out}, which holds {', '.join(there)}"
        )
    return Path(out)


def feasible(console, reference, num_samples, usual=DEFAULT_METRICS):
    """The names of the usual metrics for which there are samples enough; says which are left out."""
    count, width = min(num_samples, len(reference)), reference.features().shape[1]
    usual = [FEATURE_METRICS.get(name) for name in usual]
    for metric in usual:
        if metric.minimum(width) > count:
            text = f"{metric.title} is left out: of {width:,} features it needs {metric.minimum(width):,} samples."
            console.print(text, markup=False, style="yellow", soft_wrap=True)
    return [metric.name for metric in usual if metric.minimum(width) <= count]


def name_in(path, paths):
    """What a model is called: the last part of its path, or all of it where two would have one name."""
    names = [Path(other).name for other in paths]
    return str(path) if names.count(Path(path).name) > 1 else Path(path).name


def _look(evaluator, batches, samples):
    """What the page shows beside the numbers: nearest real samples, and the order from the best to the worst.

    Returns:
        dict: "pixels", the nearest training sample of each of the first eight in Euclidean distance, with "distances";
        "features", the nearest by features; "order", the numbers of all samples, those nearest to a real one first, and
        "realism", their distances.
    """
    reference, first = evaluator.reference, samples[:8]
    total = batches.num_samples
    more = total is not None and total > len(reference)
    images = read_samples(batches, _SEARCHED)["images"] if more else reference.images
    pixels = nearest_neighbours(first, images)
    features = extract(reference.extractor, samples)
    near = nearest_neighbours(features, reference.features())
    return {
        "searched": len(images),
        "pixels": images[pixels.indices],
        "distances": pixels.distances,
        "features": reference.images[near.indices[:8]],
        "order": np.argsort(near.distances, kind="stable"),
        "realism": near.distances,
    }


def print_results(console, evaluator, results, more=()):
    """Prints the table of results, and each on a line that can be quoted.

    Args:
        console: `rich.console.Console`.
        evaluator: `Evaluator`.
        results: model → metric → `MetricResult`.
        more: further rows, each a list of texts.
    """
    console.print(_table(evaluator, results, more))
    for found in results.values():
        for result in found.values():
            console.print(str(result), markup=False, soft_wrap=True)


def _table(evaluator, results, more):
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("metric")
    table.add_column("better")
    for name in results:
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("real against real", justify="right")
    for row in more:
        table.add_row(*row)
    for metric in evaluator.metrics:
        values = [found[metric.name] for found in results.values()]
        shown = (value.shown() for value in values)
        table.add_row(metric.title, metric.better, *shown, floor_text(values[0].floor))
    return table


def floor_text(floor):
    """A floor as text: its mean, its spread, and the size of the halves."""
    return "–" if floor is None else f"{with_error(floor.value, floor.spread)} at {floor.n:,}"
