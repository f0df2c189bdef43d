"""The commands and their options; the modules that they import do the work."""

import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from keras_diffusion.cli.config import MOST_SEED, ConfigError, check_options
from keras_diffusion.cli.devices import join_processes, on_devices
from keras_diffusion.cli.inspecting import data
from keras_diffusion.cli.invocation import choose_backend, console, end_process, errors, read_early
from keras_diffusion.cli.plotting import plot
from keras_diffusion.cli.scoring import evaluate, sweep
from keras_diffusion.cli.wording import running
from keras_diffusion.runtime.limits import current as limits
from keras_diffusion.version import __version__

app = typer.Typer(
    name="keras-diffusion",
    help="Diffusion models in Keras 3: train them, sample from them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


Backend = Annotated[str | None, typer.Option(help="jax, tensorflow or torch. Default: KERAS_BACKEND, else jax.")]
Devices = Annotated[
    str | None,
    typer.Option(metavar="SPEC", help='Devices to use together, on JAX: data=8, or data=4,model=2; "data" for all.'),
]
Coordinator = Annotated[
    str | None, typer.Option(help="host:port of process 0. Default: JAX_COORDINATOR_ADDRESS, SLURM, TPU pod …")
]
NumProcesses = Annotated[
    int | None, typer.Option(min=1, help="How many there are. Default: JAX_NUM_PROCESSES, SLURM …")
]
ProcessId = Annotated[
    int | None, typer.Option(min=0, help="Which of them this is, from 0. Default: JAX_PROCESS_ID, SLURM …")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Count = Annotated[
    int | None, typer.Option("--num-samples", "-n", help="Number of samples. Default: one per class, or 16.")
]
Film = Annotated[bool, typer.Option("--film", help="A film strip instead of a grid: a row for each sample.")]
Tile = Annotated[
    int | None, typer.Option(help="Side in pixels of the tiles in which an autoencoder decodes: less memory.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what --out names, if it exists.")]
Model = Annotated[str, typer.Argument(help="Run folder, preset folder or .keras file.")]
Labels = Annotated[
    str | None, typer.Option(help="Classes: 0,1,2 or 0-9, or names: china,flower; none for no class. Default: all.")
]
Sampler = Annotated[
    str | None,
    typer.Option(help='Name, or JSON: \'{"name": "ddim", "eta": 1.0}\'. Default: the model\'s own, else dpmpp_2m.'),
]
Spacing = Annotated[str | None, typer.Option(help="Spacing of the steps: name or JSON. Default: the model's own.")]
Guidance = Annotated[
    str | None,
    typer.Option(
        help='Kind of guidance, or of threshold: name or JSON, \'["rescale", "static_threshold"]\' for both; '
        "none for no threshold. Default: the model's own, else classifier_free."
    ),
]
Picture = Annotated[
    Path | None,
    typer.Option(
        help="A .png, .gif or .webp (the walk, animated) or .npz file. Default: a new file, in the run's folder "
        "`generated`."
    ),
]
Weights = Annotated[str, typer.Option(help="ema (the average of the weights) or raw.")]
State = Annotated[str, typer.Option(help="best or last, if the file holds both.")]
OldConfig = Annotated[
    str | None, typer.Option("--config", help="The old model's arguments, for what shapes cannot tell: JSON or a file.")
]
Checkpoint = Annotated[str, typer.Argument(help="File, folder, or prefix of a TensorFlow checkpoint.")]


def main():
    """Entry point of the console script."""
    try:
        app()
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    end_process(code)


def _print_version(asked: bool):
    if asked:
        typer.echo(f"keras-diffusion {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and stop.")
    ] = False,
):
    commands = typer.main.get_group(app).commands
    running.set(commands.get(context.invoked_subcommand or ""))  # its options, for errors


