"""`keras-diffusion plot`: pictures of noise schedules, spacings and samplers' tables."""

from pathlib import Path
from typing import Annotated

import typer

from keras_diffusion.cli.config import ConfigError
from keras_diffusion.cli.invocation import choose_backend, console, errors

plot = typer.Typer(
    no_args_is_help=True, help="Draw noise schedules, spacings of the steps, or what a sampler will do.", name="plot"
)

Names = Annotated[list[str], typer.Argument(help='Names, or JSON: \'{"name": "karras", "rho": 5}\'.')]
Schedule = Annotated[str, typer.Option(help="Noise schedule: name or JSON.")]
Steps = Annotated[int, typer.Option("--steps", "--num-steps", help="Number of steps.")]
Out = Annotated[
    Path | None, typer.Option(help="A .png, .pdf or .svg file. Default: schedule.png, spacing.png or table.png.")
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


def _draw(kind, names, out, overwrite, debug, **options):
    with errors(debug):
        out = Path(f"{kind}.png") if out is None else out
        if out.suffix not in (".png", ".pdf", ".svg"):
            raise ConfigError(f"--out is a .png, .pdf or .svg file. Received: --out {out}")
        if out.exists() and not overwrite:
            raise ConfigError(f"{out} exists. Give another --out, or replace it with --overwrite.")
        choose_backend(None)
        from keras_diffusion import visualization
        from keras_diffusion.cli.sampling import identifier

        options = {key: value if isinstance(value, int) else identifier(value) for key, value in options.items()}
        names = [identifier(name) for name in names] if isinstance(names, list) else identifier(names)
        getattr(visualization, f"plot_{kind}")(names, path=out, **options)
        console().print(f"{out}")
