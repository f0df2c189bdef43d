"""Keys by which functions are equal: the same code over equal values, or a `partial` with equal arguments.

Compiled programs are cached per function. A function created in the call, `partial(StaticThreshold, limit=1.0)` or a
lambda, is a new object each time; its key is the same.
"""

import functools
import hashlib
import types

import keras
import numpy as np
from keras import ops

_DEPTH = 8  # of nested functions


def value_key(value, depth=_DEPTH):
    """A hashable key of a value, equal for equal functions, numbers, strings, arrays and containers.

    Args:
        value: anything. A value that is not a plain value, an array, a function or an object of this library equals
            only itself.
        depth: how far to look into functions and containers.
    """
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes, np.generic)):
        return type(value), repr(value)
    if depth == 0 or isinstance(value, (type, types.ModuleType, keras.layers.Layer, keras.Variable)):
        return _Itself(value)
    inner = functools.partial(value_key, depth=depth - 1)
    if isinstance(value, (list, tuple)):
        return type(value), tuple(map(inner, value))
    if isinstance(value, (set, frozenset)):
        return type(value), frozenset(map(inner, value))
    if isinstance(value, dict):
        return dict, tuple((inner(key), inner(item)) for key, item in value.items())
    if isinstance(value, np.ndarray) or ops.is_tensor(value):
        return _array_key(value)
    if isinstance(value, functools.partial):
        keywords = tuple((name, inner(value.keywords[name])) for name in sorted(value.keywords))
        return functools.partial, inner(value.func), tuple(map(inner, value.args)), keywords
    if isinstance(value, types.MethodType):
        return types.MethodType, inner(value.__func__), inner(value.__self__)
    if isinstance(value, types.FunctionType):
        return _function_key(value, inner)
    if type(value).__module__.partition(".")[0] == "keras_diffusion" and hasattr(value, "__dict__"):
        # Without the constructor's arguments: the attributes hold what they have become.
        own = {name: item for name, item in vars(value).items() if name != "_arguments"}
        return type(value), inner(own)
    return _Itself(value)


class _Itself:
    """Wraps an object that equals only itself; keeping it prevents its `id` from being reused."""

    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return isinstance(other, _Itself) and self.value is other.value

    def __hash__(self):
        return id(self.value)


def _array_key(value):
    try:
        array = ops.convert_to_numpy(value)
        content = hashlib.sha256(np.ascontiguousarray(array).tobytes()).digest()
    except Exception:  # a tensor inside a program has no value
        return _Itself(value)
    return type(value), array.shape, str(array.dtype), content


def _function_key(function, inner):
    """The key of a function's code and of what the code sees: closure, defaults, and the globals that it names."""
    try:
        cells = tuple(inner(cell.cell_contents) for cell in function.__closure__ or ())
    except ValueError:  # a name that is not yet bound
        return _Itself(function)
    names = sorted(_names_in(function.__code__) & function.__globals__.keys())
    # Globals that are plain values count by value; everything else counts as itself.
    seen = tuple((name, value_key(function.__globals__[name], depth=1)) for name in names)
    defaults = inner(function.__defaults__), inner(function.__kwdefaults__)
    return types.FunctionType, function.__code__, cells, seen, defaults


def _names_in(code):
    """Names that code and the functions inside it refer to."""
    inside = (constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    return set(code.co_names).union(*map(_names_in, inside))