@app.command()
def train(
    config: Annotated[
        str | None, typer.Argument(help="Configuration: .toml, .json or .yaml. With --resume: not needed, or the run.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="A.B=C", help="Set a value over the configuration; repeatable.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder. Default: runs/<date>-<name of the config>.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    overwrite: Overwrite = False,
    verbose: Annotated[
        int | None, typer.Option(min=0, max=2, help="0 silent, 1 bar, 2 a line per epoch. Default: 1 on a terminal.")
    ] = None,
    devices: Devices = None,
    distributed: Annotated[
        bool,
        typer.Option(
            "--distributed", help="Be one of several processes; JAX only. Needs --out, a folder that all of them see."
        ),
    ] = False,
    coordinator: Coordinator = None,
    num_processes: NumProcesses = None,
    process_id: ProcessId = None,
    backend: Backend = None,
    debug: Debug = False,
):
    """Train a model; stop with Ctrl-C and continue with --resume.

    A run folder holds everything: configuration, environment, metrics, pictures, resumable state and, at the end, the
    model.

    Example: keras-diffusion train examples/digits.toml --set train.epochs=20
    """
    with errors(debug):
        if not distributed and (coordinator, num_processes, process_id) != (None, None, None):
            raise ConfigError(
                "--coordinator, --num-processes and --process-id are for --distributed, which was not given."
            )
        if distributed and out is None:
            raise ConfigError("--distributed needs the run folder, the same for all processes: --out runs/NAME")
        if resume and overwrite:
            raise ConfigError("Either --resume continues a run or --overwrite deletes it. Received both.")
        if config is None and not resume:
            raise ConfigError("`train` needs a configuration, for example: keras-diffusion train examples/digits.toml")
        if resume and out is None and not (config and Path(config).is_dir()):
            raise ConfigError("--resume needs the folder of the run: keras-diffusion train --resume --out runs/NAME")
        if not resume:
            read_early(config, set_ or ())
        choose_backend(backend, out or config if resume else None)
        if distributed:
            join_processes(coordinator, num_processes, process_id)
        from keras_diffusion.cli.training import train

        if verbose is None:
            verbose = 1 if sys.stdout.isatty() else 2
        devices = devices or ("data" if distributed else None)
        train(console(), config, set_ or (), out, resume, overwrite, verbose, devices)


@app.command()
def sample(
    model: Model,
    num_samples: Count = None,
    labels: Labels = None,
    per_label: Annotated[int | None, typer.Option(help="Samples of each label: one row of the picture.")] = None,
    prompt: Annotated[
        list[str] | None, typer.Option(help="What to draw, for a model of words; repeatable.", metavar="TEXT")
    ] = None,
    negative_prompt: Annotated[str, typer.Option(help="What not to draw. Default: nothing in particular.")] = "",
    prompts_file: Annotated[Path | None, typer.Option(help="A text file with a prompt in each line.")] = None,
    steps: Annotated[int, typer.Option("--steps", "--num-steps", help="Number of steps.")] = 50,
    sampler: Sampler = None,
    spacing: Spacing = None,
    guidance_scale: Annotated[
        float, typer.Option("--guidance-scale", "-g", help="Classifier-free guidance; 1 is off.")
    ] = 1.0,
    guidance: Guidance = None,
    seed: Annotated[
        int | None, typer.Option(help="The same seed gives the same samples. Default: a new one, printed.")
    ] = None,
    out: Picture = None,
    weights: Weights = "ema",
    batch_size: Annotated[int | None, typer.Option(help="Samples at a time; changes only the memory needed.")] = None,
    size: Annotated[int | None, typer.Option(help="Height and width, for networks that take any size.")] = None,
    tile: Tile = None,
    cols: Annotated[int | None, typer.Option(help="Columns of the picture.")] = None,
    film: Film = False,
    overwrite: Overwrite = False,
    devices: Devices = None,
    backend: Backend = None,
    debug: Debug = False,
):
    """Draw samples from a trained model.

    Example: keras-diffusion sample runs/demo --labels 0-9 --per-label 8 --seed 1 --out digits.png
    """
    with errors(debug):
        most = limits()
        counts = {"num_samples": num_samples, "per_label": per_label, "batch_size": batch_size, "cols": cols}
        check_options(**{name: (value, 1, most.samples) for name, value in counts.items()})
        check_options(steps=(steps, 1, most.steps), size=(size, 1, most.config_number), seed=(seed, 0, MOST_SEED))
        check_options(tile=(tile, 1, most.config_number))
        if weights not in ("ema", "raw"):
            raise ConfigError(f"--weights is ema or raw. Received: --weights {weights}")
        choose_backend(backend)
        from keras_diffusion.cli.sampling import read_prompts, sample

        options = {
            "prompts": read_prompts(prompt, prompts_file),
            "negative_prompt": negative_prompt,
            "num_steps": steps,
            "guidance_scale": guidance_scale,
            "guidance": guidance,
            "sampler": sampler,
            "spacing": spacing,
            "seed": seed,
            "weights": weights,
            "batch_size": batch_size,
            "size": size,
            "tile": tile,
        }
        with on_devices(devices):
            sample(console(), model, num_samples, labels, per_label, out, cols, overwrite, film=film, **options)


@app.command()
def info(
    model: Annotated[str | None, typer.Argument(help="Run folder, preset folder or .keras file.")] = None,
    backend: Backend = None,
    debug: Debug = False,
):
    """Show versions, devices and known names, or what a run, a preset or a .keras file holds."""
    with errors(debug):
        choose_backend(backend)
        from keras_diffusion.cli.information import info

        info(console(), model)


@app.command()
def inspect(
    checkpoint: Checkpoint,
    config: OldConfig = None,
    match: Annotated[str | None, typer.Option(help="Only tensors with this in their names.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    backend: Backend = None,
    debug: Debug = False,
):
    """Show what a checkpoint of an older system holds, and whose network it seems to be.

    Example: keras-diffusion inspect legacy_tf/checkpoints/ddim/tf_checkpoint
    """
    with errors(debug):
        choose_backend(backend)
        from keras_diffusion.cli.checkpoints import inspect

        inspect(console(), checkpoint, config, match, json)


@app.command()
def convert(
    checkpoint: Checkpoint,
    out: Annotated[Path, typer.Argument(help="Preset folder to create.")],
    weights: Weights = "ema",
    state: State = "best",
    config: OldConfig = None,
    strict: Annotated[
        bool, typer.Option("--strict/--loose", help="Whether anything missing or unused is an error.")
    ] = True,
    overwrite: Overwrite = False,
    backend: Backend = None,
    debug: Debug = False,
):
    """Turn a checkpoint of an older system into a preset, which `sample` and `from_preset` read.

    Example: keras-diffusion convert legacy_tf/checkpoints/ddim/tf_checkpoint presets/ddim
    """
    with errors(debug):
        choose_backend(backend)
        from keras_diffusion.cli.checkpoints import convert

        convert(console(), checkpoint, out, weights, state, config, strict, overwrite)


@app.command()
def export(
    source: Annotated[str, typer.Argument(help="Preset, .keras file, or checkpoint of another system.")],
    out: Annotated[Path, typer.Argument(help="Folder of diffusers to create.")],
    weights: Weights = "ema",
    state: State = "best",
    config: OldConfig = None,
    overwrite: Overwrite = False,
    backend: Backend = None,
    debug: Debug = False,
):
    """Write a model as a folder of diffusers, whose own classes load it.

    Example: keras-diffusion export presets/ddpm diffusers/ddpm
    """
    with errors(debug):
        choose_backend(backend)
        from keras_diffusion.cli.checkpoints import export

        export(console(), source, out, weights, state, config, overwrite)


@app.command()
def compare(
    source: Annotated[str, typer.Argument(help="Run folder, preset folder, .keras file or configuration.")],
    backend: Annotated[
        list[str] | None, typer.Option(help="Backends; repeatable, or jax,torch. Default: all three.")
    ] = None,
    reference: Annotated[str, typer.Option(help="The backend that the others are compared with.")] = "jax",
    steps: Annotated[int, typer.Option(help="Training steps.")] = 20,
    num_steps: Annotated[int, typer.Option(help="Steps of sampling.")] = 20,
    num_samples: Annotated[int, typer.Option("--num-samples", "-n", help="Number of samples.")] = 16,
    batch_size: Annotated[
        int | None, typer.Option(help="Samples of a training step. Default: the configuration's, or 16.")
    ] = None,
    sampler: Annotated[str, typer.Option(help='Name, or JSON: \'{"name": "ddim", "eta": 1.0}\'.')] = "dpmpp_2m",
    data: Annotated[
        str | None, typer.Option(help="Data for a preset: digits, emoji, a path … Default: random numbers.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Height and width of random data, for networks that take any size.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the noise, the same on all backends.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder to create. Default: runs/compare-<date>.")] = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
):
    """Train and sample one model on several backends: how fast is each, and do they compute the same?

    Every backend runs in its own process, with the same weights, batches and noise. A backend that is not installed
    gets a row that says so.

    Example: keras-diffusion compare runs/digits --backend jax,torch --steps 50 --out runs/compare-digits
    """
    with errors(debug):
        most = limits()
        check_options(
            steps=(steps, 1, None),
            num_steps=(num_steps, 1, most.steps),
            num_samples=(num_samples, 1, most.samples),
            batch_size=(batch_size, 1, most.samples),
            size=(size, 1, most.config_number),
            seed=(seed, 0, MOST_SEED),
        )
        choose_backend(None)
        from keras_diffusion.cli.comparing import compare_backends

        options = {
            "steps": steps,
            "num_steps": num_steps,
            "num_samples": num_samples,
            "sampler": sampler,
            "seed": seed,
            "size": size,
        }
        compare_backends(console(), source, backend, reference, data, batch_size, out, overwrite, **options)


app.command()(evaluate)
app.command()(sweep)
app.add_typer(plot)
app.add_typer(data)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the model and the pictures.")] = Path("runs/demo"),
    overwrite: Overwrite = False,
    quick: Annotated[bool, typer.Option("--quick", help="Only a few epochs, to see that everything works.")] = False,
    backend: Backend = None,
    debug: Debug = False,
):
    """Train on real 8×8 digits and measure the result, in about three minutes on two CPU cores."""
    with errors(debug):
        choose_backend(backend)
        from keras_diffusion.cli.demo import run_demo

        run_demo(out, overwrite=overwrite, quick=quick)
