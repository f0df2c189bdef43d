"""Values as an error message shows them: short, whatever they are.

`repr` of what a file holds can be endless: a list that stands twice in a list that stands twice in a list …; and an integer of more
than 4,300 digits has none at all.
"""

import reprlib

_LENGTH = 200


class _Brief(reprlib.Repr):
    def __init__(self):
        super().__init__()
        self.maxlevel, self.maxdict, self.maxstring, self.maxother = 3, 6, 100, 100
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = 6

    def repr_int(self, x, level):
        return repr(x) if abs(x) < 10**30 else f"an integer of {x.bit_length()} bits"

    def repr_instance(self, x, level):
        # The `repr` of an array or a tensor is as long as its library likes; of what a file describes it is not called at all.
        return f"<{type(x).__name__}>" if type(x).__repr__ is object.__repr__ else super().repr_instance(x, level)


_BRIEF = _Brief()


def brief(value, length=_LENGTH):
    """`repr(value)`, shortened.

    Args:
        value: anything.
        length: characters at most. Default 200.

    Example:

    >>> brief([1] * 1000)
    '[1, 1, 1, 1, 1, 1, ...]'
    """
    return clip(_BRIEF.repr(value), length)


def clip(text, length=1000):
    """A text, cut in its middle where it is longer than `length`."""
    return text if len(text) <= length else f"{text[: length - length // 3 - 3]} … {text[-(length // 3) :]}"
