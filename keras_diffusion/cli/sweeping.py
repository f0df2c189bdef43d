"""`keras-diffusion sweep`: one model under many ways of sampling.

sweep.md    the table        sweep.png, sweep.svg    the plot        sweep.json    every number with what it depends on
"""

import contextlib
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from keras_diffusion import samplers as sampler_room
from keras_diffusion.cli.config import ConfigError, config_errors
from keras_diffusion.cli.evaluating import cache_for, data_for, folder_for, listed, size_of
from keras_diffusion.cli.sampling import identifier, load_model
from keras_diffusion.metrics.feature_metric import FEATURE_METRICS
from keras_diffusion.metrics.generation import GenerationEvaluator
from keras_diffusion.metrics.reference import Reference
from keras_diffusion.metrics.sweep import sweep
from keras_diffusion.runtime.files import write_whole
from keras_diffusion.visualization.sweep_plot import plot_sweep

_FILES = ("sweep.md", "sweep.json", "sweep.png", "sweep.svg")


def sweep_model(
    console,
    path,
    samplers,
    steps,
    guidance_scales,
    metric="mind",
    num_samples=1000,
    data=None,
    extractor="auto",
    cache=None,
    out=None,
    overwrite=False,
    **options,
):
    """Measures a model under every combination of samplers, steps and guidance scales, and writes what it found.

    Args:
        console: `rich.console.Console`.
        path: run folder, preset folder or `.keras` file.
        samplers: text: names with commas between, or JSON.
        steps, guidance_scales: lists of numbers.
        metric: name, or JSON.
        num_samples, data, extractor, cache, out, overwrite: as in `evaluate_models`.
        options: further arguments of `metrics.sweep`.

    Returns:
        `metrics.Sweep`.

    Raises:
        ConfigError: an error that the user can fix.
    """
    chosen, measured = listed(samplers, "--samplers"), identifier(metric)
    with config_errors():
        for name in chosen:
            sampler_room.get(name)
        measured = FEATURE_METRICS.get(measured)
    out = folder_for(path, out, "sweep", _FILES, overwrite)
    model, about = load_model(path)
    if guidance_scales != [1.0] and not model.condition_keys:
        raise ConfigError(
            "Guidance strengthens a condition, and this model has none. Received: "
            f"--guidance {','.join(f'{scale:g}' for scale in guidance_scales)}. Leave it out"
        )
    batches = data_for(path, data, model)
    ways = len(chosen) * len(steps) * len(guidance_scales)
    console.print(
        f"{ways} ways to sample {path} ({about}), {num_samples:,} samples each, against {size_of(batches)}",
        markup=False,
        soft_wrap=True,
    )
    with console.status("Features of real data"), config_errors():
        reference = Reference(batches, identifier(extractor), 2 * num_samples, cache_for(path, cache))
        evaluator = GenerationEvaluator(reference, [measured], num_samples=num_samples, training_data=batches)
    with _bar(console, ways) as progress, config_errors():
        found = sweep(model, evaluator, chosen, steps, guidance_scales, progress=progress, **options)
    table = found.table()
    console.print(table, markup=False)
    best, cheapest = found.best(), found.cheapest()
    if best is not None:
        console.print(f"Best: {best.result}", markup=False, soft_wrap=True)
        if cheapest is not best:
            text = f"As good, within its error, with {cheapest.evaluations:g} evaluations: {cheapest.result}"
            console.print(text, markup=False, soft_wrap=True)
    write_whole(out / "sweep.md", table.encode("utf-8"))
    write_whole(out / "sweep.json", found.to_json().encode("utf-8"))
    drawn = _drawn(console, found, out, Path(path).name)
    console.print(f"Wrote sweep.md, sweep.json{drawn} to {out}", markup=False, style="green", soft_wrap=True)
    return found


def _drawn(console, found, out, name):
    """Writes the plots; what of them was written, as text."""
    try:
        for suffix in ("png", "svg"):
            plot_sweep(found, out / f"sweep.{suffix}", f"{name}: quality against network evaluations")
    except ImportError as error:
        console.print(f"No plot: {error}", markup=False, style="yellow")
        return ""
    return ", sweep.png, sweep.svg"


@contextlib.contextmanager
def _bar(console, total):
    """A bar over the cells; yields a function of (done, total, cell)."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task("sampling", total=total)

        def show(done, total, cell):
            value = "not finite" if cell.result is None else cell.result.shown()
            bar.update(task, completed=done, description=f"{cell.sampler}, {cell.num_steps} steps: {value}")

        yield show
