"""From a configuration to objects: data, model, optimizer.

`resolve` fills in everything that a configuration leaves open: the defaults of the Python objects, and what follows
from the data (input shape, number of classes). Its result is saved as `config.json`; resolving that again changes
nothing.
"""

import inspect
import json
import random
import re
from pathlib import Path

from keras_diffusion import networks
from keras_diffusion.cli import autoencoders, texts
from keras_diffusion.cli.config import (
    DEFAULTS,
    METRICS,
    SAMPLES,
    TEXT,
    ConfigError,
    check_keys,
    config_errors,
    with_defaults,
)
from keras_diffusion.cli.optimizer_numbers import check_optimizer_numbers
from keras_diffusion.configs.checks import did_you_mean
from keras_diffusion.configs.file_configs import check_values
from keras_diffusion.configs.labels import listed
from keras_diffusion.data import Batches, load, without_labels
from keras_diffusion.data import names as data_names
from keras_diffusion.layers.weight_budget import weight_budget
from keras_diffusion.models import AutoencoderModel, DiffusionModel, TextToImage
from keras_diffusion.models.optimizers import learning_rate_schedules, optimizers, snake
from keras_diffusion.models.presets import tensor_shapes
from keras_diffusion.runtime import limits

# Arguments that are objects, and `source`, which is handled separately.
_NOT_IN_FILES = {"self", "network", "autoencoder", "perceptual", "source", "kwargs", "options", "name"}
_OF_TRAINING = ("horizontal_flip", "augment", "crop", "batches_per_epoch")  # held-out data do without
_NETWORKS = {1: "mlp", 4: "unet_3d"}  # default by the rank of a sample; otherwise "unet"


def resolve(config):
    """The complete configuration, and the data it names.

    Args:
        config: dict, as read from a file.

    Returns:
        (config, train, validation): JSON-like dict, `Batches`, and `Batches` or None.

    Raises:
        ConfigError: unknown keys, wrong values, data that cannot be loaded.
    """
    check_values(config, "the configuration", error=ConfigError)  # it may come from anyone
    autoencoders.check_sections(config)
    config = with_defaults(config)
    trained = autoencoders.is_trained(config)
    defaults = _defaults_of(load)
    check_keys(config["data"], _data_keys(), "[data]")
    check_keys(config["model"], _defaults_of(AutoencoderModel if trained else DiffusionModel), "[model]")
    options = {**defaults, **{k: v for k, v in config["data"].items() if k != "validation"}}
    if "text" in config and "captions" not in config["data"]:
        options["captions"] = True
    if "seed" not in config["data"]:
        del options["seed"]  # follows the seed of the run
    options["source"] = _absolute(options["source"])
    if isinstance(options["cache"], str):
        options["cache"] = str(Path(options["cache"]).expanduser().resolve())
    validation = _validation_options(config["data"].get("validation", "auto"), options)
    config["data"] = {**options, "validation": validation or False}
    # None where a network has no classes: the labels are then left out of the batches.
    train, held_out = load_data(config)
    _check_latents(config, train)
    (_resolve_autoencoder if trained else _resolve_network)(config, train, held_out)
    config["optimizer"] = _optimizer_options(config, len(train) * config["train"]["epochs"])
    if trained or (config["network"].get("num_classes") is None and "text" not in config):
        train, held_out = (without_labels(batches) for batches in (train, held_out))
    try:
        return json.loads(json.dumps(config)), train, held_out
    except TypeError as error:  # a date in a .toml file
        raise ConfigError(f"A configuration holds numbers, text, lists and tables: {error}") from error


def _check_latents(config, train):
    """Raises for packed latents where pictures are needed."""
    if train.latents is None:
        return
    if autoencoders.is_trained(config) or "autoencoder" not in config:
        raise ConfigError(
            "Packed latents are for a network of latents: [autoencoder] with `run`, the one that made them. Received: "
            f"data.source={config['data']['source']!r}, {train.latents}, "
            f"{'an [autoencoder] that is trained' if 'autoencoder' in config else 'no [autoencoder]'}"
        )
    if config["train"]["metrics"]["every"]:
        raise ConfigError(
            "Scores compare samples with pictures. Received: [train.metrics] with `every`, and packed latents, "
            f"data.source={config['data']['source']!r}. Leave the scores out, or train on the pictures; "
            "`keras-diffusion evaluate --data` measures later"
        )


