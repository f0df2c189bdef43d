"""`keras-diffusion evaluate` and `sweep`: how good samples are, and which way of sampling is worth its steps."""

from pathlib import Path
from typing import Annotated

import typer

from keras_diffusion.cli.config import MOST_SEED, ConfigError, check_options
from keras_diffusion.cli.invocation import choose_backend, console, errors
from keras_diffusion.runtime.limits import current as limits

Model = Annotated[str, typer.Argument(help="Run folder, preset folder or .keras file.")]
NumSamples = Annotated[
    int, typer.Option("--num-samples", "-n", help="Generated samples; of real ones as many, or all there are.")
]
Data = Annotated[
    str | None, typer.Option(help="Real data: digits, emoji, a path … Default: what the run was trained on.")
]
Extractor = Annotated[
    str,
    typer.Option(
        help='What makes features: name or JSON, \'{"name": "inception", "weights": "weights.pth"}\'. auto: a '
        "classifier of the data's labels; without labels the values themselves."
    ),
]
Guidance = Annotated[str | None, typer.Option(help="Kind of guidance: name or JSON. Default: the model's own.")]
Spacing = Annotated[str | None, typer.Option(help="Spacing of the steps: name or JSON. Default: the model's own.")]
Seed = Annotated[int, typer.Option(help="Of the noise that samples start from.")]
Weights = Annotated[str, typer.Option(help="ema (the average of the weights) or raw.")]
BatchSize = Annotated[int | None, typer.Option(help="Samples at a time; changes only the memory needed.")]
Cache = Annotated[
    Path | None, typer.Option(help="Folder for the features of real data. Default: in the run's folder `generated`.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the files in --out.")]
Backend = Annotated[str | None, typer.Option(help="jax, tensorflow or torch. Default: KERAS_BACKEND, else jax.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def evaluate(
    model: Model,
    metrics: Annotated[
        str | None,
        typer.Option(
            help="Names of metrics, with commas between; JSON for options. Default: fd, mind, precision and recall, "
            "those for which there are samples enough; of an autoencoder, fd and mind."
        ),
    ] = None,
    num_samples: NumSamples = 1000,
    sampler: Annotated[str | None, typer.Option(help="Name or JSON. Default: the model's own, else dpmpp_2m.")] = None,
    steps: Annotated[int, typer.Option("--steps", "--num-steps", help="Number of steps.")] = 50,
    guidance_scale: Annotated[
        float, typer.Option("--guidance-scale", "-g", help="Classifier-free guidance; 1 is off.")
    ] = 1.0,
    guidance: Guidance = None,
    spacing: Spacing = None,
    seed: Seed = 0,
    weights: Weights = "ema",
    data: Data = None,
    extractor: Extractor = "auto",
    compare: Annotated[
        list[str] | None, typer.Option(help="Another model, measured in the same way; repeatable.", metavar="MODEL")
    ] = None,
    batch_size: BatchSize = None,
    cache: Cache = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for metrics.json and evaluation.html. Default: in `generated`.")
    ] = None,
    overwrite: Overwrite = False,
    backend: Backend = None,
    debug: Debug = False,
):
    """Measure how good a model's samples are: a table, metrics.json, and a page to look at.

    Every number comes with its floor, the same metric between two halves of the real data. The page shows real and
    generated samples side by side, the nearest training samples, the best and the worst.

    Of an autoencoder, reconstructions of held-out pictures are measured: rFID with --extractor inception, PSNR, SSIM.

    Example: keras-diffusion evaluate runs/digits --metrics fd,mind,precision,recall --steps 20 --guidance-scale 2
    """
    with errors(debug):
        _check(num_samples, batch_size, seed, weights)
        check_options(steps=(steps, 1, limits().steps))
        choose_backend(backend)
        from keras_diffusion.cli.autoencoder_files import holds_autoencoder
        from keras_diffusion.cli.evaluating import evaluate_models
        from keras_diffusion.cli.reconstruction_scores import evaluate_autoencoders

        walk = {
            "sampler": sampler,
            "num_steps": steps,
            "guidance_scale": guidance_scale,
            "guidance": guidance,
            "spacing": spacing,
            "seed": seed,
            "weights": weights,
            "batch_size": batch_size,
        }
        models, of_autoencoders = [model, *(compare or ())], holds_autoencoder(model)
        measure = evaluate_autoencoders if of_autoencoders else evaluate_models
        options = _of_reconstructions(walk) if of_autoencoders else walk
        measure(console(), models, metrics, num_samples, data, extractor, cache, out, overwrite, **options)


def sweep(
    model: Model,
    samplers: Annotated[
        str, typer.Option(help="Names of samplers, with commas between; JSON for options.")
    ] = "ddim,dpmpp_2m,unipc,heun",
    steps: Annotated[
        str, typer.Option("--steps", "--num-steps", help="Numbers of steps, with commas between.")
    ] = "4,8,16,32",
    guidance: Annotated[str, typer.Option(help="Guidance scales, with commas between; 1 is off.")] = "1",
    metric: Annotated[str, typer.Option(help="Name of the metric, or JSON.")] = "mind",
    num_samples: NumSamples = 1000,
    seed: Seed = 0,
    weights: Weights = "ema",
    data: Data = None,
    extractor: Extractor = "auto",
    batch_size: BatchSize = None,
    cache: Cache = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for sweep.md, .json, .png and .svg. Default: in `generated`.")
    ] = None,
    overwrite: Overwrite = False,
    backend: Backend = None,
    debug: Debug = False,
):
    """Measure samplers, numbers of steps and guidance scales: quality against network evaluations.

    All start from the same noise. The table and the plot show the floor as well: below it, differences mean nothing.

    Example: keras-diffusion sweep runs/digits --samplers ddim,heun --steps 4,8,16 --guidance 1,2
    """
    with errors(debug):
        _check(num_samples, batch_size, seed, weights)
        numbers = [_number("--steps", text, int) for text in steps.split(",")]
        for n in numbers:
            check_options(steps=(n, 1, limits().steps))
        scales = [_number("--guidance", text, float) for text in guidance.split(",")]
        choose_backend(backend)
        from keras_diffusion.cli.sweeping import sweep_model

        options = {"seed": seed, "weights": weights, "batch_size": batch_size}
        sweep_model(
            console(),
            model,
            samplers,
            numbers,
            scales,
            metric,
            num_samples,
            data,
            extractor,
            cache,
            out,
            overwrite,
            **options,
        )


def _of_reconstructions(walk):
    """The options that reconstructions have, of all; refuses others that were given."""
    usual = {"sampler": None, "num_steps": 50, "guidance_scale": 1.0, "guidance": None, "spacing": None, "seed": 0}
    given = [name for name, value in usual.items() if walk[name] != value]
    if given:
        shown = ", ".join("--" + name.replace("num_", "").replace("_", "-") for name in given)
        raise ConfigError(f"An autoencoder is measured by its reconstructions, without {shown}. Leave that out")
    return {"weights": walk["weights"], "batch_size": walk["batch_size"] or 64}


def _check(num_samples, batch_size, seed, weights):
    most = limits().samples
    check_options(num_samples=(num_samples, 2, most), batch_size=(batch_size, 1, most), seed=(seed, 0, MOST_SEED))
    if weights not in ("ema", "raw"):
        raise ConfigError(f"--weights is ema or raw. Received: --weights {weights}")


def _number(option, text, kind):
    try:
        return kind(text)
    except ValueError:
        raise ConfigError(f"{option} takes numbers with commas between. Received: {text.strip()!r}") from None
