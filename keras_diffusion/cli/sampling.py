"""`keras-diffusion sample`: from a trained model to a picture or an array file."""

import math
from pathlib import Path

import numpy as np

from keras_diffusion import samplers, schedulers
from keras_diffusion.cli.config import ConfigError, config_errors, parse_labels
from keras_diffusion.cli.run_folder import RunFolder
from keras_diffusion.configs.checks import clip
from keras_diffusion.configs.labels import name_of
from keras_diffusion.core.noise import check_seed
from keras_diffusion.models.guidance_argument import read_guidance
from keras_diffusion.models.outputs import decoded
from keras_diffusion.runtime import limits
from keras_diffusion.runtime.documents import parse_json
from keras_diffusion.runtime.files import atomic_path, read_bytes, unused_path

_ANIMATIONS = (".gif", ".webp")
_COLUMNS, _FRAMES = 8, 40  # steps of a walk that a film strip and an animation show
_RATE = 8.0  # frames of a clip in a second


def load_model(path):
    """A model from a run folder, a preset folder, a `.keras` file, or a checkpoint of an older system.

    Returns:
        (`DiffusionModel`, what it was read from, as text).

    Raises:
        ConfigError: `path` is none of these, or a run that has not saved anything yet.
    """
    from keras_diffusion.checkpoints import own
    from keras_diffusion.models import DiffusionModel

    path, run = Path(path), RunFolder(path)
    if run.is_run and run.finished:
        return DiffusionModel.from_preset(run.model), f"the finished model, {run.epochs_done} epochs"
    if run.is_run:
        with run.only_config_errors(), config_errors(kinds=FileNotFoundError):
            epochs = f"{run.epochs_done} of {run.config['train']['epochs']} epochs"
            return DiffusionModel.from_preset(run.path), f"the state of an unfinished run, {epochs}"
    if own.is_own(path):
        return own.load_own(path), "a preset" if path.is_dir() else "a .keras file"
    from keras_diffusion.checkpoints import load

    try:
        loaded = load(path, verbose=0)
    except FileNotFoundError:
        raise ConfigError(
            "A model is a run folder, a preset folder, a .keras file or a checkpoint of an older system. "
            f"Received: {str(path)!r}, which does not exist."
        ) from None
    return loaded.diffusion_model(), loaded.report.summary()


def sample(
    console,
    path,
    num_samples=None,
    labels=None,
    per_label=None,
    out=None,
    cols=None,
    overwrite=False,
    seed=None,
    film=False,
    prompts=None,
    negative_prompt="",
    tile=None,
    **options,
):
    """Draws samples and writes them.

    Args:
        console: `rich.console.Console`.
        path: run folder, preset folder or `.keras` file.
        num_samples: int. Default: one per class, or 16.
        labels: text such as "0,1,2", "0-9" or "china,flower", "none" for no condition. Default: every class in turn.
        per_label: samples of each label; the grid then has one row per label.
        out: a .png (grid), .gif or .webp (the walk of x beside that of x0, animated) or .npz (arrays "images" and
            "labels") file. Of clips, a .png has the frames of each in a row, a .gif or .webp plays them. Default: a new
            file in the run's `generated` folder, or here.
        cols: columns of the grid.
        overwrite: whether an existing `out` is replaced.
        seed: int. Default: a new one, printed.
        prompts: list of texts, for a model of words: a sample of each, or `num_samples` in turn.
        negative_prompt: what its samples should not show.
        tile: side in pixels of the tiles in which the autoencoder decodes. Default: whole pictures.
        film: whether a .png is a film strip, a row of eight steps for each sample, instead of a grid.
        options: further arguments of `DiffusionModel.generate`; `sampler`, `spacing` and `guidance` are a name, or JSON
            such as '{"name": "ddim", "eta": 1.0}'. None: the model's own.

    Returns:
        path of the file written.
    """
    if out is not None:
        _check_out(Path(out), overwrite, film)
    options |= {name: identifier(options.get(name)) for name in ("sampler", "spacing", "guidance")}
    with config_errors():  # an unknown name is an error now, not after loading the model
        samplers.get(options["sampler"] or "ddim")
        schedulers.SPACINGS.get(options["spacing"] or "linspace")
        read_guidance(options["guidance"], options.get("guidance_scale", 1.0))
    seed = check_seed(seed) if seed is not None else int(np.random.SeedSequence().generate_state(1)[0])
    model, source = load_model(path)
    _set_tile(model, tile)
    options["size"] = options.get("size") or _size_of_run(path, model)
    prompts = _prompts(prompts, num_samples, labels, per_label, model)
    labels, num_samples = _labels(labels, num_samples, per_label, model) if prompts is None else (None, len(prompts))
    channels = getattr(model.autoencoder, "channels", model.sample_shape[-1])
    picture = len(model.sample_shape) in (3, 4) and channels in (1, 3, 4)
    out = Path(out) if out is not None else _new_file(path, seed, ".png" if picture else ".npz")
    if (film or out.suffix != ".npz") and not picture:
        raise ConfigError(
            f"A {out.suffix} shows images or clips of 1, 3 or 4 channels. Received: --out {out} for "
            f"samples {model.sample_shape}. Use .npz."
        )
    walk = _walk(out, film, model.sample_shape)
    classes = f" of {listed_labels(labels, model.class_names)}" if labels and model.class_names else ""
    console.print(f"Sampling {num_samples}{classes} from {path} ({source}), seed {seed}", markup=False, soft_wrap=True)
    _say_what_is_left_out(console, model, prompts or ())
    if prompts is None:
        conditions = None if labels is None else {"labels": labels}
        samples = model.generate(num_samples, conditions=conditions, seed=seed, trajectory=walk, **options)
    else:
        samples = model.text_to_image(prompts, negative_prompt, seed=seed, trajectory=walk, **options)
    samples, *walks = samples if walk else (samples,)
    walks = [_shown_walk(model, one, _COLUMNS if film else _FRAMES, options.get("batch_size")) for one in walks]
    if not np.isfinite(samples).all():
        raise FloatingPointError(
            "The samples hold NaN or infinity; nothing was written. Try more steps, or another sampler."
        )
    _write(out, samples, labels, per_label if cols is None else cols, model.class_names, walks, prompts)
    console.print(f"Wrote {out}", markup=False, style="green", soft_wrap=True)
    return out


