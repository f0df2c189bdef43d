"""Checks of arguments: whole numbers, numbers, flags, strings, one of several choices.

Each function returns the value as a plain Python type, or raises a ValueError of one form: the rule, what was received,
and what was probably meant. Values are shortened in messages, however long they are.

    `eta` must be a number ≥ 0. Received: eta='high'
    `variance` is one of 'fixed_small', 'fixed_large'. Received: variance='fixed_smal'. Did you mean 'fixed_small'?
"""

import difflib
import inspect
import math
import numbers
import os
import reprlib

import numpy as np

_LARGEST = 2**31 - 1  # of any count
_LONGEST = 600  # characters of a value in a message


def check_whole(name, value, least=None, most=None, rule=None, optional=False):
    """`value` as an int.

    Args:
        name: of the argument, for the message.
        value: an int, or an integer of NumPy or of the backend; not a bool, and not a float, even if whole.
        least, most: inclusive bounds; None for no bound, or 2³¹ − 1 above.
        rule: a sentence, without its full stop, that replaces the usual one.
        optional: whether None is allowed, and returned.

    Raises:
        ValueError: another type, or out of range.
    """
    if value is None and optional:
        return None
    number = _plain(value)
    whole = isinstance(number, numbers.Integral) and not isinstance(number, bool)
    most = _LARGEST if most is None and whole and number > _LARGEST else most
    if not (whole and _inside(number, least, most)):
        raise _error(name, value, rule, _kind("an integer", least, most, optional))
    return int(number)


def check_number(name, value, least=None, most=None, above=None, below=None, rule=None, optional=False, finite=True):
    """`value` as a float.

    Args:
        name, rule, optional: as in `check_whole`.
        value: an int, a float, or a scalar of NumPy or of the backend; not a bool, and never NaN.
        least, most: inclusive bounds.
        above, below: exclusive bounds.
        finite: whether infinity is refused.

    Raises:
        ValueError: another type, NaN, infinity, or out of range.
    """
    if value is None and optional:
        return None
    number = _plain(value)
    try:
        number = float(number) if isinstance(number, numbers.Real) and not isinstance(number, bool) else math.nan
    except OverflowError:
        number = math.nan
    within = not math.isnan(number) and not (finite and math.isinf(number)) and _inside(number, least, most)
    if not within or (above is not None and not number > above) or (below is not None and not number < below):
        kind = _kind("a finite number" if finite else "a number", least, most, optional, above, below)
        raise _error(name, value, rule, kind)
    return number


def check_numbers(optional=False, finite=True, **values):
    """`check_number` for each of some values, which are given by name; a list of floats."""
    return [check_number(name, value, optional=optional, finite=finite) for name, value in values.items()]


def check_flag(name, value, optional=False):
    """`value` as a bool; ValueError for anything but True and False, and None if it is optional."""
    if value is None and optional:
        return None
    flag = _plain(value)
    if not isinstance(flag, bool):
        raise _error(name, value, None, "True or False" + (", or None" if optional else ""))
    return flag


def check_text(name, value, optional=False):
    """`value`; ValueError unless it is a str, or None if it is optional."""
    if not isinstance(value, str) and not (optional and value is None):
        raise _error(name, value, None, "a text" + (", or None" if optional else ""))
    return value


def check_choice(name, value, known, rule=None):
    """The element of `known`, strings and numbers, that equals `value`; ValueError if there is none."""
    given = _plain(value)
    for choice in known:
        if type(choice) is type(given) and choice == given:
            return choice
    rule = rule or f"`{name}` is one of {', '.join(map(repr, known))}"
    raise ValueError(f"{rule}. Received: {name}={shown(value)}{suggestion(value, known)}")


def check_array(name, value, dtype=None, finite=True):
    """`value` as a NumPy array of numbers, by default finite ones.

    Args:
        name: of the argument, for the message.
        value: array, tensor, nested sequences of numbers, or a number.
        dtype: type of the result; None keeps the value's own.
        finite: whether NaN and infinity are refused.

    Raises:
        ValueError: not an array of numbers, rows of different lengths, NaN or infinity.
    """
    try:
        array = np.asarray(value)
        number = array.dtype.kind in "biuf" or array.dtype.name == "bfloat16"
        array = array if dtype is None or not number else array.astype(dtype)
    except Exception:  # an object's own conversion may raise anything
        number = False
    if not number:
        raise _error(name, value, None, "an array of numbers")
    if finite and array.dtype.kind == "f" and not np.all(np.isfinite(array)):
        raise ValueError(f"`{name}` must be finite. Received: {name} with NaN or infinity, of shape {array.shape}")
    return array


