"""Training configurations: a file, what the command line sets over it, and the defaults under it.

    data                             seed = 0          order of the data, first weights, noise
    source = "digits"                dtype = "float32" or "mixed_bfloat16": what the network computes in
    [network]                        [data] [network] [model] [optimizer] [train]   see `SECTIONS`
    widths = [32, 64]

Three lines are a whole configuration, because everything has a default. So unknown keys are errors, or a misspelt one
would go unnoticed. Nothing here imports Keras, so that a typing error in a file is reported at once.
"""

import contextlib
import copy
import json
import re
from functools import partial
from pathlib import Path

from keras_diffusion.configs import labels as class_labels
from keras_diffusion.configs.checks import did_you_mean
from keras_diffusion.runtime import limits
from keras_diffusion.runtime.documents import check_size, parse_json, parse_toml, parse_yaml
from keras_diffusion.runtime.files import read_bytes

#: What each section holds. [data], [network], [model] and [optimizer] have the options of the Python objects they make.
SECTIONS = {
    "data": "arguments of keras_diffusion.data.load (`source` is required), and `validation`: "
    "a split, a table of arguments, or false",
    "network": "`name` (default: unet for images and sequences, mlp for vectors), for a unet `size`, and the "
    "arguments of that network",
    "autoencoder": "in place of [network]: arguments of networks.AutoencoderKL, which is then trained; or `run`, a "
    "finished run of one, in whose latents the network is trained",
    "text": "for data with captions: `encoder` (default: small; or the folder of a T5 or CLIP encoder), tokenizer, "
    "width, depth, num_heads, max_length, min_count, trainable",
    "model": "arguments of keras_diffusion.DiffusionModel: noise_schedule, predictor, loss_weighting, "
    "time_distribution, ema …",
    "optimizer": "`name` (default: adamw), `learning_rate` (a number, or a table with the "
    "`name` of a schedule) and other arguments",
    "train": "epochs, steps_per_execution, jit_compile, save_every, `samples`: the pictures drawn while training, and "
    "`metrics`: the scores of samples measured then",
    "seed": "integer",
    "dtype": "dtype policy of the network",
}

SAMPLES = {
    "every": 10,  # epochs; 0: no pictures
    "labels": None,  # "0-9" or a list; None: the first ten classes
    "per_label": 4,
    "num_samples": 16,  # without labels
    "prompts": None,  # a list of texts; None: the first captions that are held out, or trained on
    "num_steps": 30,
    "sampler": "dpmpp_2m",
    "guidance_scale": 1.0,
    "seed": 0,
}

#: Scores of samples while training; the reference is the training data.
METRICS = {
    "every": 0,  # epochs; 0: none
    "names": ["mind"],
    "num_samples": 500,
    "num_steps": 30,
    "sampler": "dpmpp_2m",
    "guidance_scale": 1.0,
    "seed": 0,
    "extractor": "auto",
    "best": None,  # name of the metric by which the best epoch is kept, in the folder `best`
}

#: Where [text] is given. `small`: a transformer and the words of the captions, trained with the network.
TEXT = {
    "encoder": "small",  # or the folder of one that knows words, T5 or CLIP
    "tokenizer": None,  # of such an encoder: its tokenizer.json; None: in the same folder
    "width": 64,
    "depth": 2,
    "num_heads": 4,
    "max_length": None,  # tokens of a text; None: those of the longest
    "min_count": 1,  # rarer words are unknown
    "trainable": True,
    "hide_padding": False,  # whether the network sees nothing of what fills short texts up
    "learning_rate_factor": None,  # of the encoder; None: 1
    "cache": None,  # folder for the contexts of an encoder with trainable = false; None: they are made in each step
}

DEFAULTS = {
    "seed": 0,
    "dtype": "float32",
    "data": {"batch_size": 64},
    "network": {},
    "model": {},
    "optimizer": {"name": "adamw", "learning_rate": 5e-4, "weight_decay": 1e-4, "clipnorm": 1.0},
    "train": {
        "epochs": 100,
        "steps_per_execution": 1,
        "jit_compile": "auto",
        "save_every": 1,  # epochs; or "500 steps", "30 min": see `saving_options`
        "samples": SAMPLES,
        "metrics": METRICS,
    },
}


MOST_SEED = 2**64 - 1


class ConfigError(ValueError):
    """An error that a user can fix in a configuration file or on the command line."""


@contextlib.contextmanager
def config_errors(prefix="", kinds=(ValueError,)):
    """A context whose errors of some kinds become ConfigErrors, with `prefix` before their messages."""
    try:
        yield
    except ConfigError:
        raise
    except kinds as error:
        raise ConfigError(f"{prefix}{error}") from error


