"""Building objects from configs in files that anyone may have written.

Keras's `deserialize_keras_object` imports the module that a config names, and calls what it finds there. Here, the
whole config is checked first: each class and function that it names must be listed in plain_classes.py or be one of the
caller's `custom_objects`. Only then are objects created, from a rewritten config: it takes the modules of classes from
that list, not from the file, and has no `compile_config`, which would bring in losses and metrics.

    file ──▶ dict ── checked_config ──▶ dict of known classes ── keras ──▶ objects
                          │
                          └─ ValueError, before anything is imported or created
"""

import contextlib

import keras
from keras.src.saving.serialization_lib import ObjectSharingScope  # objects that a config shares are created once

from keras_diffusion.configs.checks import clip, shown
from keras_diffusion.configs.config_checker import ConfigChecker


def build_from_file(config, custom_objects=None, folder=None, error=ValueError):
    """Creates the object that a config from a file describes, not compiled.

    Args:
        config: dict as Keras serializes objects: `{"module", "class_name", "config", "registered_name"}`.
        custom_objects: dict from names, `"package>Class"` as registered or `"Class"`, to classes and functions that the
            file may use besides the plain ones. Default None.
        folder: the folder of the file, which all paths in the config must stay in. None (default): no paths allowed.
        error: function from a message to the exception that is raised. Default: `ValueError`.

    Returns:
        the object.

    Raises:
        `error`: a class or function that is not allowed, an invalid config, or arguments that a class rejects.

    Example:

    >>> model = build_from_file(read_json("preset/config.json"), {"my_package>MyNetwork": MyNetwork})
    """
    config = checked_config(config, custom_objects, folder, error)
    try:
        with keras.saving.CustomObjectScope(named_objects(custom_objects)), ObjectSharingScope():
            return keras.saving.deserialize_keras_object(config, safe_mode=True)
    # The classes are known, but their arguments come from the file: any error means that the file is wrong.
    except Exception as cause:
        raise error(f"What the config describes cannot be built: {_reason(cause)}") from cause


def checked_config(config, custom_objects=None, folder=None, error=ValueError):
    """The rewritten config from which `build_from_file` creates its object; arguments and errors as there.

    Returns:
        dict, a new one.
    """
    with _errors_as(error, "A config"):
        return ConfigChecker(named_objects(custom_objects), folder).node(config, "config")


def check_values(values, what, custom_objects=None, error=ValueError):
    """Raises `error` if lists and dicts of `values` name a class or function that is not allowed.

    For values that are not a Keras config, but are passed to constructors that accept such configs: the sections of a
    run's configuration.

    Args:
        values: any value.
        what: where it comes from, for errors.
        custom_objects, error: as in `build_from_file`.
    """
    with _errors_as(error, what):
        ConfigChecker(named_objects(custom_objects), None).value(values, what)


def named_objects(custom_objects):
    """`custom_objects`, {} for None; ValueError unless it is a dict from names to classes and functions."""
    custom = {} if custom_objects is None else custom_objects
    if not isinstance(custom, dict) or not all(
        isinstance(key, str) and callable(value) for key, value in custom.items()
    ):
        raise ValueError(
            f"`custom_objects` is a dict from names to classes, {{'my_package>MyNetwork': MyNetwork}}. Received: "
            f"{shown(custom_objects)}"
        )
    return custom


@contextlib.contextmanager
def _errors_as(error, what):
    """Raises the errors of a `ConfigChecker` as `error`."""
    try:
        yield
    except RecursionError as cause:
        raise error(f"{what} is nested too deeply.") from cause
    except ValueError as cause:
        raise error(str(cause)) from cause


def _reason(cause):
    """The last line of a message of Keras, which has the cause; whole configs come before it."""
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    text = lines[-1].removeprefix("Exception encountered: ") if lines else type(cause).__name__
    return clip(text, 600)