def check_path(name, value):
    """`value`, a non-empty str or a path; ValueError for anything else."""
    if not isinstance(value, (str, os.PathLike)) or not str(value):
        raise _error(name, value, None, "a path")
    return value


def check_known(owner, options, known, suggested=()):
    """Raises ValueError for the first of `options`, a dict, that is not `known`.

    `suggested` are further names that may have been meant.
    """
    for name in options:
        if name not in known:
            names = list(dict.fromkeys((*suggested, *known)))
            raise ValueError(
                f"{owner} has no option {shown(name)}. Its options: {', '.join(suggested or known) or 'none'}. "
                f"Received: {shown(name)}={shown(options[name])}{suggestion(name, names)}"
            )


def arguments_of(cls):
    """Names of a class's constructor arguments, a tuple, including those that it passes on to its bases."""
    return tuple(parameters_of(cls))


def parameters_of(cls):
    """`arguments_of` as a dict from names to `inspect.Parameter`s.

    An argument of several constructors has the outermost one's default.
    """
    found = {}
    for base in cls.__mro__:
        if "__init__" not in vars(base) or base.__module__.partition(".")[0] in ("keras", "builtins"):
            continue
        parameters = list(inspect.signature(base.__init__).parameters.values())[1:]
        for p in parameters:
            if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY):
                found.setdefault(p.name, p)
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return found


def is_whole(value):
    """Whether a value is an int or an integer of NumPy, but not a bool."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.bool_))


def did_you_mean(name, known):
    """`" Did you mean 'epochs'?"`, or "" if no known name is similar."""
    if not isinstance(name, str):
        return ""
    texts = {text.lower(): text for text in known if isinstance(text, str)}
    near = difflib.get_close_matches(name[:100].lower(), list(texts), n=1, cutoff=0.6)
    return f" Did you mean {texts[near[0]]!r}?" if near else ""


def suggestion(name, known):
    """`did_you_mean` after a sentence without its full stop: `". Did you mean 'epochs'?"`, or ""."""
    hint = did_you_mean(name, known)
    return f".{hint}" if hint else ""


def shown(value):
    """A value as messages show it: its shortened `repr`; the shape and type of a large array or tensor."""
    text = _SHORT.repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def clip(text, length=1000):
    """A string, cut in the middle if it is longer than `length` characters."""
    return text if len(text) <= length else f"{text[: length - length // 3 - 3]} … {text[-(length // 3) :]}"


class _Short(reprlib.Repr):
    """`reprlib.Repr` with limits that do not shorten what people type."""

    def __init__(self):
        super().__init__()
        self.maxlevel = 4
        self.maxtuple = self.maxlist = self.maxdict = self.maxset = self.maxfrozenset = 12
        self.maxstring = self.maxother = 160

    def repr1(self, x, level):
        if isinstance(x, np.generic):
            return repr(x.item())
        shape, dtype = getattr(x, "shape", None), getattr(x, "dtype", None)
        if shape is not None and dtype is not None and not isinstance(x, type):
            try:
                axes = tuple(int(n) for n in shape)
            except (TypeError, ValueError):
                return f"<{type(x).__name__}>"
            name = getattr(dtype, "name", None) or str(dtype).removeprefix("torch.")
            if isinstance(x, np.ndarray) and x.size <= 8:
                return " ".join(repr(x).split())[: self.maxother]
            return f"<{type(x).__name__} of shape {axes}, {name}>"
        return super().repr1(x, level)

    def repr_int(self, x, level):
        return repr(x) if x.bit_length() <= 256 else f"<integer of {x.bit_length()} bits>"


_SHORT = _Short()


def _error(name, value, rule, kind):
    return ValueError(f"{rule or f'`{name}` must be {kind}'}. Received: {name}={shown(value)}")


def _plain(value):
    """A scalar of NumPy or of the backend as a Python number; everything else unchanged."""
    array = hasattr(value, "shape") and hasattr(value, "dtype") and not isinstance(value, type)
    try:
        return np.asarray(value).item() if array and len(value.shape) == 0 else value
    except Exception:  # a tensor inside a program has no value; each backend raises its own error
        return value


def _inside(number, least, most):
    return (least is None or number >= least) and (most is None or number <= most)


def _kind(kind, least, most, optional, above=None, below=None):
    """For example "a finite number > 0 and ≤ 1, or None"."""
    bounds = (("≥", least), (">", above), ("≤", most), ("<", below))
    limits = " and ".join(f"{sign} {_limit(bound)}" for sign, bound in bounds if bound is not None)
    return " ".join(filter(None, (kind, limits))) + (", or None" if optional else "")


def _limit(bound):
    return f"{bound:g}" if isinstance(bound, float) else str(bound)