def _resolve_network(config, train, held_out):
    """Fills in what a configuration leaves open of [text], [network] and [model]."""
    if "text" in config:
        config["text"] = texts.resolve(config["text"], train)
    config["train"]["samples"]["prompts"] = _prompts(config, held_out or train)
    if "autoencoder" in config:
        config["autoencoder"] = autoencoders.resolve_run(config["autoencoder"])
    config["network"] = _network_options(config, train)
    model_defaults = {key: value for key, value in _defaults_of(DiffusionModel).items() if key != "seed"}
    if config["network"]["name"] == "unet_3d":
        model_defaults["predictor"] = {"name": model_defaults["predictor"], "condition": "timestep"}
    config["model"] = {**model_defaults, "class_names": _class_names(config, train, held_out), **config["model"]}


def _resolve_autoencoder(config, train, held_out):
    """Likewise, of [autoencoder] and [model], where an autoencoder is trained."""
    del config["network"]
    autoencoders.check_scores(config["train"]["metrics"])
    config["autoencoder"] = autoencoders.resolve_trained(config["autoencoder"], train)
    defaults = {key: value for key, value in keys_of_autoencoder_model().items() if key != "seed"}
    config["model"] = {**defaults, **config["model"]}


def keys_of_autoencoder_model():
    """The keys of [model] where an autoencoder is trained, with their defaults."""
    return _defaults_of(AutoencoderModel)


def known_keys():
    """The keys of each section with their defaults, a dict of dicts; those of [network] are a U-Net's."""
    return {
        "data": _data_keys(),
        "network": {"size": None, **networks.NETWORKS.options("unet")},
        "autoencoder": {"run": None, **autoencoders.known_keys()},
        "text": TEXT,
        "model": _defaults_of(DiffusionModel),
        "optimizer": {**DEFAULTS["optimizer"], "clipvalue": None, "gradient_accumulation_steps": None},
        "train": {key: value for key, value in DEFAULTS["train"].items() if key not in ("samples", "metrics")},
        "train.samples": SAMPLES,
        "train.metrics": METRICS,
    }


def _class_names(config, train, held_out):
    """The data's names for the classes of the network, or None."""
    names = train.class_names
    if names is None or config["network"].get("num_classes") != len(names):
        return None
    if held_out is not None and held_out.class_names not in (None, names):
        raise ConfigError(
            f"Training and validation data need the same classes, in one order. Received: {listed(names)} for "
            f"training, {listed(held_out.class_names)} for validation. Give both folders the same sub-folders."
        )
    return [str(name) for name in names]


def load_data(config):
    """(training data, validation data or None) of a configuration whose [data] is complete."""
    options = {"seed": config["seed"], **config["data"]}
    validation = options.pop("validation")
    source = options.pop("source")
    with _section("data"):
        train = load(source, **options)
        train[0]  # a wrong size or value range shows now
    if not validation:
        return train, None
    # The held-out part is read in order and unchanged, since its loss is compared between epochs.
    plain = {k: v for k, v in options.items() if k not in _OF_TRAINING}
    overrides = {"shuffle": False, "drop_remainder": False, **validation}
    with _section("data.validation"):
        return train, load(overrides.pop("source", source), **{**plain, **overrides})


def build_model(config, compile=True, weights=None):
    """The `DiffusionModel`, or `AutoencoderModel`, of a resolved configuration.

    Args:
        config: of `resolve`.
        compile: whether to compile it. Default True.
        weights: path of the file with its weights, which the model must not exceed by much; None (default) for new
            weights.
    """
    check_values(config, "the configuration", error=ConfigError)
    if re.fullmatch(r"(mixed_)?float16", str(config["dtype"])):
        raise ConfigError(
            "float16 needs loss scaling, which diffusion models here do not do. Received: "
            f"dtype={config['dtype']!r}. Use 'mixed_bfloat16'."
        )
    random.seed(config["seed"])  # Keras draws the seeds of initial weights and dropout from it, on every backend
    limits.check_config([config.get(section) for section in ("network", "autoencoder", "model")], ConfigError)
    with weight_budget(None if weights is None else tensor_shapes(weights), ConfigError):
        if autoencoders.is_trained(config):
            model = autoencoders.build_trained(config)
        else:
            model = _diffusion_model(config, new=weights is None)
    if compile:
        with _section("train"):
            model.compile(
                build_optimizer(config["optimizer"]),
                steps_per_execution=config["train"]["steps_per_execution"],
                jit_compile=config["train"]["jit_compile"],
            )
    return model