def read_config(path):
    """A configuration file as a dict.

    Args:
        path: a .json, .toml, .yaml or .yml file.

    Raises:
        ConfigError: no such file, another kind of file, or invalid syntax.
        ImportError: YAML without PyYAML.
    """
    path = Path(path)
    if not path.is_file() or path.suffix not in _PARSERS:
        missing = "" if path.is_file() else ", which does not exist"
        raise ConfigError(f"A configuration is a .toml, .json or .yaml file. Received: {str(path)!r}{missing}.")

    def error(message):
        return ConfigError(f"Cannot read the configuration {str(path)!r}: {message}")

    # JSON may be that of a run, with the vocabulary of its tokenizer.
    limit = "text_bytes" if path.suffix == ".json" else "config_bytes"
    config = _PARSERS[path.suffix](read_bytes(path, error, limit), "text", error)
    if not isinstance(config, dict):
        raise ConfigError(
            f"A configuration holds the sections {', '.join(SECTIONS)}. Received: {str(path)!r} with a "
            f"{type(config).__name__}"
        )
    return config


def apply_sets(config, assignments):
    """A copy of `config` with the assignments `a.b=value`.

    A value is JSON if it parses as such (numbers, true, lists), else text.
    """
    config = copy.deepcopy(config)
    for assignment in assignments:
        keys, equals, text = assignment.partition("=")
        path = [key.strip() for key in keys.split(".")]
        if not equals or not all(path):
            raise ConfigError(
                f"--set takes section.key=value, for example train.epochs=20. Received: {assignment!r:.300}"
            )
        limits.check(len(path), "text_depth", f"The depth of --set {keys:.60}", ConfigError)
        value = _value_of(text, f"value of --set {keys}")
        table = config
        for i, key in enumerate(path[:-1]):
            table = table.setdefault(key, {})
            if not isinstance(table, dict):
                raise ConfigError(
                    f"--set cannot look into {'.'.join(path[: i + 1])}, which is {table!r}. Received: {assignment!r}"
                )
        table[path[-1]] = value
    return config


def _value_of(text, what):
    """The value of a text that is JSON, else the text."""
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return text
    except (ValueError, RecursionError):
        pass  # a number of thousands of digits, or deep lists: refused below
    return parse_json(text, what, ConfigError, kind=object)


def with_defaults(config):
    """`DEFAULTS` overridden by `config`, checked as far as possible without Keras.

    Raises:
        ConfigError: unknown sections or keys, sections that are not tables, numbers out of range.
    """
    check_keys(config, SECTIONS, "the configuration", "section")
    check_size(config, "configuration", ConfigError)
    for section, default in DEFAULTS.items():
        if isinstance(default, dict) and not isinstance(config.get(section, {}), dict):
            raise ConfigError(
                f"[{section}] is a table of options: {SECTIONS[section]}. Received: {section}={config[section]!r}"
            )
    check_keys(config.get("train", {}), DEFAULTS["train"], "[train]")
    for key, known, without in (("samples", SAMPLES, "draws no pictures"), ("metrics", METRICS, "measures nothing")):
        table = config.get("train", {}).get(key, {})
        if not isinstance(table, dict):
            raise ConfigError(
                f"[train.{key}] is a table with the keys {', '.join(known)}; every=0 {without}. Received: "
                f"{key}={table!r}"
            )
        check_keys(table, known, f"[train.{key}]")
    merged = merge(DEFAULTS, config)
    if "source" not in merged["data"]:
        raise ConfigError(
            '[data] needs a `source`: "digits", "emoji", "shapes", the path of an image folder, of tar files, of '
            "a list of web addresses or of a .npz file, or the name of a TFDS data set. Received keys: "
            f"{', '.join(sorted(config.get('data', {}))) or 'none'}"
        )
    if not isinstance(merged.get("text", {}), dict):
        raise ConfigError(f"[text] is a table of options: {SECTIONS['text']}. Received: text={merged['text']!r:.100}")
    train, most = merged["train"], limits.current()
    if not (isinstance(train["jit_compile"], bool) or train["jit_compile"] == "auto"):
        raise ConfigError(
            f'`train.jit_compile` is true, false or "auto". Received: train.jit_compile={train["jit_compile"]!r:.100}'
        )
    saving_options(train["save_every"])
    for name, value, least, limit in (
        ("train.epochs", train["epochs"], 1, None),
        ("train.steps_per_execution", train["steps_per_execution"], 1, None),
        ("train.samples.every", train["samples"]["every"], 0, None),
        ("train.samples.per_label", train["samples"]["per_label"], 1, most.samples),
        ("train.samples.num_samples", train["samples"]["num_samples"], 1, most.samples),
        ("train.samples.num_steps", train["samples"]["num_steps"], 1, most.steps),
        ("train.samples.seed", train["samples"]["seed"], 0, MOST_SEED),
        ("train.metrics.every", train["metrics"]["every"], 0, None),
        ("train.metrics.num_samples", train["metrics"]["num_samples"], 2, most.samples),
        ("train.metrics.num_steps", train["metrics"]["num_steps"], 1, most.steps),
        ("train.metrics.seed", train["metrics"]["seed"], 0, MOST_SEED),
        ("seed", merged["seed"], 0, MOST_SEED),
    ):
        check_int(value, name, least, limit)
    return merged


