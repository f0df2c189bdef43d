"""What the arguments of networks may be. One name means the same in all of them, so they are checked in one place."""

import inspect

from keras_diffusion.configs.checks import check_flag, check_known, check_number, check_whole, is_whole, shown
from keras_diffusion.core.noise import check_seed
from keras_diffusion.layers.options import check_dropout

_COUNTS = ("out_channels", "embedding_dim")
_SEQUENCES = {
    "input_shape": "`input_shape` is the shape of one sample, without the batch axis, such as (32, 32, 3)",
    "widths": "`widths` has one number of channels per level, such as (64, 128)",
}


def check_arguments(cls, args, kwargs):
    """Checks the arguments with which a network is made.

    Args:
        cls: class of the network.
        args, kwargs: the arguments of its constructor; none at all when Python makes a copy.

    Raises:
        ValueError: unknown or missing arguments, what is not a shape or a size, text or NaN where a number belongs.
    """
    parameters = dict(list(inspect.signature(cls.__init__).parameters.items())[1:])
    given = dict(zip(parameters, args, strict=False)) | kwargs
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        check_known(cls.__name__, given, tuple(parameters))
    needed = [name for name, p in parameters.items() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    missing = [name for name in needed if name not in given]
    if missing and given:
        raise ValueError(f"{cls.__name__} needs {', '.join(missing)}. Received: {', '.join(given)}")
    for name, value in given.items():
        if name in parameters:
            check_argument(cls.__name__, name, value, parameters[name].default)


def check_argument(kind, name, value, default):
    """Checks one argument of a network of the class `kind`, by its name and by its default."""
    if name in _SEQUENCES:
        # What the numbers may be is the network's own affair: multiples of a patch, halves per level.
        whole = isinstance(value, (tuple, list)) and all(
            is_whole(n) or (n is None and name == "input_shape") for n in value
        )
        if not whole:
            raise ValueError(f"{kind}: {_SEQUENCES[name]}. Received: {name}={shown(value)}")
    elif name.endswith("norm_epsilon"):
        check_number(name, value, above=0, optional=default is None)
    elif name == "dropout":
        check_dropout(value)
    elif name == "seed":
        check_seed(value)
    elif name in _COUNTS:
        check_whole(name, value, 1, rule=f"`{name}` must be an integer ≥ 1, or None", optional=True)
    elif isinstance(default, bool):
        check_flag(name, value)
    elif isinstance(default, float) and value is not None:
        check_number(name, value)