def _size_of_run(path, model):
    """Of a run on buckets, whose network takes any size, the size of its pictures; None for all else."""
    run = RunFolder(path)
    if None not in model.sample_shape or not run.is_run:
        return None
    return run.config["data"].get("image_size")


def read_prompts(prompts, path):
    """The texts of --prompt and the lines of --prompts-file, a list; None without any."""
    if path is None:
        return list(prompts) if prompts else None
    if prompts:
        raise ConfigError("Give --prompt, once or several times, or --prompts-file. Received both.")
    with config_errors(kinds=(OSError, UnicodeDecodeError)):
        lines = read_bytes(path, ConfigError).decode("utf-8-sig").split("\n")
    texts = [line.strip() for line in lines if line.strip()]
    if not texts:
        raise ConfigError(f"--prompts-file has a text in each line. Received: {str(path)!r} without any")
    return texts


def _prompts(prompts, num_samples, labels, per_label, model):
    """A text for each sample, or None."""
    if prompts is None:
        if hasattr(model, "text_to_image"):
            raise ConfigError("This model draws what it is told. Received: no --prompt. Give one, or --prompts-file.")
        return None
    if not hasattr(model, "text_to_image"):
        raise ConfigError(
            f"--prompt is for models of words. Received: a {type(model).__name__}, without a text encoder"
        )
    if labels is not None or per_label is not None:
        raise ConfigError("--prompt takes the place of --labels and --per-label. Received: both.")
    count = len(prompts) if num_samples is None else num_samples
    limits.check(count, "samples", "The number of samples", ConfigError)
    return [prompts[i % len(prompts)] for i in range(count)]


def _say_what_is_left_out(console, model, prompts):
    """Names the conditions that the samples will not follow: known channels, and words that training has not seen."""
    if getattr(model.network, "concat_channels", 0):
        console.print(
            "The model sees known channels beside its samples, “concat”, which are left out here: zeros. In Python: "
            'generate(conditions={"concat": …})',
            soft_wrap=True,
            markup=False,
        )
    tokenizer = getattr(model, "tokenizer", None)
    if hasattr(tokenizer, "unknown"):  # made of one's own captions
        unknown = sorted({word for text in prompts for word in tokenizer.unknown(text)})
        if unknown:
            console.print(f"Words that the model has never seen: {', '.join(unknown)}", style="yellow", markup=False)


def _labels(labels, num_samples, per_label, model):
    """(class ids or None, number of samples)."""
    num_classes = model.num_classes
    if labels == "none" or not num_classes:
        if labels not in (None, "none") or per_label is not None:
            raise ConfigError(
                "--labels and --per-label are for models with classes. Received: "
                f"--labels {labels}, --per-label {per_label}"
            )
        return None, num_samples or 16
    if per_label is not None and num_samples is not None:
        raise ConfigError(f"Give --num-samples or --per-label. Received both: {num_samples} and {per_label}")
    ids = (
        list(range(num_classes)) if labels is None else parse_labels(labels, model.class_names, num_classes, "--labels")
    )
    limits.check(len(ids) * (per_label or 1), "samples", "The number of samples", ConfigError)
    ids = [label for label in ids for _ in range(per_label or 1)]
    if num_samples is not None:
        ids = [ids[i % len(ids)] for i in range(num_samples)]
    return ids, len(ids)


