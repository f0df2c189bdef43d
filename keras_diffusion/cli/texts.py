"""[text] of a configuration: a new encoder for the words of the captions, or one that knows words already.

[text]                             [text]
width = 64                         encoder = "t5-v1_1-small"
                                   max_length = 77

[network] …: its context is the encoder's
"""

from pathlib import Path

import keras

from keras_diffusion.checkpoints import load
from keras_diffusion.cli.config import TEXT, ConfigError, check_keys, config_errors
from keras_diffusion.layers.weight_budget import weight_budget
from keras_diffusion.models.run_folders import TEXT_TRAINING, text_parts
from keras_diffusion.runtime import limits
from keras_diffusion.text import TextEncoder, Tokenizer, small_encoder

#: Keys that an encoder of a folder has; the others are of a new one.
_OF_FOLDER = ("encoder", "tokenizer", "max_length", "trainable", *TEXT_TRAINING, "cache")
_OF_RUN = ("encoder", "tokenizer", "trainable")
_KINDS = {
    "encoder": '"small", a new one for the words of the captions, or the folder of one that knows words, of T5 or CLIP',
    "tokenizer": "the path of a tokenizer.json, or of its folder",
}
_LENGTH = 77  # tokens of a text, where neither the configuration nor the encoder says


def resolve(options, data):
    """[text] as objects that can be made again without the data: the encoder's and the tokenizer's configs.

    Args:
        options: dict of the section, as read from a file or of a run.
        data: `Batches`, whose captions a new encoder learns the words of.

    Returns:
        dict with "encoder" and "tokenizer", configs; "trainable"; of an encoder of a folder, "weights", its path; and
        what concerns training.

    Raises:
        ConfigError: unknown keys, wrong values, a folder without an encoder.
    """
    if isinstance(options.get("encoder"), dict):
        return _of_run(options)
    check_keys(options, TEXT, "[text]")
    new = options.get("encoder", "small") == "small"
    given, options = options, {**TEXT, **({} if new else {"trainable": False}), **options}
    if not isinstance(options["trainable"], bool):
        raise ConfigError(f"`text.trainable` is true or false. Received: text.trainable={options['trainable']!r}")
    if options["cache"] is not None:
        options["cache"] = _cache_folder(options["cache"], options["trainable"])
    found = _new(options, data) if new else _of_folder(given, options)
    # Older versions read the runs that use none of these.
    return {
        **found,
        "trainable": options["trainable"],
        **{key: options[key] for key in (*TEXT_TRAINING, "cache") if options[key] is not None},
    }


def build(options, with_weights):
    """The arguments of `TextToImage` that [text] describes.

    Args:
        options: of `resolve`.
        with_weights: whether to read those of an encoder of a folder; they come with the state of a run that is
            resumed.

    Returns:
        dict.

    Raises:
        ConfigError: a config that is damaged; the encoder's folder is not there any more, or another one.
    """
    parts = text_parts(options, ConfigError)
    if with_weights and options.get("weights") is not None:
        with config_errors("[text] ", (ValueError, TypeError)):
            parts["text_encoder"].build((None, None))
            parts["text_encoder"].set_weights(_loaded(options["weights"]).get_weights())
    return {**parts, "text_cache": options.get("cache")}


def _new(options, data):
    """The configs of a new encoder, and of a tokenizer with the words of the captions."""
    if options["tokenizer"] is not None:
        raise ConfigError(
            "`text.tokenizer` goes with an encoder of a folder; a new one has the words of the captions. Received: "
            f"text.tokenizer={options['tokenizer']!r:.100}, text.encoder='small'"
        )
    sizes = {key: options[key] for key in TEXT if key not in _OF_FOLDER or key == "max_length"}
    limits.check_config(sizes, ConfigError)
    with config_errors("[text] ", (ValueError, TypeError, KeyError)), weight_budget(None, ConfigError):
        return _configs(*small_encoder(data.all_captions(), **sizes))


def _of_folder(given, options):
    """The configs of an encoder that knows words already, and the path of its weights."""
    surplus = [key for key in given if key not in _OF_FOLDER]
    if surplus:
        raise ConfigError(
            f"The sizes of an encoder that is loaded are its own. Received: text.encoder={options['encoder']!r:.100} "
            f"with {', '.join(surplus)}. Leave that out"
        )
    path = _path("encoder", options["encoder"])
    encoder = _loaded(path)
    words = path / "tokenizer.json" if options["tokenizer"] is None else _path("tokenizer", options["tokenizer"])
    if not words.exists():
        raise ConfigError(
            f"An encoder of a folder needs its tokenizer.json. Received: {str(words)!r}, which does not exist. Pass "
            "`text.tokenizer`, the path of the file or of its folder"
        )
    length = options["max_length"]
    if length is None:
        length = encoder.max_length or _LENGTH
    with config_errors("[text] ", (ValueError, TypeError, ImportError, FileNotFoundError)):
        tokenizer = Tokenizer.from_file(words, length, truncate=True)
    if tokenizer.vocabulary_size > encoder.vocabulary_size:
        raise ConfigError(
            f"The tokenizer has {tokenizer.vocabulary_size:,} tokens, and the encoder {encoder.vocabulary_size:,}: "
            f"they do not belong together. Received: {str(words)!r} and {str(path)!r}"
        )
    return {**_configs(encoder, tokenizer), "weights": str(path)}


def _of_run(options):
    check_keys(options, (*_OF_RUN, *TEXT_TRAINING, "cache", "weights"), "[text]")
    sizes = options["encoder"].get("config")
    if not set(_OF_RUN) <= set(options) or not isinstance(sizes, dict) or not isinstance(sizes.get("width"), int):
        raise ConfigError(
            "[text] of a run holds the configs of its encoder, with a `width`, and its tokenizer, and `trainable`. "
            f"Received: {', '.join(options)}"
        )
    if options.get("cache") is not None:
        _cache_folder(options["cache"], options["trainable"])
    return options


def _loaded(path):
    """The text encoder of a folder."""
    with config_errors("[text] "):
        found = load(path, verbose=0).network
    if not isinstance(found, TextEncoder):
        raise ConfigError(
            f'`text.encoder` is "small" or a folder with a text encoder. Received: {str(path)!r}, which holds a '
            f"{type(found).__name__}"
        )
    return found


def _path(key, value):
    path = Path(value).expanduser() if isinstance(value, str) and value else None
    if path is None or not path.exists():
        raise ConfigError(f"`text.{key}` is {_KINDS[key]}. Received: text.{key}={value!r:.100}, which does not exist")
    return path.resolve()


def _configs(encoder, tokenizer):
    return {
        "encoder": keras.saving.serialize_keras_object(encoder),
        "tokenizer": keras.saving.serialize_keras_object(tokenizer),
    }


def _cache_folder(folder, trainable):
    """`text.cache` as an absolute path."""
    if not isinstance(folder, str) or not folder or trainable:
        raise ConfigError(
            "`text.cache` is a folder, for the contexts of an encoder with trainable = false. Received: "
            f"text.cache={folder!r:.100}, text.trainable={trainable!r}"
        )
    return str(Path(folder).expanduser().resolve())
