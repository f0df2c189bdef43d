"""`keras-diffusion compare`: from a run, a preset or a configuration to a comparison of backends."""

import contextlib
from pathlib import Path

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from keras_diffusion.cli import building
from keras_diffusion.cli.config import ConfigError, config_errors, read_config
from keras_diffusion.cli.run_folder import RunFolder
from keras_diffusion.cli.sampling import identifier, load_model
from keras_diffusion.comparison import BACKENDS, compare
from keras_diffusion.comparison.run import check_backends, default_folder
from keras_diffusion.comparison.tables import reasons, rich_tables
from keras_diffusion.data import load


def compare_backends(
    console, source, backends=None, reference="jax", data=None, batch_size=None, out=None, overwrite=False, **options
):
    """Compares backends and prints the result of `comparison.compare`.

    Args:
        console: `rich.console.Console`.
        source: run folder, preset folder, `.keras` file, checkpoint of an older system, or configuration.
        backends: list of names, or of names joined by commas; None for all.
        reference: the backend that the others are compared with.
        data: `source` of `data.load`, in place of the configuration's; a preset has none of its own.
        batch_size: samples of a training step; None: the configuration's, else 16.
        out: folder to create. Default: a new one in `runs`.
        overwrite: whether a comparison in it is replaced.
        options: those of `comparison.compare`.

    Returns:
        the content of compare.json, a dict.

    Raises:
        ConfigError: an error that the user can fix.
    """
    with config_errors():
        names = [name.strip() for text in backends or BACKENDS for name in text.split(",")]
        backends = check_backends(names, reference)
    model, batches, optimizer, about = read_source(source)
    if data is not None:
        batches = load(data)
    if batch_size is None:
        batch_size = getattr(batches, "batch_size", 16)
    folder = default_folder() if out is None else Path(out)
    options |= {
        "sampler": identifier(options.get("sampler", "dpmpp_2m")),
        "batch_size": batch_size,
        "title": Path(source).stem,
        "out": folder,
        "overwrite": overwrite,
    }
    console.print(f"Comparing {', '.join(backends)} on {source}: {about}", markup=False, soft_wrap=True)
    with _bars(console, backends) as progress:
        summary = compare(model, batches, backends, reference, optimizer, progress=progress, **options)
    for table in rich_tables(summary):
        console.print(table)
    for reason in reasons(summary):
        console.print(reason, markup=False, style="yellow", soft_wrap=True)
    console.print(f"Wrote {folder / 'compare.html'} and compare.json", markup=False, style="green", soft_wrap=True)
    return summary


def read_source(source):
    """(model, training batches or None, optimizer or None, what it is as text)."""
    path, run = Path(source), RunFolder(source)
    if run.is_run:
        with run.only_config_errors():
            config, batches, _ = building.resolve(run.config)
            model, about = load_model(path)
            return model, batches, building.build_optimizer(config["optimizer"]), about
    if path.suffix in (".toml", ".json", ".yaml", ".yml") and path.is_file():
        config, batches, _ = building.resolve(read_config(path))
        model = building.build_model(config, compile=False)
        return model, batches, building.build_optimizer(config["optimizer"]), "a configuration, with new weights"
    if not path.exists():
        raise ConfigError(
            "`compare` takes a run folder, a preset folder, a .keras file or a configuration (.toml, .json, .yaml). "
            f"Received: {str(path)!r}, which does not exist."
        )
    model, about = load_model(path)
    return model, None, None, about


@contextlib.contextmanager
def _bars(console, backends):
    """A bar for each backend; yields a function of (backend, phase, done, total)."""
    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        TextColumn("{task.fields[phase]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bars:
        tasks = {backend: bars.add_task(backend, total=None, start=False, phase="waiting") for backend in backends}

        def progress(backend, phase, done, total):
            task = tasks[backend]
            if phase == "starting":
                bars.start_task(task)
            bars.update(task, phase=f"{phase} {done}/{total}" if total else phase, completed=done, total=total or None)
            if phase in ("done", "missing", "failed"):
                bars.update(task, completed=1, total=1)
                bars.stop_task(task)

        yield progress
