"""Pickle, read without running anything: a machine for its instructions that knows only plain values.

A pickle is a program for a stack machine. Numbers, texts, lists and dicts are made by instructions of their own.
Everything else is a call: "take the function of this name, and these arguments". Python's unpickler imports the name
and calls it, which may be any function there is, and so opening a file can do anything. This machine imports nothing. A
name is looked up in a table of what a checkpoint may hold, such as "a tensor of this storage and shape", and a name
that is not in the table ends the reading.

    instruction      stack                          here
    c, 93            name, or module, name  →  x    what `lookup(module, name)` says
    R, 81, 92        x, arguments  →  value         `x.make(*arguments)` if x is a `Maker`
    b                value, state  →  value         an `Instance` notes its state; for others the state is left out
    Q                id  →  value                   `persistent(id)`

Reference: CPython, Lib/pickletools.py, which describes every instruction.
"""

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from keras_diffusion.containers.errors import CheckpointError
from keras_diffusion.containers.msgpack import Blob
from keras_diffusion.runtime import limits

_LONGEST_INTEGER = 16
_LONGEST_NAME = 256


class Maker(NamedTuple):
    """A function or class that the file may name: what is done in its place with the arguments, which are
    plain values.
    """

    name: str
    make: Callable


class Instance:
    """An object that the file describes: the name of its class, the arguments, and its state. It is data."""

    def __init__(self, name, *arguments):
        self.name, self.arguments, self.state = name, arguments, None


def run_pickle(cursor, lookup, persistent=None):
    """Reads one pickle; the cursor stands behind it then.

    Args:
        cursor: `ByteCursor`.
        lookup: function (module, name) → `Maker`, another value, or None if the file must not name this.
        persistent: function from the id of an object that lies outside of the pickle to its value, or None (default).

    Returns:
        (value, number of instructions). A value is None, bool, int, float, str, `Blob`, list (also for sets), tuple,
        dict (keys are None, numbers or texts), `Instance`, or what the functions gave. Values may stand in it more than
        once, and in themselves: who walks through it has to count.

    Raises:
        CheckpointError: damaged, it names what `lookup` does not know, or it has more instructions than
            `pickle_instructions`.
    """
    return _Machine(cursor, lookup, persistent).run()


