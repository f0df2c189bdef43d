"""Constructor arguments, written once: in the signature.

    class Scale(ArgumentsMixin, keras.layers.Layer):
        def __init__(self, factor, offset=0.0, **kwargs):
            super().__init__(**kwargs)

        def call(self, x):
            return self.factor * x + self.offset

    Scale(2.0)                   self.factor is 2.0, self.offset is 0.0
    Scale(2.0).get_config()      {"name": "scale", …, "factor": 2.0, "offset": 0.0}
    repr(Scale(2.0))             "Scale(2.0)"; an argument that has its default is left out

**Every parameter of a constructor is an attribute of the same name from the constructor's first line on**, as if it
began with `self.factor = factor` for each of them. A constructor assigns an attribute only to change it: to its checked
form, for example (`self.activation = get_activation(activation)`). A base class's constructor sets the attributes for
the values that it is called with.

`get_config` reads the attributes when it is called, so a value that is changed later is in the config. Tuples become
lists, NumPy values Python ones, functions their names, and objects with a config their serialized form.
"""

import functools
import inspect
import types
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_diffusion.configs.checks import parameters_of, shown
from keras_diffusion.configs.plain_classes import PACKAGE

_OF_KERAS = ("name", "trainable", "dtype")
_PLAIN = (type(None), bool, int, float, str, np.generic, np.ndarray, list, tuple, dict)


class ArgumentsMixin:
    """Makes constructor arguments attributes, and writes `get_config`, `from_config` and `__repr__` from them.

    Goes before `keras.layers.Layer` or `keras.Model` in the bases; plain classes take it as well. Three kinds of
    parameters do not become attributes: `name`, `trainable` and `dtype` of layers and models, which are Keras's; those
    whose name the class gives to a method or a property; and, in layers and models, layers, which Keras tracks in the
    order in which the constructor assigns them. `get_config` knows the last two kinds all the same.

    Attributes:
        fixed_arguments: names of arguments of the bases that a subclass fixes: they are neither in its config nor in
            its repr.
        late_arguments: names of arguments that a released class did not have at first. A config names them only where
            they differ from their default, so that the other configs stay as they were, and older versions read them.

    Example:

    >>> class Point(ArgumentsMixin):
    ...     def __init__(self, x, y=0.0): ...
    >>> point = Point(np.float32(1.0))
    >>> point, point.y, point.get_config()
    (Point(1.0), 0.0, {'x': 1.0, 'y': 0.0})
    """

    fixed_arguments: tuple[str, ...] = ()
    late_arguments: tuple[str, ...] = ()

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = _keeping_arguments(cls.__init__)

    def get_config(self):
        """A dict of the constructor's arguments, with those of the base class that Keras writes."""
        return {**getattr(super(), "get_config", dict)(), **self.arguments_config()}

    @classmethod
    def from_config(cls, config, **options):
        """The inverse of `get_config`.

        Args:
            config: dict of constructor arguments; objects among them may be serialized ones.

        Returns:
            object of this class.
        """
        own = _parameters(cls)
        config = {key: _revived(value) if key in own else value for key, value in config.items()}
        make = getattr(super(), "from_config", None)
        return cls(**config) if make is None else make(config, **options)

    def arguments_config(self):
        """The part of `get_config` that comes from the constructor's own arguments: without what Keras writes."""
        names = (n for n in _parameters(type(self)) if n not in self.late_arguments or not self._has_default(n))
        return {name: config_value(self._argument(name)) for name in names}

    def __repr__(self):
        parts = []
        for name, parameter in _parameters(type(self)).items():
            if not self._has_default(name):
                keyword = parameter.default is not parameter.empty or parameter.kind is parameter.KEYWORD_ONLY
                parts.append(f"{name}={_shown(self._argument(name))}" if keyword else _shown(self._argument(name)))
        return f"{type(self).__name__}({', '.join(parts)})"

    def _argument(self, name):
        """The attribute of an argument; where there is none, what the constructor was given, or the default."""
        default = _parameters(type(self))[name].default
        attributes = {**vars(self).get("_modules", {}), **vars(self)}  # PyTorch keeps layers within layers apart
        return attributes.get(name, getattr(vars(self).get("_arguments"), name, default))

    def _has_default(self, name):
        default, value = _parameters(type(self))[name].default, self._argument(name)
        if not isinstance(value, _PLAIN):  # what a constructor made of a name: a function of "swish"
            value = getattr(vars(self).get("_arguments"), name, value)
        return value is default or config_value(value) == config_value(default)


