"""Limits on what a file, a configuration or an argument may ask for.

A file of a few hundred bytes can ask for any amount of memory or time: by compression, by references to itself, by a
number that announces how many more will follow. So readers and loops first compare with the limits here. They are far
above what models need; for a larger one, raise them for a block or for a process:

    with keras_diffusion.runtime.limits.raised(text_bytes=1 << 30):
        model = keras_diffusion.DiffusionModel.from_preset("models/large")

    KERAS_DIFFUSION_LIMITS="text_bytes=1073741824,steps=500000" keras-diffusion sample models/large
"""

import contextlib
import contextvars
import dataclasses
import functools
import os
from math import prod

from keras_diffusion.configs.checks import clip, did_you_mean, shown

ENVIRONMENT = "KERAS_DIFFUSION_LIMITS"
_SHARED = "shared_object_id"  # by which Keras marks what a config holds twice: an address in memory


@dataclasses.dataclass(frozen=True)
class Limits:
    """The limits and their defaults.

    Attributes:
        text_bytes: bytes of a JSON text, a vocabulary or a table of names, after unpacking.
        text_values: values in a JSON text, counted by its commas and brackets.
        text_depth: levels of lists and tables in a JSON, TOML or YAML text.
        caption_bytes: bytes of a table of captions.
        config_bytes: bytes of a configuration in TOML.
        yaml_bytes: bytes of a configuration in YAML, whose parser takes a minute for a megabyte.
        pickle_instructions: instructions of a pickle, and items that its calls copy.
        name_length: characters of a tensor's name.
        tensors: tensors or groups listed by a checkpoint.
        fields: fields of a message in a protocol buffer.
        files: files of a checkpoint, and sets of weights in one.
        spare_weights: values of a network beyond twice those in its file; without a file, see `weights`.
        weights: values of a network that is built from a configuration alone.
        layers: weights (kernels, biases) of a network beyond twice the tensors in its file.
        config_number: the largest integer in a network's configuration: a width, a size, a number of layers.
        config_list: integers in one list of a network's configuration, such as the widths of its levels.
        timesteps: timesteps of a noise schedule's table.
        table_values: numbers in a computed table, such as one of positions; pixels of a resized picture.
        patches: patches of a grid that is reordered.
        image_pixels: pixels of one picture, and values of one sample.
        packed_ratio: unpacked bytes per byte of a file of arrays or pictures,
        packed_bytes: unless the unpacked total is below this many bytes.
        steps: steps of a sampler's grid.
        samples: samples of one call of `generate`.
    """

    text_bytes: int = 1 << 26
    text_values: int = 1_000_000
    text_depth: int = 100
    caption_bytes: int = 1 << 28
    config_bytes: int = 1 << 18
    yaml_bytes: int = 1 << 16
    pickle_instructions: int = 400_000
    name_length: int = 1000
    tensors: int = 20_000
    fields: int = 200_000
    files: int = 1_000
    spare_weights: int = 10_000_000
    weights: int = 2_000_000_000
    layers: int = 200
    config_number: int = 1 << 20
    config_list: int = 1_000
    timesteps: int = 100_000
    table_values: int = 1 << 24
    patches: int = 1 << 20
    image_pixels: int = 1 << 28
    packed_ratio: int = 100
    packed_bytes: int = 1 << 26
    steps: int = 100_000
    samples: int = 1_000_000


NAMES = tuple(field.name for field in dataclasses.fields(Limits))
_raised: contextvars.ContextVar[Limits | None] = contextvars.ContextVar("limits", default=None)


def current():
    """The limits in force: of the innermost `raised`, else of the environment variable, else the defaults."""
    return _raised.get() or _of_environment(os.environ.get(ENVIRONMENT, ""))


@contextlib.contextmanager
def raised(**values):
    """A context in which limits have other values.

    Args:
        values: names of `Limits`, with positive integers.

    Yields:
        the `Limits`.

    Raises:
        ValueError: an unknown name, or a value that is not a positive integer.

    Example:

    >>> with raised(steps=500_000):
    ...     x = model.generate(1, num_steps=200_000)
    """
    token = _raised.set(dataclasses.replace(current(), **_checked(values)))
    try:
        yield _raised.get()
    finally:
        _raised.reset(token)


def check(value, name, what, error=ValueError):
    """Raises `error` if `value` is above a limit.

    Args:
        value: number.
        name: of the limit.
        what: what the number counts: "The number of steps".
        error: function from the message to the exception.

    Returns:
        `value`.
    """
    if value > getattr(current(), name):
        raise error(beyond(what, value, name))
    return value


def check_config(config, error=ValueError):
    """Raises `error` if a configuration from a file has integers above `config_number`, or sizes above `image_pixels`.

    Whatever a number means (a width, a size, a number of layers), a loop over it or a table of it then stays small.
    Seeds and the marks of shared objects may have any value.

    Args:
        config: dict, list or plain value.
        error: function from the message to the exception.
    """
    stack = [("", config)]
    while stack:
        key, value = stack.pop()
        if isinstance(value, dict):
            sized = {str(name): child for name, child in value.items() if name != _SHARED}
            stack += [(name, child) for name, child in sized.items() if "seed" not in name]
        elif isinstance(value, list | tuple):
            stack += [(key, child) for child in value]
            whole = sum(isinstance(child, int) for child in value)
            check(whole, "config_list", f"The length of {clip(key, 60)!r} in the configuration", error)
            if "shape" in key or "size" in key:
                sizes = [size for size in value if isinstance(size, int) and size > 0]
                check(prod(sizes[:8]), "image_pixels", f"The product of {clip(key, 60)!r} in the configuration", error)
        elif isinstance(value, int):
            check(abs(value), "config_number", f"The number {clip(key, 60)!r} in the configuration", error)


def beyond(what, value, name):
    """The message about a value above the limit `name`."""
    return f"{what} is above the limit {name}={getattr(current(), name)}. Received: {shown(value)}. {remedy(name)}"


def remedy(name):
    """How the limit `name` is raised, for a message."""
    return (
        f"If this is intended: `with keras_diffusion.runtime.limits.raised({name}=…)`, or the environment variable "
        f"{ENVIRONMENT}={name}=…"
    )


@functools.lru_cache(maxsize=4)
def _of_environment(text):
    values = {}
    for part in filter(None, text.replace(" ", "").split(",")):
        name, equals, number = part.partition("=")
        values[name] = int(number) if equals and number.isdecimal() and len(number) < 20 else number
    return dataclasses.replace(Limits(), **_checked(values))


def _checked(values):
    for name, value in values.items():
        if name not in NAMES:
            raise ValueError(f"Unknown limit: {shown(name)}.{did_you_mean(name, NAMES)} Known: {', '.join(NAMES)}.")
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"A limit is a positive integer. Received: {name}={shown(value)}")
    return values
