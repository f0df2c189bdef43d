"""Floating types: scalar maths of levels and solvers never runs in half precision.

1 − t in bfloat16 is 0 for small t, and a cumulative sum over a thousand steps is worse. Schedules, predictors and
samplers therefore compute in float32 whatever the network's policy, or in float64 when `keras.config.floatx()` says so.
"""

import keras

from keras_diffusion.configs.checks import arguments_of, check_known

# What `keras.layers.Layer` takes.
_KERAS_OPTIONS = ("name", "trainable", "dtype", "autocast", "activity_regularizer")


def solver_dtype():
    """ "float64" when that is Keras's default float type, else "float32"."""
    return "float64" if keras.config.floatx() == "float64" else "float32"


def solver_layer_options(options, layer=None):
    """Constructor options of a `keras.layers.Layer` that computes levels: `dtype` as above and no autocasting.

    Args:
        options: dict of the options that remain for `keras.layers.Layer`.
        layer: the layer under construction, whose class defines the known options, or None.

    Returns:
        dict of options.

    Raises:
        ValueError: an option that neither the layer nor Keras's base class has.
    """
    if layer is not None:
        check_known(type(layer).__name__, options, _KERAS_OPTIONS, arguments_of(type(layer)))
    dtype = options.pop("dtype", None) or solver_dtype()
    return {**options, "dtype": dtype, "autocast": False}


def policy_config(policy):
    """The entry of a config for a dtype policy: its name, such as "mixed_bfloat16", unless it is a custom policy.

    `keras.dtype_policies.serialize` is longer, and imports TensorFlow if it is installed, which takes two seconds.

    Args:
        policy: a `keras.dtype_policies.DTypePolicy`.

    Returns:
        str, or a dict for a custom policy.
    """
    return policy.name if type(policy) is keras.dtype_policies.DTypePolicy else keras.dtype_policies.serialize(policy)
