"""Optimizers by name, and their configs in files that every backend can read."""

import inspect

import keras

from keras_diffusion.configs.checks import shown, suggestion


def check_optimizer_name(name):
    """Raises a ValueError that lists Keras's optimizers where `name`, a text, is none of them."""
    known = [
        key.lower()
        for key, value in vars(keras.optimizers).items()
        if inspect.isclass(value) and issubclass(value, keras.optimizers.Optimizer) and key != "Optimizer"
    ]
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