def _diffusion_model(config, new):
    with _section("network"):
        network = networks.get({"dtype": config["dtype"], **config["network"]})
    options = {"seed": config["seed"], **config["model"]}
    if "autoencoder" in config:
        options["autoencoder"] = autoencoders.build_latent(config["autoencoder"], with_weights=new)
    with _section("model"):
        if "text" not in config:
            return DiffusionModel(network, **options)
        parts = texts.build(config["text"], with_weights=new)
        return TextToImage(network, **parts, **options)


def build_optimizer(options):
    """A Keras optimizer from `{"name": "adamw", "learning_rate": 1e-3 or {"name": "cosine_decay", ...}, ...}`."""
    options = dict(options)
    if isinstance(options.get("learning_rate"), dict):
        schedule = dict(options["learning_rate"])
        with _section("optimizer.learning_rate"):
            options["learning_rate"] = _class_named(
                schedule.pop("name"), learning_rate_schedules(), "learning-rate schedule"
            )(**schedule)
    with _section("optimizer"):
        return _class_named(options.pop("name"), optimizers(), "optimizer")(**options)


def _prompts(config, data):
    """The texts of the pictures while training, or None."""
    samples = config["train"]["samples"]
    prompts = samples.get("prompts")
    if "text" not in config:
        if prompts is not None:
            raise ConfigError("`train.samples.prompts` are for a model of words. Received: no [text]. Add it.")
        return None
    if prompts is None:
        return data.all_captions()[: samples["num_samples"]]
    if not isinstance(prompts, list) or not prompts or not all(isinstance(prompt, str) for prompt in prompts):
        raise ConfigError(f"`train.samples.prompts` is a list of texts. Received: prompts={prompts!r:.100}")
    return prompts


def _data_keys():
    workers = dict.fromkeys(("workers", "use_multiprocessing", "max_queue_size"))
    return {"source": None, "validation": None, **_defaults_of(load), **_defaults_of(Batches), **workers}


def _validation_options(validation, options):
    """Arguments of `load` in which validation data differ from training data; {} for no validation."""
    if validation == "auto" or validation is True:
        split_off = options["validation_fraction"] is not None or options["source"] in data_names()
        if validation is True and not split_off:
            raise ConfigError(
                "`data.validation` = true needs something held out. Received: no `validation_fraction`. Set "
                "it, for example to 0.1, or name a split."
            )
        validation = "validation" if split_off and options["split"] == "train" else False
    if not validation:
        return {}
    validation = {"split": validation} if isinstance(validation, str) else validation
    if not isinstance(validation, dict):
        raise ConfigError(
            f"`data.validation` is a split, a table of arguments, or false. Received: validation={validation!r}"
        )
    check_keys(validation, [key for key in _data_keys() if key != "validation"], "[data.validation]")
    validation = {"split": "all" if "source" in validation else "validation", **validation}
    return {**validation, "source": _absolute(validation["source"])} if "source" in validation else validation