def identifier(text):
    """A name, or the dict or list of a JSON text."""
    if not isinstance(text, str) or not text.lstrip().startswith(("{", "[")):
        return text

    def error(message):
        return ConfigError(
            'Options are given as JSON, for example \'{"name": "ddim", "eta": 1.0}\'. Received: '
            f"{clip(text, 300)!r}: {message}"
        )

    return parse_json(text, "text", error, kind=object)


def listed_labels(labels, class_names, most=10):
    """The classes that are drawn, by name."""
    names = list(dict.fromkeys(name_of(label, class_names) for label in labels))
    return ", ".join(names[:most]) + (" …" if len(names) > most else "")


def _walk(out, film, shape):
    """What `generate` returns of its steps: "x", "both", or False."""
    if len(shape) == 3:
        return "x" if film else out.suffix in _ANIMATIONS and "both"
    if film:
        raise ConfigError(
            f"--film shows the steps of images. Received: --film for clips {shape}. A .png has the frames of each clip "
            "in a row; a .gif plays them."
        )
    return False


def _shown_walk(model, walk, count, batch_size):
    """A walk `(steps, N, ...)` as pictures: of latents, `count` steps are decoded."""
    if model.autoencoder is None:
        return walk
    from keras_diffusion.visualization.grid import spread

    walk = walk[spread(len(walk), count)]
    pictures = decoded(model, walk.reshape(-1, *walk.shape[2:]), batch_size or walk.shape[1])
    return pictures.reshape(*walk.shape[:2], *pictures.shape[1:])


def _set_tile(model, tile):
    """Has the autoencoder of a model work in tiles of so many pixels."""
    if tile is None:
        return
    if not hasattr(model.autoencoder, "tile_size"):
        raise ConfigError(
            "--tile is for models whose autoencoder works in tiles. Received: --tile "
            f"{tile}, {'no' if model.autoencoder is None else 'another'} autoencoder"
        )
    factor = model.autoencoder.size_multiple
    if tile < factor or tile % factor:
        near = max(round(tile / factor), 1) * factor
        raise ConfigError(
            f"--tile is a multiple of {factor} with this autoencoder. Received: --tile {tile}. Try {near}"
        )
    model.autoencoder.tile_size = tile


def _titles(labels, cols, class_names):
    """The names of the classes in each row."""
    rows = [labels[i : i + cols] for i in range(0, len(labels), cols)]
    return [", ".join(dict.fromkeys(name_of(label, class_names) for label in row)) for row in rows]


def _check_out(out, overwrite, film):
    if out.suffix not in (".png", ".npz", *_ANIMATIONS):
        raise ConfigError(f"Samples are written as .png, .gif, .webp or .npz. Received: --out {out}")
    if film and out.suffix != ".png":
        raise ConfigError(f"A film strip is written as .png. Received: --film --out {out}")
    if out.exists() and not overwrite:
        raise ConfigError(
            f"An existing file is only replaced with --overwrite. Received: --out {out}. "
            "Add --overwrite, or name another file."
        )


def _new_file(path, seed, suffix):
    folder = RunFolder(path).generated if RunFolder(path).is_run else Path()
    return unused_path(folder / f"samples-{seed}", suffix)


def _write(out, samples, labels, cols, class_names=None, walks=(), prompts=None):
    from keras_diffusion.visualization import film_strip, image_grid, save_animation, save_png

    if samples.ndim == 5 and out.suffix != ".npz":
        titles = prompts if class_names is None or labels is None else _titles(labels, 1, class_names)
        frames = samples.swapaxes(0, 1)
        if out.suffix == ".png":
            save_png(out, film_strip(frames, steps=len(frames), scale="auto", titles=titles))
        else:
            save_animation(out, frames, frames=len(frames), seconds=len(frames) / _RATE, hold=0.0, cols=cols, pad=4)
    elif out.suffix in _ANIMATIONS:
        save_animation(out, *walks, titles=["x", "x0"], cols=cols, pad=4)
    elif walks:
        titles = prompts if class_names is None or labels is None else _titles(labels, 1, class_names)
        save_png(out, film_strip(walks[0], scale="auto", titles=titles))
    elif out.suffix == ".png":
        titles = None
        if class_names is not None and labels is not None:
            cols = math.ceil(math.sqrt(len(samples))) if cols is None else cols
            titles = _titles(labels, cols, class_names)
        save_png(out, image_grid(samples, cols=cols, scale="auto", titles=titles, captions=prompts))
    else:
        named = {} if prompts is None else {"captions": np.array(prompts)}
        named |= {} if labels is None else {"labels": np.asarray(labels, "int32")}
        with atomic_path(out) as temporary:
            np.savez(temporary, images=samples, **named)