def saving_options(save_every):
    """`train.save_every` as arguments of `callbacks.Resume`.

    Args:
        save_every: an int counts epochs; epochs longer than ten minutes are also saved every ten minutes. Text is for
            long epochs: "500 steps", "30 min", "2 h"; the end of every epoch is saved too.

    Raises:
        ConfigError: anything else.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(epochs?|steps?|s|min|minutes?|h|hours?)\s*", str(save_every))
    if isinstance(save_every, int) and not isinstance(save_every, bool):
        match = re.fullmatch("([0-9]+)(.*)", f"{save_every}epochs")
    number, unit = (float(match[1]), match[2]) if match else (0.0, "")
    counts = unit.startswith(("epoch", "step"))
    if number <= 0 or (counts and number != int(number)):
        raise ConfigError(
            '`train.save_every` is a number of epochs, or text such as "500 steps", "30 min" or "2 h". '
            f"Received: train.save_every={save_every!r}"
        )
    if unit.startswith("epoch"):
        return {"every": int(number), "save_every_minutes": 10.0}
    if unit.startswith("step"):
        return {"save_every_steps": int(number)}
    return {"save_every_minutes": number * {"s": 1 / 60, "m": 1.0, "h": 60.0}[unit[0]]}


def merge(under, over):
    """`under` overridden by `over`, table by table; a table with another `name` replaces the whole one below it."""
    tables = isinstance(under, dict) and isinstance(over, dict)
    if not tables or ("name" in over and "name" in under and over["name"] != under["name"]):
        return copy.deepcopy(over)
    merged = {key: merge(under[key], value) if key in under else copy.deepcopy(value) for key, value in over.items()}
    return {**copy.deepcopy(under), **merged}


def differences(old, new, prefix=""):
    """`{"section.key": (old, new)}` of two configurations; a missing key counts as None."""
    found = {}
    for key in sorted({*old, *new}):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found.update(differences(a, b, f"{prefix}{key}."))
        elif a != b:
            found[prefix + key] = (a, b)
    return found


def check_keys(table, known, where, kind="key"):
    """Raises a ConfigError for the first key of `table` not in `known`, with the closest known one."""
    for key in table:
        if key not in known:
            raise ConfigError(
                f"Unknown {kind} {key!r} in {where}.{did_you_mean(key, known)} Known: {', '.join(known)}."
            )


def check_int(value, name, least, most=None):
    """Raises a ConfigError unless `value` is an integer from `least` to `most`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most is not None and value > most):
        above = most is not None and isinstance(value, int) and value > most
        shown = f"{name} {value!r}" if name.startswith("-") else f"{name}={value!r}"
        raise ConfigError(
            f"`{name}` must be an integer ≥ {least}{f' and ≤ {most:,}' if above else ''}. Received: {shown:.100}"
        )


def check_options(**options):
    """Raises a ConfigError for the first option of the command line that is out of range.

    Args:
        options: `name=(value, least, most)`, with the option's name without its dashes; None is not checked.
    """
    for name, (value, least, most) in options.items():
        if value is not None:
            check_int(value, f"--{name.replace('_', '-')}", least, most)


def parse_labels(labels, class_names=None, num_classes=None, what="labels"):
    """Class ids from a list, an int, or text: "0,1,2", "0-9", "0-3,7" and, if names are known, "china,flower".

    Args:
        labels: the text, int or list.
        class_names: names of the classes, or None.
        num_classes: number of classes, or None: ids are then not checked.
        what: name of the labels in messages.

    Raises:
        ConfigError: text of another form, unknown names, ids without a class.
    """
    with config_errors():
        ids = class_labels.parse_labels(labels, class_names)
    wrong = [label for label in ids if num_classes is not None and label >= num_classes]
    if wrong or (not ids and num_classes is not None):
        known = class_labels.listed(class_names) if class_names else f"0 to {num_classes - 1}"
        raise ConfigError(
            f"`{what}` are classes of the model: {known}. Received: {f'class {wrong[0]}' if wrong else 'none'}"
        )
    return ids


def _yaml(text, what, error):
    try:
        return _numbers(parse_yaml(text, what, error))
    except ImportError as cause:
        raise ImportError(
            f"Reading YAML needs PyYAML: {cause}. pip install pyyaml, or write the configuration as .toml or .json."
        ) from cause


def _numbers(value):
    """YAML 1.1 reads 3e-4 as text, since it has no dot; here it is a number."""
    if isinstance(value, dict):
        return {key: _numbers(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_numbers(v) for v in value]
    return float(value) if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value) else value


_PARSERS = {".toml": parse_toml, ".json": partial(parse_json, kind=object), ".yaml": _yaml, ".yml": _yaml}