class _Machine:
    def __init__(self, cursor, lookup, persistent):
        self.cursor, self.lookup, self.persistent = cursor, lookup, persistent
        self.stack: list[Any] = []
        self.marks: list[list] = []
        self.memo: dict[int, Any] = {}
        self.limits, self.cost, self.length = limits.current(), 0, 0

    def run(self):
        count = 0
        while True:
            start = self.cursor.position
            code = self.cursor.integer(1)
            count += 1
            self.spend(1)
            if code == _STOP:
                if len(self.stack) != 1 or self.marks:
                    raise self.cursor.error("The pickle ends with values left over: it is damaged.", start)
                return self.stack[0], count
            if code not in _INSTRUCTIONS:
                raise self.cursor.error(f"The pickle's instruction {code:#04x} is none that checkpoints have.", start)
            try:
                _INSTRUCTIONS[code](self)
            # What the stack holds is not what the instruction takes.
            except (IndexError, KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
                if isinstance(error, CheckpointError):
                    raise
                raise self.cursor.error(
                    f"The pickle is damaged: {type(error).__name__} at the instruction {code:#04x}.", start
                ) from error

    def spend(self, cost):
        """Counts instructions, and what they copy: a call may copy a list of any length again and again."""
        self.cost += cost
        if self.cost > self.limits.pickle_instructions:
            raise self.cursor.error(
                limits.beyond("The number of instructions of the pickle", self.cost, "pickle_instructions")
            )

    # Numbers, texts and bytes

    def text(self, width, encoding="utf-8"):
        size = self.number(width)
        self.length += size
        if self.length > self.limits.text_bytes:
            raise self.cursor.error(limits.beyond("The length of the texts in the pickle", self.length, "text_bytes"))
        self.push(self.cursor.text(size) if encoding == "utf-8" else self.cursor.take(size).decode(encoding))

    def push(self, value):
        self.stack.append(value)

    def number(self, size, signed=False):
        return self.cursor.integer(size, signed, "little")

    def long(self, width):
        size = self.number(width)
        if size > _LONGEST_INTEGER:
            raise ValueError("long")
        self.push(self.number(size, signed=True) if size else 0)

    def data(self, width):
        size = self.number(width)
        self.push(Blob(self.cursor.skip(size), size))

    def line(self):
        """Bytes up to the end of the line, of which the names in old pickles are made."""
        found = bytearray()
        while (byte := self.cursor.take(1)) != b"\n":
            found += byte
            if len(found) > _LONGEST_NAME:
                raise ValueError("line")
        return found.decode()

    # Lists, tuples and dicts

    def pop_mark(self):
        items, self.stack = self.stack, self.marks.pop()
        return items

    def mark(self):
        self.marks.append(self.stack)
        self.stack = []

    def take(self, count):
        if len(self.stack) < count:
            raise IndexError("stack")
        items = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return items

    def extend(self, items):
        if type(self.stack[-1]) is not list:
            raise TypeError("list")
        self.stack[-1].extend(items)

    def update(self, items):
        target = self.stack[-1]
        if type(target) is not dict or len(items) % 2 or any(type(key) not in _KEYS for key in items[::2]):
            raise TypeError("dict")
        target.update(zip(items[::2], items[1::2]))

    # Memory of values that are used again

    def get(self, key):
        self.push(self.memo[key])

    def put(self, key):
        self.memo[key] = self.stack[-1]

    # Everything else

    def name(self, module, name):
        if type(module) is not str or type(name) is not str:
            raise TypeError("name")
        value = self.lookup(module, name)
        if value is None:
            raise self.cursor.error(
                f"The file asks for {module[:80]}.{name[:80]}, which weights have no need of. It is not read: such a "
                "file can run any program. If you trust it, load it with the program that wrote it, and save the "
                "weights alone (torch.save(model.state_dict(), path), or safetensors)."
            )
        self.push(value)

    def global_name(self):
        module = self.line()
        self.name(module, self.line())

    def call(self, with_keywords=False):
        function, arguments, *keywords = self.take(3 if with_keywords else 2)
        if not isinstance(function, Maker) or type(arguments) is not tuple or any(keywords):
            raise TypeError("call")
        self.spend(len(arguments) + sum(len(item) for item in arguments if isinstance(item, list | tuple | dict)))
        self.push(function.make(*arguments))

    def build(self):
        target, state = self.take(2)
        if isinstance(target, Instance):
            target.state = state
        self.push(target)

    def outside(self):
        if self.persistent is None:
            raise TypeError("persistent id")
        self.push(self.persistent(self.stack.pop()))


_STOP = ord(".")
_KEYS = (str, int, float, bool, type(None))
_INSTRUCTIONS: dict[int, Callable[[_Machine], Any]] = {
    0x80: lambda m: m.cursor.skip(1),  # protocol
    0x95: lambda m: m.cursor.skip(8),  # length of a frame
    ord("N"): lambda m: m.push(None),
    0x88: lambda m: m.push(True),
    0x89: lambda m: m.push(False),
    ord("K"): lambda m: m.push(m.number(1)),
    ord("M"): lambda m: m.push(m.number(2)),
    ord("J"): lambda m: m.push(m.number(4, signed=True)),
    0x8A: lambda m: m.long(1),
    0x8B: lambda m: m.long(4),
    ord("G"): lambda m: m.push(struct.unpack(">d", m.cursor.take(8))[0]),
    ord("X"): lambda m: m.text(4),
    0x8C: lambda m: m.text(1),
    0x8D: lambda m: m.text(8),
    ord("T"): lambda m: m.text(4, "latin1"),  # texts of Python 2
    ord("U"): lambda m: m.text(1, "latin1"),
    ord("C"): lambda m: m.data(1),
    ord("B"): lambda m: m.data(4),
    0x8E: lambda m: m.data(8),
    0x96: lambda m: m.data(8),
    ord("("): _Machine.mark,
    ord("0"): lambda m: m.take(1),
    ord("1"): _Machine.pop_mark,
    ord("2"): lambda m: m.push(m.stack[-1]),
    ord("]"): lambda m: m.push([]),
    0x8F: lambda m: m.push([]),  # set
    ord("a"): lambda m: m.extend(m.take(1)),
    ord("e"): lambda m: m.extend(m.pop_mark()),
    0x90: lambda m: m.extend(m.pop_mark()),
    ord("l"): lambda m: m.push(m.pop_mark()),
    0x91: lambda m: m.push(m.pop_mark()),  # frozenset
    ord(")"): lambda m: m.push(()),
    ord("t"): lambda m: m.push(tuple(m.pop_mark())),
    0x85: lambda m: m.push(tuple(m.take(1))),
    0x86: lambda m: m.push(tuple(m.take(2))),
    0x87: lambda m: m.push(tuple(m.take(3))),
    ord("}"): lambda m: m.push({}),
    ord("s"): lambda m: m.update(m.take(2)),
    ord("u"): lambda m: m.update(m.pop_mark()),
    ord("h"): lambda m: m.get(m.number(1)),
    ord("j"): lambda m: m.get(m.number(4)),
    ord("q"): lambda m: m.put(m.number(1)),
    ord("r"): lambda m: m.put(m.number(4)),
    0x94: lambda m: m.put(len(m.memo)),
    ord("c"): _Machine.global_name,
    0x93: lambda m: m.name(*m.take(2)),
    ord("R"): _Machine.call,
    0x81: _Machine.call,
    0x92: lambda m: m.call(with_keywords=True),
    ord("b"): _Machine.build,
    ord("Q"): _Machine.outside,
}
