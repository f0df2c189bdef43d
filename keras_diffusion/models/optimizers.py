"""Keras's optimizers and learning-rate schedules by name, and configs of them that every backend can read."""

import inspect
import re

import keras

from keras_diffusion.configs.checks import check_number, shown, suggestion


def optimizers():
    """Keras's optimizers, a dict from names to classes."""
    base = keras.optimizers.Optimizer
    return _classes(keras.optimizers, base, "Optimizer", "LossScaleOptimizer", "TFOptimizer", "MultiOptimizer")


def learning_rate_schedules():
    """Keras's learning-rate schedules, a dict from names to classes."""
    schedules = keras.optimizers.schedules
    return _classes(schedules, schedules.LearningRateSchedule, "LearningRateSchedule")


def _classes(module, base, *without):
    found = [cls for cls in vars(module).values() if inspect.isclass(cls) and issubclass(cls, base)]
    return {snake(cls.__name__): cls for cls in found if cls.__name__ not in without}


def snake(name):
    """CosineDecayRestarts → cosine_decay_restarts; AdamW → adamw; SGD → sgd."""
    return re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", "_", name).lower()


def get_optimizer(identifier):
    """A new optimizer, or the one that is given.

    Args:
        identifier: Keras optimizer; a name, such as "adam"; or a dict `{"name": "adam", "learning_rate": 1e-4}` of a
            name and arguments.

    Raises:
        ValueError: an unknown name or argument.
    """
    if isinstance(identifier, keras.optimizers.Optimizer):
        return identifier
    options = dict(identifier) if isinstance(identifier, dict) else {"name": identifier}
    name, known = options.pop("name", None), optimizers()
    found = known.get(snake(name)) if isinstance(name, str) else None
    if found is None:
        raise ValueError(
            f"An optimizer is an object, a name, or a dict with a name: {', '.join(sorted(known))}. Received: "
            f"{shown(identifier)}{suggestion(name, known)}"
        )
    if isinstance(options.get("learning_rate"), (int, float)):
        check_number("learning_rate", options["learning_rate"], above=0)
    try:
        return found(**options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"The optimizer {name!r} cannot be made: {error}. Received: {shown(identifier)}") from error


def check_optimizer_name(name):
    """Raises a ValueError that lists Keras's optimizers where `name`, a text, is none of them."""
    known = [cls.__name__.lower() for cls in optimizers().values()]
    if isinstance(name, str) and name.lower() not in known:
        raise ValueError(
            f"`optimizer` is an object, or a name: {', '.join(sorted(known))}. Received: "
            f"optimizer={shown(name)}{suggestion(name, known)}"
        )


def portable_optimizer(config):
    """The config of an optimizer under the name that it has on every backend: Keras writes the class of one of them."""
    if not str(config.get("module", "")).startswith("keras."):
        return config
    return {**config, "module": "keras.optimizers", "registered_name": None}
