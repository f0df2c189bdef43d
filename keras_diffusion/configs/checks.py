"""What an argument may be: whole numbers, numbers, flags, texts, one of several choices. Checked where it comes in.

Every function returns the value in Python's own type, or raises a ValueError of one form: the rule, what was received,
and what was probably meant. What is shown of a value is short, however long the value is.

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

_LARGEST = 2**31 - 1  # what no count in a program exceeds
_LONGEST = 600  # characters of a value in a message


def check_whole(name, value, least=None, most=None, rule=None, optional=False):
    """`value` as an int.

    Args:
        name: of the argument, for the message.
        value: what was passed: an int or an integer of NumPy or of the backend; no bool, and no float, whole or not.
        least, most: bounds, themselves allowed; None for no bound, which above is 2³¹ − 1.
        rule: a sentence, without its full stop, in place of the usual one.
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
        value: what was passed: an int, a float or a scalar of NumPy or of the backend; no bool, and never NaN.
        least, most: bounds, themselves allowed.
        above, below: bounds, themselves not allowed.
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


def check_flag(name, value, optional=False):
    """`value` as a bool; ValueError for anything but True and False, and None where it is optional."""
    if value is None and optional:
        return None
    flag = _plain(value)
    if not isinstance(flag, bool):
        raise _error(name, value, None, "True or False" + (", or None" if optional else ""))
    return flag


def check_text(name, value, optional=False):
    """`value`; ValueError unless it is a str, or None where it is optional."""
    if not isinstance(value, str) and not (optional and value is None):
        raise _error(name, value, None, "a text" + (", or None" if optional else ""))
    return value


def check_choice(name, value, known, rule=None):
    """The one of `known` that equals `value`, texts and numbers; ValueError where none does."""
    given = _plain(value)
    for choice in known:
        if type(choice) is type(given) and choice == given:
            return choice
    rule = rule or f"`{name}` is one of {', '.join(map(repr, known))}"
    raise ValueError(f"{rule}. Received: {name}={shown(value)}{suggestion(value, known)}")


def check_axes(name, value, rank=None, free=False, rule=None):
    """`value`, a sequence of integers ≥ 1, as a tuple.

    Args:
        name, rule: as in `check_whole`.
        rank: how many there must be, or None.
        free: whether an axis may be None, that is of any size.
    """
    axes = value if isinstance(value, (tuple, list)) else None
    whole = axes is not None and all((free and n is None) or (is_whole(n) and n >= 1) for n in axes)
    if not whole or (rank is not None and len(axes) != rank):
        count = "" if rank is None else f"{rank} "
        raise _error(
            name, value, rule, f"a tuple of {count}integers ≥ 1" + (", or None for an axis of any size" if free else "")
        )
    return tuple(None if n is None else int(n) for n in axes)


def check_array(name, value, dtype=None, finite=True):
    """`value` as a NumPy array of numbers, finite ones unless told otherwise.

    Args:
        name: of the argument, for the message.
        value: array, tensor, nested sequences of numbers, or a number.
        dtype: type of the result; None keeps the value's own.
        finite: whether NaN and infinity are refused.

    Raises:
        ValueError: what is no array of numbers, rows of different lengths, NaN or infinity.
    """
    try:
        array = np.asarray(value)
        number = array.dtype.kind in "biuf" or array.dtype.name == "bfloat16"
        array = array if dtype is None or not number else array.astype(dtype)
    except Exception:  # what an object's conversion may raise is its own affair
        number = False
    if not number:
        raise _error(name, value, None, "an array of numbers")
    if finite and array.dtype.kind == "f" and not np.all(np.isfinite(array)):
        raise ValueError(f"`{name}` must be finite. Received: {name} with NaN or infinity, of shape {array.shape}")
    return array


def check_path(name, value):
    """`value`, a text or a path; ValueError for anything else and for an empty text."""
    if not isinstance(value, (str, os.PathLike)) or not str(value):
        raise _error(name, value, None, "a path")
    return value


def check_known(owner, options, known, suggested=()):
    """Raises ValueError for the first of `options`, a dict, whose name is not `known`; `suggested`: further names that
    may be meant.
    """
    for name in options:
        if name not in known:
            names = list(dict.fromkeys((*suggested, *known)))
            raise ValueError(
                f"{owner} has no option {shown(name)}. Its options: {', '.join(suggested or known) or 'none'}. "
                f"Received: {shown(name)}={shown(options[name])}{suggestion(name, names)}"
            )


def arguments_of(cls):
    """Names of the arguments of a class's constructor, a tuple; those that it hands on to its bases are among them."""
    return tuple(parameters_of(cls))


def parameters_of(cls):
    """As `arguments_of`, a dict from names to `inspect.Parameter`s: an argument of several constructors has the
    outermost one's default.
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
    """Whether a value is an int or an integer of NumPy, and no bool."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.bool_))


def did_you_mean(name, known):
    """`" Did you mean 'epochs'?"`, or nothing where nothing is near."""
    if not isinstance(name, str):
        return ""
    texts = {text.lower(): text for text in known if isinstance(text, str)}
    near = difflib.get_close_matches(name[:100].lower(), list(texts), n=1, cutoff=0.6)
    return f" Did you mean {texts[near[0]]!r}?" if near else ""


def suggestion(name, known):
    """`did_you_mean` behind a sentence without its full stop: `". Did you mean 'epochs'?"`, or nothing."""
    hint = did_you_mean(name, known)
    return f".{hint}" if hint else ""


def shown(value):
    """A value as a message shows it: its `repr`, shortened; of a large array or tensor its shape and type."""
    text = _SHORT.repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def clip(text, length=1000):
    """A text, cut in its middle where it is longer than `length` characters."""
    return text if len(text) <= length else f"{text[: length - length // 3 - 3]} … {text[-(length // 3) :]}"


class _Short(reprlib.Repr):
    """`reprlib`'s, with limits that leave what people type whole."""

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
    """A scalar of NumPy or of the backend as a number of Python; everything else as it is."""
    if isinstance(value, np.generic) or (
        hasattr(value, "shape") and hasattr(value, "dtype") and not isinstance(value, type)
    ):
        try:
            return np.asarray(value).item() if len(value.shape) == 0 else value
        except Exception:  # a tensor inside a program has no value: each backend says so in its own way
            return value
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
