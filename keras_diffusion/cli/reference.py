"""docs/configuration.md, generated from the names, defaults and docstrings of the objects it configures.

python -m keras_diffusion.cli.reference docs/configuration.md docs/command-line.md
"""

import inspect
import json
import re
import sys
import textwrap
from pathlib import Path

from keras_diffusion import networks, predictors, samplers, schedulers
from keras_diffusion.cli import autoencoders, building
from keras_diffusion.cli.command_line import command_line_page
from keras_diffusion.cli.config import DEFAULTS, METRICS, SAMPLES, TEXT
from keras_diffusion.data import Batches, load
from keras_diffusion.models import AutoencoderModel, DiffusionModel
from keras_diffusion.runtime.files import write_whole
from keras_diffusion.training.loss_weighting import LOSS_WEIGHTINGS
from keras_diffusion.training.time_distribution import TIME_DISTRIBUTIONS

_HEAD = """# The configuration of `keras-diffusion train`

A configuration is a `.toml`, `.json` or `.yaml` file, or `--set section.key=value` over one. Only `source` in `[data]`
is required:

```toml
[data]
source = "pictures"     # a folder of images
image_size = 32
```

Everything else has a default, and `config.json` in the run folder shows them all, with what follows from the data.
Unknown keys are errors. TOML has no null: leave a key out, or use `--set model.ema=null`.
[Your own pictures](your-own-pictures.md) starts from scratch; `examples/digits.toml` is a complete example.

This page is written by `python -m keras_diffusion.cli.reference docs/configuration.md`.

## Beside the sections

| key | default | |
|---|---|---|
| `seed` | `0` | integer ≥ 0: order of the data, first weights, noise |
| `dtype` | `"float32"` | what the network computes in; `"mixed_bfloat16"` on accelerators |
"""

_TRAIN = {
    "epochs": "passes over the data, or of `batches_per_epoch` batches",
    "steps_per_execution": "training steps per call of the compiled program",
    "jit_compile": 'whether the step is compiled by XLA: true, false or "auto"',
    "save_every": 'epochs between states to resume from; or "500 steps", "30 min"',
}

_SAMPLES = {
    "every": "epochs between pictures; 0 draws none",
    "labels": 'classes: ids, `"0-9"`, names such as `"china,flower"`, or a list of these; default: the first ten',
    "per_label": "pictures of each class, one row",
    "num_samples": "pictures, where there are no classes",
    "prompts": "with [text]: what to draw. Default: the first captions that are held out, or trained on",
    "num_steps": "steps of the sampler",
    "sampler": "name, or a table with `name` and options",
    "guidance_scale": "strength of guidance; 1 is off",
    "seed": "of the noise, the same for all pictures",
}


_METRICS = {
    "every": "epochs between scores; 0 measures nothing",
    "names": "metrics, of those of `keras_diffusion.metrics.names()`; the values stand in metrics.jsonl",
    "num_samples": "samples that are generated, and as many real ones: training data, whose labels or captions they "
    "have",
    "num_steps": "steps of the sampler",
    "sampler": "name, or a table with `name` and options",
    "guidance_scale": "strength of guidance; 1 is off",
    "seed": "of the noise, the same for all epochs",
    "extractor": 'what makes features: a name, or a table with `name` and options; `"auto"`: a classifier of the '
    "data's labels, and without labels the values themselves",
    "best": "one of the names: the model of its best epoch is kept in the run's folder `best`, a preset. Default: none",
}


