"""`keras-diffusion data`: what a data set holds, before a model is trained on it; and packing it."""

from pathlib import Path
from typing import Annotated

import typer

from keras_diffusion.cli.config import ConfigError
from keras_diffusion.cli.invocation import choose_backend, console, errors

data = typer.Typer(no_args_is_help=True, help="Look at data sets, and pack them.", name="data")

_SHOWN, _COLS, _SIDE = 32, 8, 64  # pictures of the sheet, in a row, and their size in pixels


@data.command()
def inspect(
    source: Annotated[
        str,
        typer.Argument(
            help='Folder, .npz file, tar or Parquet files ("part-{000..031}.tar"), list of addresses (.jsonl, .csv), '
            "or a name, also of the Hub (hf://user/name)."
        ),
    ],
    split: Annotated[
        str | None, typer.Option(help='Part of the data. Default: "all", or "train" where parts have folders.')
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="A .png file: some of the pictures, with their captions. Default: none.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder that keeps the pictures of a list of web addresses.")
    ] = None,
    frames: Annotated[
        int | None, typer.Option(help="For clips: how many frames of each are read. The middle one is shown.", min=1)
    ] = None,
    stride: Annotated[int, typer.Option(help="For clips: from each frame to the next one.", min=1)] = 1,
    all_broken: Annotated[
        bool, typer.Option("--all-broken", help="List all samples that cannot be read, not only the first 20.")
    ] = False,
    buckets: Annotated[
        int | None, typer.Option(help="An image_size: how many pictures each of its buckets would hold.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what --out names, if it exists.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
):
    """Read every sample once: counts, sizes, classes, captions, and what cannot be read.

    Example: keras-diffusion data inspect pictures/flowers --out sheet.png
    """
    with errors(debug):
        if out is not None and out.suffix != ".png":
            raise ConfigError(f"--out is a .png file. Received: --out {out}")
        if out is not None and out.exists() and not overwrite:
            raise ConfigError(f"{out} exists. Give another --out, or replace it with --overwrite.")
        choose_backend(None)
        options = {"cache": cache, "frames": frames, "stride": stride}
        _inspect(source, split, out, all_broken, buckets, options)


def _inspect(name, split, out, all_broken, side, options):
    from rich.progress import track

    from keras_diffusion.data import inspection
    from keras_diffusion.data.buckets import bucket_shapes, counted, nearest
    from keras_diffusion.data.sizes import check_size
    from keras_diffusion.visualization import save_png

    shapes = None if side is None else bucket_shapes(True, check_size(side))
    source = _source(name, split, options)
    screen = console()
    shown = {"console": screen, "transient": True, "disable": not screen.is_terminal}
    report = inspection.inspect(source, lambda numbers: track(numbers, "Reading", **shown))
    sizes = [size for size in report.sizes.elements() if len(size) == 2]
    if shapes and sizes:
        report.buckets = counted(nearest(sizes, shapes), shapes)
    screen.print(report.text(None if all_broken else 20), highlight=False, markup=False, soft_wrap=True)
    if out is not None:
        if source.latents is not None:
            raise ConfigError(f"--out is for pictures. Received: --out {out} for the latents of {name}. Leave it out.")
        save_png(out, _sheet(source, report))
        screen.print(f"Wrote {out}", highlight=False, markup=False, soft_wrap=True)


@data.command()
def pack(
    source: Annotated[
        str, typer.Argument(help="Folder, .npz file, tar files, list of addresses (.jsonl, .csv), or a name.")
    ],
    out: Annotated[Path, typer.Argument(help="Folder for the tar files; it must not exist.")],
    image_size: Annotated[
        str | None, typer.Option(help='Size of the pictures, "64" or "64x48" (height x width). Default: their own.')
    ] = None,
    split: Annotated[
        str | None, typer.Option(help='Part of the data. Default: "all", or "train" where parts have folders.')
    ] = None,
    captions: Annotated[
        list[str] | None, typer.Option(help='Template such as "a photo of a {}", for data with names of classes.')
    ] = None,
    shard_size: Annotated[int, typer.Option(help="Samples of a tar file.")] = 1000,
    autoencoder: Annotated[
        str | None, typer.Option(help="Run, preset or checkpoint: its latents of the pictures are packed instead.")
    ] = None,
    latents: Annotated[
        str,
        typer.Option(
            help="moments (means and log variances), means (half as much, all that training takes by default), or "
            "samples (one draw each)."
        ),
    ] = "moments",
    flip: Annotated[bool, typer.Option("--flip", help="Latents of the mirrored pictures as well.")] = False,
    batch_size: Annotated[int, typer.Option(help="Pictures that are encoded at once.", min=1)] = 32,
    dtype: Annotated[str, typer.Option(help="Of latents on disk: float32, or float16 for half of the room.")] = (
        "float32"
    ),
    cache: Annotated[
        Path | None, typer.Option(help="Folder that keeps the pictures of a list of web addresses.")
    ] = None,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Leave out what cannot be read, and list it.")
    ] = False,
    backend: Annotated[
        str | None, typer.Option(help="jax, tensorflow or torch. Default: KERAS_BACKEND, else jax.")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
):
    """Write a data set as tar files: pictures of one size, or their latents, with captions and classes.

    Example: keras-diffusion data pack pictures/flowers flowers-64 --image-size 64
    """
    with errors(debug):
        if out.exists():  # before pictures are looked for
            raise ConfigError(f"{out} exists. Tar files are written into a new folder.")
        choose_backend(backend)
        options = {} if cache is None else {"cache": cache}
        if image_size is not None:
            options["image_size"] = _size(image_size)
        packing = {"shard_size": shard_size, "captions": captions, "on_error": "skip" if skip_broken else "raise"}
        packing |= {"latents": latents, "flip": flip, "batch_size": batch_size, "dtype": dtype}
        if autoencoder is not None:
            from keras_diffusion.cli.autoencoder_files import read_autoencoder

            packing["autoencoder"] = read_autoencoder(autoencoder)
        _pack(_source(source, split, options), out, packing)


def _pack(source, out, options):
    from rich.progress import track

    from keras_diffusion.data import packing

    screen = console()
    shown = {"console": screen, "transient": True, "disable": not screen.is_terminal}
    packed = packing.pack(source, out, **options, progress=lambda numbers: track(numbers, "Packing", **shown))
    for number, error in packed.skipped.items():
        screen.print(f"left out   {number}: {error}", highlight=False, markup=False, soft_wrap=True)
    screen.print(f"Wrote {packed}", highlight=False, markup=False, soft_wrap=True)


def _size(text):
    """ "64" or "64x48" as an int or a pair."""
    parts = text.lower().split("x")
    if not (len(parts) in (1, 2) and all(part.isascii() and part.isdigit() and len(part) < 7 for part in parts)):
        raise ConfigError(f'--image-size is a number, or height x width such as "64x48". Received: {text!r}')
    return int(parts[0]) if len(parts) == 1 else (int(parts[0]), int(parts[1]))


def _source(name, split, options):
    """The source, without what `load` adds for training."""
    from keras_diffusion.data import load

    if split is not None:
        return load(name, split=split, batch_size=1, **options).source
    try:
        return load(name, split="all", batch_size=1, **options).source
    except ValueError as error:
        if "has the splits" not in str(error) and "have the splits" not in str(error):
            raise
    return load(name, split="train", batch_size=1, **options).source


def _sheet(source, report):
    """Pictures from all over the source, cropped to squares, in a grid."""
    import numpy as np

    from keras_diffusion.data.sizes import resize
    from keras_diffusion.visualization import image_grid

    readable = [number for number in range(len(source)) if number not in report.broken]
    numbers = [readable[i] for i in np.linspace(0, len(readable) - 1, min(_SHOWN, len(readable))).round().astype(int)]
    if not numbers:
        raise ConfigError("No picture can be read, so that there is no sheet.")
    pictures = (np.asarray(source[number]["images"]) for number in numbers)
    pictures = (picture if picture.ndim < 4 else picture[len(picture) // 2] for picture in pictures)  # of clips
    images = np.stack([resize(picture, (_SIDE, _SIDE)) for picture in pictures])
    texts = source.texts(numbers)
    captions = None if texts is None else [several[0] for several in texts]
    return image_grid(images, cols=_COLS, captions=captions)