def config_value(value):
    """A value as a config has it: what JSON knows, wherever the value allows it."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {key: config_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [config_value(item) for item in value]
    if inspect.isfunction(value):
        return function_config(value)
    if hasattr(value, "get_config") and not isinstance(value, type):
        config = keras.saving.serialize_keras_object(value)
        config.pop("build_config", None)  # its owner builds it, so that its variables bear the same paths again
        return config
    return value


def function_config(function):
    """What a config says for an activation: a name, where it has one.

    `keras.activations.serialize` says the same, and imports TensorFlow wherever it is installed, which takes two
    seconds.
    """
    name = getattr(function, "__name__", None)
    own = keras.saving.get_registered_name(function) == f"{PACKAGE}>{name}"
    if name and (own or getattr(keras.activations, name, None) is function):
        return name
    return keras.activations.serialize(function)


@functools.cache
def _parameters(cls):
    """The arguments that the config of a class has: a dict from names to `inspect.Parameter`s."""
    without = {*cls.fixed_arguments, *(_OF_KERAS if issubclass(cls, keras.layers.Layer) else ())}
    return {name: parameter for name, parameter in parameters_of(cls).items() if name not in without}


def _keeping_arguments(init):
    """A constructor that first makes its parameters attributes."""
    signature = inspect.signature(init)
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    names = [name for name, parameter in signature.parameters.items() if parameter.kind not in variable][1:]

    @functools.wraps(init)
    def keeping(self, *args, **kwargs):
        try:
            bound = signature.bind(self, *args, **kwargs)
        except TypeError:
            return init(self, *args, **kwargs)  # says what is missing or too much
        bound.apply_defaults()
        # Not in a dict: Keras looks for weights in dicts and lists, and would save those of layers among the arguments.
        given = vars(vars(self).setdefault("_arguments", types.SimpleNamespace()))
        for name in names:
            if name in _OF_KERAS and isinstance(self, keras.layers.Layer):
                continue
            value = _plain(bound.arguments[name])
            given.setdefault(name, value)  # the outermost constructor is called first
            if not hasattr(getattr(type(self), name, None), "__get__") and not _tracked(self, value):
                vars(self)[name] = value
        return init(self, *args, **kwargs)

    # Keras asks `inspect.getfullargspec`, which does not follow `__wrapped__`.
    keeping.__signature__ = signature
    return keeping


def _tracked(owner, value):
    """Whether Keras keeps an account of `value` among the layers of `owner`."""
    return isinstance(owner, keras.layers.Layer) and isinstance(value, keras.layers.Layer)


def _plain(value):
    """Lists as tuples and scalars of NumPy as numbers of Python, so that no attribute is shared with the caller."""
    if isinstance(value, np.generic):
        return value.item()
    if type(value) in (list, tuple):
        return tuple(_plain(item) for item in value)
    if type(value) is dict:
        return {key: _plain(item) for key, item in value.items()}
    return value


def _revived(value):
    """The object of a serialized one; other values as they are."""
    if isinstance(value, dict) and isinstance(value.get("config"), dict) and "class_name" in value:
        return keras.saving.deserialize_keras_object(value)
    return value


def _shown(value):
    """A value as the call that makes the object has it."""
    if inspect.isfunction(value):
        return repr(function_config(value))
    return shown(tuple(value) if isinstance(value, (list, tuple)) else value)