def configuration_page():
    """The text of docs/configuration.md."""
    keys, size = building.known_keys(), f"{', '.join(map(json.dumps, networks.UNET_SIZES))}: widths and blocks by name."
    data = {key: value for key, value in keys["data"].items() if key not in ("source", "validation")}
    unet = {**networks.NETWORKS.options("unet"), "widths": None, "num_res_blocks": None}
    unet = {key: value for key, value in unet.items() if key not in ("name", "dtype", "trainable", "seed")}
    others = ", ".join(f"`{name}`" for name in networks.NETWORKS.names() if name != "unet")
    kinds = {
        "noise_schedule": schedulers.SCHEDULES,
        "predictor": predictors.PREDICTORS,
        "loss_weighting": LOSS_WEIGHTINGS,
        "time_distribution": TIME_DISTRIBUTIONS,
    }
    of_data = {**_arguments(Batches), **_arguments(load), "seed": "of the order of the samples. Default: the run's"}
    of_unet = {
        **_arguments(networks.UNet),
        "widths": "channels of each level, finest first. Default: those of the size",
        "num_res_blocks": "residual blocks per level, down and up. Default: those of the size",
    }
    of_model = {
        **_arguments(DiffusionModel),
        "seed": "of the noise of training. Default: the run's",
        "class_names": "names of the classes. Default: those of the data",
    }
    parts = [
        _HEAD,
        "## [data]\n\nThe arguments of `keras_diffusion.data.load` and of `data.Batches`.",
        _table(
            {"source": None, "validation": None, **data, **DEFAULTS["data"]},
            {
                **dict.fromkeys(data, "as in `keras.utils.PyDataset`"),
                **of_data,
                "source": _SOURCE,
                "validation": _VALIDATION,
            },
        ),
        "## [network]\n\n`name` is the network, `unet` for images and sequences and `mlp` for vectors unless it is "
        f"given; the others are {others}. `input_shape`, `num_classes`, `context_dim`, `concat_channels` and "
        "`augmentation_dim` follow "
        "from the data. The keys of each are the arguments of its class; those of a `unet`:",
        _table({"size": None, **unet}, {**of_unet, "size": f"{size} {_SIZE}"}),
        *_autoencoder_parts(),
        "## [text]\n\nFor data with captions: a text encoder, and a model that draws what it is told. Without this "
        "section captions are not read. See [train on words](words.md).",
        _table(TEXT, _TEXT),
        "## [model]\n\nThe arguments of `keras_diffusion.DiffusionModel`. A part is a "
        "name, or a table with `name` and options.",
        _table(keys["model"], of_model),
        "\n".join(f"- `{key}`: {_names(registry)}" for key, registry in kinds.items()),
        f"## [optimizer]\n\n{_OPTIMIZER}",
        _table(DEFAULTS["optimizer"], _OPTIONS),
        "## [train]",
        _table({key: DEFAULTS["train"][key] for key in _TRAIN}, _TRAIN),
        "## [train.samples]\n\nPictures while training, in the folder `samples`. Samplers: "
        f"{_names(samplers.SAMPLERS)}.",
        _table({key: SAMPLES[key] for key in _SAMPLES}, _SAMPLES),
        "## [train.metrics]\n\nScores of generated samples while training, see [evaluating](evaluating.md).",
        _table({key: METRICS[key] for key in _METRICS}, _METRICS),
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _autoencoder_parts():
    """What the page says of [autoencoder]."""
    own = {**_arguments(networks.AutoencoderKL), **_OF_AUTOENCODER}
    of_model = {**_arguments(AutoencoderModel), "seed": "of the noise of training. Default: the run's"}
    return [
        f"## [autoencoder]\n\n{_AUTOENCODER}",
        _table({"run": None, **autoencoders.known_keys()}, own),
        "The keys of [model] are then the arguments of `keras_diffusion.AutoencoderModel`:",
        _table(building.keys_of_autoencoder_model(), of_model),
    ]


_AUTOENCODER = (
    "In place of [network], an autoencoder that is trained; or, with `run` and beside [network], the one in whose "
    "latents a network is trained. See [latents](latents.md)."
)
_OF_AUTOENCODER = {
    "run": "a finished run of an autoencoder. Default: none, this one is trained",
    "channels": "of pictures. Default: those of the data",
    "latent_channels": "of latents. Default: as many as pictures have",
    "scale": "factor on latents; it is measured at the end of the run",
}
_TEXT = {
    "encoder": "`small`, a transformer with the words of the captions; or the folder of a T5 or CLIP text encoder, "
    "whose sizes are its own, and which is not trained unless `trainable` says so",
    "tokenizer": "of an encoder of a folder: its tokenizer.json, or the folder of it. Default: in the encoder's folder",
    "width": "channels; the network's `context_dim`",
    "depth": "transformer blocks",
    "num_heads": "heads of each; must divide `width`",
    "max_length": "words and signs of a text. Default: those of the longest. Of an encoder of a folder, tokens, after "
    "which texts are cut off. Default: what it takes, 77 where it takes any",
    "min_count": "rarer words are all one token",
    "trainable": "whether the encoder is trained with the network",
}
_SOURCE = (
    '`"digits"`, `"emoji"`, `"shapes"`, the path of an image folder, of tar files or of a list of web addresses '
    '(`.jsonl`, `.csv`), the path of a `.npz` or `.npy` file with "images" and perhaps "labels", or the name or folder '
    "of a TensorFlow Datasets data set"
)
_VALIDATION = (
    'the held-out data: a split such as `"validation"`, a table of arguments of `load` over those of [data], such as '
    '`{ source = "other" }`, or false. Default: the held-out part, where there is one (`validation_fraction`, digits, '
    "emoji)"
)
_SIZE = (
    "Without it, and without `widths`: what two CPU cores train in reasonable time, small up to 32 pixels, else tiny"
)
_OPTIMIZER = (
    "Any optimizer of Keras by `name`, and its arguments; another name starts from that optimizer's own defaults. "
    "`learning_rate` may be a "
    "table with the `name` of a schedule of Keras and its arguments, such as "
    '`{ name = "cosine_decay", initial_learning_rate = 1e-3 }`; '
    "`decay_steps` then reaches to the end of training unless it is given. `gradient_accumulation_steps` makes one "
    "update of several batches."
)
_OPTIONS = {
    "name": "`keras-diffusion info` lists them",
    "learning_rate": "a number, or a schedule",
    "weight_decay": "share of the weights taken off per step, times the learning rate",
    "clipnorm": "largest norm of a weight's gradient",
}


def _arguments(function):
    """The Args section of a docstring: {name: text}."""
    doc = inspect.cleandoc(function.__doc__)
    body = re.search(r"^Args:\n((?:(?: .*)?\n)+)", doc + "\n", re.MULTILINE)[1]
    found = {}
    for entry in re.split(r"\n(?=\S)", textwrap.dedent(body).strip()):
        names, text = entry.split(": ", 1)
        for name in names.split(", "):
            found[name] = re.sub(r"\s+", " ", text).strip()
    return found


def _table(defaults, texts):
    """The keys of a dict with their values, and what each of them means."""
    lines = ["| key | default | |", "|---|---|---|"]
    for key, default in defaults.items():
        text = texts.get(key, "").replace("|", chr(92) + "|").rstrip(".")
        lines.append(f"| `{key}` | {_default(default)} | {text} |")
    return "\n".join(lines)


def _default(value):
    if value is None or value is inspect.Parameter.empty:
        return "–"
    if isinstance(value, tuple):
        value = list(value)
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def _names(registry):
    return ", ".join(f"`{name}`" for name in registry.names())


PAGES = {"configuration.md": configuration_page, "command-line.md": command_line_page}


if __name__ == "__main__":
    paths = [Path(argument) for argument in sys.argv[1:]]
    if not paths or any(path.name not in PAGES for path in paths):
        sys.exit("usage: python -m keras_diffusion.cli.reference docs/configuration.md docs/command-line.md")
    for path in paths:
        write_whole(path, PAGES[path.name]().encode("utf-8"))
