"""Objects from configs that come from files, whoever wrote them.

Keras's own `deserialize_keras_object` imports the module that a config names, and calls what it finds there. Here a
config is first gone through to its last leaf: each class and function that it names has to be on the list of
plain_classes.py or among the caller's `custom_objects`. Only then is anything made, and of a tree that is written anew:
it names classes by the homes of the list, not by what the file says, and holds no `compile_config`, with which losses
and metrics would come in.

    file ──▶ dict ── checked_config ──▶ dict of known classes ── keras ──▶ objects
                          │
                          └─ ValueError, before anything is imported or made
"""

import keras

from keras_diffusion.configs.checks import clip, shown
from keras_diffusion.configs.config_checker import ConfigChecker


def build_from_file(config, custom_objects=None, folder=None, error=ValueError):
    """Makes the object that a config from a file describes.

    Args:
        config: dict as Keras serializes objects: `{"module", "class_name", "config", "registered_name"}`. It is not
            compiled.
        custom_objects: dict from names, `"package>Class"` as registered or `"Class"`, to classes and functions that the
            file may use besides the plain ones. Default None.
        folder: the folder that the file is; paths in the config lie in it. None (default): the config may hold no
            paths.
        error: function from a message to the exception that is raised. Default: `ValueError`.

    Returns:
        the object.

    Raises:
        `error`: a class or function that is not allowed, a config that is none, or arguments that a class does not
            take.

    Example:

    >>> model = build_from_file(read_json("preset/config.json"), {"my_package>MyNetwork": MyNetwork})
    """
    config = checked_config(config, custom_objects, folder, error)
    try:
        with keras.saving.CustomObjectScope(named_objects(custom_objects)), _sharing():
            return keras.saving.deserialize_keras_object(config, safe_mode=True)
    # The classes are known, but their arguments are the file's: whatever Python or a backend says of them, the file is
    # wrong.
    except Exception as cause:
        raise error(f"What the config describes cannot be built: {_reason(cause)}") from cause


def checked_config(config, custom_objects=None, folder=None, error=ValueError):
    """What `build_from_file` makes an object of: the config, less what it must not hold; arguments and errors as there.

    Returns:
        dict, a new one.
    """
    try:
        return ConfigChecker(named_objects(custom_objects), folder).node(config, "config")
    except RecursionError as cause:
        raise error("A config is nested too deeply.") from cause
    except ValueError as cause:
        raise error(str(cause)) from cause


def check_values(values, what, custom_objects=None, error=ValueError):
    """Raises `error` where lists and dicts of `values` name a class or function that is not allowed.

    For what is no config of Keras as a whole, but is handed to constructors that take such configs: the sections of a
    run's configuration.

    Args:
        values: any value.
        what: where it comes from, for errors.
        custom_objects, error: as in `build_from_file`.
    """
    try:
        ConfigChecker(named_objects(custom_objects), None).value(values, what)
    except RecursionError as cause:
        raise error(f"{what} is nested too deeply.") from cause
    except ValueError as cause:
        raise error(str(cause)) from cause


def named_objects(custom_objects):
    """`custom_objects`, {} for None; raises a ValueError unless it is a dict from texts to classes and functions."""
    custom = {} if custom_objects is None else custom_objects
    if not isinstance(custom, dict) or not all(
        isinstance(key, str) and callable(value) for key, value in custom.items()
    ):
        raise ValueError(
            f"`custom_objects` is a dict from names to classes, {{'my_package>MyNetwork': MyNetwork}}. Received: "
            f"{shown(custom_objects)}"
        )
    return custom


def _sharing():
    """The scope in which objects that a config holds twice are made once."""
    from keras.src.saving.serialization_lib import ObjectSharingScope

    return ObjectSharingScope()


def _reason(cause):
    """The last line of what Keras says, which has its cause; it puts whole configs before it."""
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    text = lines[-1].removeprefix("Exception encountered: ") if lines else type(cause).__name__
    return clip(text, 600)
