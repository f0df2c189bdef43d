"""`keras-diffusion plot`: pictures of noise schedules, spacings, samplers' tables, and losses by noise level."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from keras_diffusion.cli.config import ConfigError, check_options
from keras_diffusion.cli.invocation import choose_backend, console, errors
from keras_diffusion.runtime.limits import current as limits

plot = typer.Typer(
    no_args_is_help=True,
    help="Draw noise schedules, spacings, what a sampler will do, or losses by noise level.",
    name="plot",
)

Names = Annotated[list[str], typer.Argument(help='Names, or JSON: \'{"name": "karras", "rho": 5}\'.')]
Schedule = Annotated[str, typer.Option(help="Noise schedule: name or JSON.")]
Steps = Annotated[int, typer.Option("--steps", "--num-steps", help="Number of steps.")]
Out = Annotated[
    Path | None, typer.Option(help="A .png, .pdf or .svg file. Default: schedule.png, spacing.png and so on.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what --out names, if it exists.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


@plot.command()
def schedule(names: Names, out: Out = None, overwrite: Overwrite = False, debug: Debug = False):
    """Draw α, σ and the log-SNR of noise schedules over the time.

    Example: keras-diffusion plot schedule cosine linear --out schedule.png
    """
    _draw("schedule", names, out, overwrite, debug)


@plot.command()
def spacing(
    names: Names,
    schedule: Schedule = "cosine",
    steps: Steps = 10,
    out: Out = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
):
    """Draw the levels that the steps of spacings visit.

    Example: keras-diffusion plot spacing linspace karras --schedule linear --steps 20
    """
    _draw("spacing", names, out, overwrite, debug, schedule=schedule, num_steps=steps)


@plot.command()
def table(
    sampler: Annotated[str, typer.Argument(help='Sampler: name, or JSON: \'{"name": "ddim", "eta": 1.0}\'.')],
    schedule: Schedule = "cosine",
    spacing: Annotated[
        str | None, typer.Option(help="Spacing of the steps: name or JSON. Default: the schedule's own.")
    ] = None,
    steps: Steps = 10,
    out: Out = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
):
    """Draw what a sampler will do: the columns of its table, row by row.

    Example: keras-diffusion plot table dpmpp_2m --steps 10
    """
    _draw("table", sampler, out, overwrite, debug, schedule=schedule, spacing=spacing, num_steps=steps)


@plot.command()
def losses(
    runs: Annotated[list[str], typer.Argument(help="Run folders.")],
    over: Annotated[str, typer.Option(help="t, the time, or log_snr.")] = "t",
    num_samples: Annotated[
        int, typer.Option("--num-samples", "-n", help="Most samples to measure on: held-out ones, where there are any.")
    ] = 256,
    out: Out = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
):
    """Draw the losses of trained models over the noise level.

    Example: keras-diffusion plot losses runs/digits --over log_snr
    """
    with errors(debug):
        out = _file("losses", out, overwrite)
        check_options(num_samples=(num_samples, 1, limits().samples))
        if over not in ("t", "log_snr"):
            raise ConfigError(f"--over is t or log_snr. Received: --over {over}")
        choose_backend(None)
        from keras_diffusion import visualization
        from keras_diffusion.cli.sampling import load_model

        curves = {}
        for run in runs:
            batch = _samples(run, num_samples)
            curves[run] = visualization.level_losses(load_model(run)[0], batch)
        visualization.plot_level_losses(curves, out, over)
        console().print(f"{out}")


def _samples(run, most):
    """At most so many samples of the data of a run, held-out ones if there are any, as a batch."""
    from keras import tree

    from keras_diffusion.cli import building
    from keras_diffusion.cli.run_folder import RunFolder

    run = RunFolder(run)
    run.require_run()
    train, held_out = building.load_data(run.config)
    batches = train if held_out is None else held_out
    if run.config["network"].get("num_classes") is None:
        batches = building.without_labels(batches)
    wanted = min(len(batches), -(-most // len(tree.flatten(batches[0])[0])))
    parts = [batches[i] for i in range(wanted)]
    return tree.map_structure(lambda *arrays: np.concatenate(arrays)[:most], *parts)


def _file(kind, out, overwrite):
    """Where a picture goes, if it may."""
    out = Path(f"{kind}.png") if out is None else out
    if out.suffix not in (".png", ".pdf", ".svg"):
        raise ConfigError(f"--out is a .png, .pdf or .svg file. Received: --out {out}")
    if out.exists() and not overwrite:
        raise ConfigError(f"{out} exists. Give another --out, or replace it with --overwrite.")
    return out


def _draw(kind, names, out, overwrite, debug, **options):
    with errors(debug):
        out = _file(kind, out, overwrite)
        choose_backend(None)
        from keras_diffusion import visualization
        from keras_diffusion.cli.sampling import identifier

        options = {key: value if isinstance(value, int) else identifier(value) for key, value in options.items()}
        names = [identifier(name) for name in names] if isinstance(names, list) else identifier(names)
        getattr(visualization, f"plot_{kind}")(names, path=out, **options)
        console().print(f"{out}")