def _network_options(config, data):
    """[network] with its defaults and with the sizes that follow from the data."""
    given, batch, known = config["network"], data[0], networks.NETWORKS.names()
    shape = list(data.image_shape)  # (None, None, C) where there are buckets
    if "autoencoder" in config:
        shape = autoencoders.latent_shape(config["autoencoder"], shape)
    name = given.get("name", _NETWORKS.get(len(shape), "unet"))
    if name not in known:
        raise ConfigError(
            f"Unknown network {name!r} in [network].{did_you_mean(name, known)} Known: {', '.join(known)}."
        )
    options = networks.NETWORKS.options(name)
    known = [*(k for k in options if k != "name"), *(["size"] if name == "unet" else [])]
    check_keys({k: v for k, v in given.items() if k != "name"}, known, f"[network] ({name})")
    if "input_shape" in given and [a for a, b in zip(given["input_shape"], shape) if a not in (None, b)]:
        raise ConfigError(
            f"[network] must take the samples of the data, of shape {shape}. Received: "
            f"input_shape={given['input_shape']}"
        )
    labelled = "labels" in batch and "text" not in config  # where there are words, classes are for those who ask
    inferred = {"input_shape": shape, "num_classes": data.num_classes if labelled else None}
    if "text" in config:
        inferred["context_dim"] = config["text"]["encoder"]["config"]["width"]
    if "context" in batch:
        inferred["context_dim"] = int(batch["context"].shape[-1])
    if "concat" in batch:
        inferred["concat_channels"] = int(batch["concat"].shape[-1])
    if "augmentation" in batch:
        if "augmentation_dim" not in options:
            raise ConfigError(
                f"The network {name!r} cannot be told of augmentation. Received: data.augment="
                f"{config['data']['augment']!r}. Take a unet or a dit, or another augmentation"
            )
        inferred["augmentation_dim"] = int(batch["augmentation"].shape[-1])
    if "widths" in options:
        sides = {side for bucket in data.bucket_counts or () for side in bucket}
        inferred.update(_sized(name, options, given, (*sorted(sides), shape[-1]) if None in shape else shape))
    defaults = {
        k: v
        for k, v in options.items()
        if k not in ("name", "dtype", "trainable", "seed") and v is not inspect.Parameter.empty
    }
    given = {k: v for k, v in given.items() if k != "size"}  # the options that it stands for are written out
    resolved = {"name": name, **defaults, **{k: v for k, v in inferred.items() if k in options}, **given}
    if "num_classes" not in options:
        return resolved  # a network that knows no labels
    if labelled and "num_classes" not in given and resolved.get("num_classes") is None:
        raise ConfigError(
            "The data have labels, but how many classes is not known. Set `data.num_classes`, or "
            "network.num_classes=null."
        )
    if not resolved.get("num_classes"):
        resolved["num_classes"] = None  # .toml has no null: 0 and false say the same
    return resolved


def _sized(name, options, given, shape):
    """Options of a network with levels that a size stands for: of `size`, or what suits two CPU cores."""
    if "size" in given and "widths" in given:
        raise ConfigError(
            "[network] has a `size`, or the `widths` themselves. Received: both, size = "
            f"{given['size']!r} and widths = {given['widths']!r}"
        )
    with _section("network"):
        sized = networks.unet_size(given.get("size"), shape)
    if name == "unet" and "widths" not in given:
        return sized
    # Other networks count blocks differently, and have heads that need certain widths.
    widths = networks.unet_size("small", shape)["widths"]
    levels = len(given.get("widths", widths))
    per_level = {
        key: value[-levels:] for key, value in options.items() if key == "has_attention" and len(value) >= levels
    }
    return {"widths": widths, **per_level}


def _optimizer_options(config, total_steps):
    options = dict(config["optimizer"])
    optimizer = _class_named(options.get("name"), optimizers(), "optimizer")
    check_keys(options, ["name", *_parameters(optimizer)], f"[optimizer] ({options['name']})")
    check_optimizer_numbers(options)
    rate = options.get("learning_rate")
    if isinstance(rate, dict):
        schedule = _class_named(rate.get("name"), learning_rate_schedules(), "learning-rate schedule")
        known = _parameters(schedule)
        check_keys(rate, ["name", *known], f"[optimizer.learning_rate] ({rate['name']})")
        if "decay_steps" in known and "decay_steps" not in rate:
            # To the end of training. It stays the same when a finished run is continued.
            rate = {**rate, "decay_steps": max(1, total_steps - rate.get("warmup_steps", 0))}
        options["learning_rate"] = rate
    return options


def _class_named(name, classes, kind):
    known = snake(str(name))
    if known not in classes:
        hint = did_you_mean(known, classes)
        raise ConfigError(f"Unknown {kind}: {name!r}.{hint} Known: {', '.join(sorted(classes))}.")
    return classes[known]


def _parameters(cls):
    return [p for p in inspect.signature(cls.__init__).parameters if p not in ("self", "kwargs", "name")]


def _defaults_of(function):
    """Arguments of a function or class that a file can have, with their defaults."""
    # Not the signature of the class itself: Keras's classes have a `__new__` that accepts anything.
    parameters = inspect.signature(function.__init__ if inspect.isclass(function) else function).parameters
    return {name: p.default for name, p in parameters.items() if name not in _NOT_IN_FILES}


def _absolute(source):
    """A path that still works when the run is resumed from another folder."""
    path = Path(source).expanduser() if isinstance(source, str) and source not in data_names() else None
    return str(path.resolve()) if path is not None and path.exists() else source


def _section(name):
    """A context that names the section of the configuration in errors of the objects that it makes."""
    return config_errors(f"[{name}] ", (ValueError, TypeError, KeyError))
