"""MessagePack, read without its package: a first byte says what follows.

    00–7f  integer 0…127          80–8f  map of 0…15 pairs       90–9f  array of 0…15         a0–bf  text of 0…31 bytes
    c0     nil      c2, c3  false, true      c4–c6  bytes        c7–c9  extension            ca, cb  float32, float64
    cc–cf  unsigned integer       d0–d3  signed integer          d4–d8  extension of 1, 2, 4, 8, 16 bytes
    d9–db  text     dc, dd  array            de, df  map         e0–ff  integer −32…−1

Lengths and numbers are big-endian. Bytes and extensions are not read; only where they lie is noted.

Reference: https://github.com/msgpack/msgpack/blob/master/spec.md
"""

import struct
from typing import NamedTuple

from keras_diffusion.configs.checks import shown
from keras_diffusion.runtime import limits

_DEPTH = 64


class Blob(NamedTuple):
    """Bytes that were left in the file."""

    offset: int
    size: int


class Extension(NamedTuple):
    """A value of a type that the application defines: its number, and where its bytes lie."""

    code: int
    offset: int
    size: int


def read_msgpack(cursor):
    """Reads one value, which must be all there is.

    Args:
        cursor: `ByteCursor`.

    Returns:
        dict (keys are texts), list, str, int, float, bool, None, `Blob` or `Extension`.

    Raises:
        CheckpointError: damaged, or more values than the limit `text_values`.
    """
    value = _value(_Counted(cursor), 0)
    if cursor.left:
        raise cursor.error(f"There are {cursor.left} bytes after the end of the data.")
    return value


class _Counted:
    """A cursor that counts values: an empty list takes one byte in the file, and eighty in memory."""

    def __init__(self, cursor):
        self._cursor, self._count, self._limit = cursor, 0, limits.current().text_values
        self.take, self.skip, self.text, self.integer, self.error = (
            cursor.take,
            cursor.skip,
            cursor.text,
            cursor.integer,
            cursor.error,
        )

    position = property(lambda self: self._cursor.position)
    left = property(lambda self: self._cursor.left)

    def count(self):
        self._count += 1
        if self._count > self._limit:
            raise self.error(limits.beyond("The number of values", self._count, "text_values"))


def _value(cursor, depth):
    cursor.count()
    start, first = cursor.position, cursor.integer(1)
    if depth > _DEPTH:
        raise cursor.error("The data are nested too deeply to be those of a checkpoint.", start)
    if first <= 0x7F or first >= 0xE0:
        return first if first <= 0x7F else first - 0x100
    if first <= 0x8F:
        return _map(cursor, first & 0x0F, depth)
    if first <= 0x9F:
        return _array(cursor, first & 0x0F, depth)
    if first <= 0xBF:
        return cursor.text(first & 0x1F)
    if first in _CONSTANTS:
        return _CONSTANTS[first]
    if first in _NUMBERS:
        layout = _NUMBERS[first]
        return struct.unpack(layout, cursor.take(struct.calcsize(layout)))[0]
    if 0xC4 <= first <= 0xC6:
        size = cursor.integer(1 << first - 0xC4)
        return Blob(cursor.skip(size), size)
    if 0xC7 <= first <= 0xC9 or 0xD4 <= first <= 0xD8:
        size = cursor.integer(1 << first - 0xC7) if first <= 0xC9 else 1 << first - 0xD4
        code = cursor.integer(1, signed=True)
        return Extension(code, cursor.skip(size), size)
    if 0xD9 <= first <= 0xDB:
        return cursor.text(cursor.integer(1 << first - 0xD9))
    if 0xDC <= first <= 0xDD:
        return _array(cursor, cursor.integer(2 << first - 0xDC), depth)
    if 0xDE <= first <= 0xDF:
        return _map(cursor, cursor.integer(2 << first - 0xDE), depth)
    raise cursor.error(f"No data begin with the byte {first:#04x}.", start)


def _array(cursor, count, depth):
    _check(cursor, count)
    return [_value(cursor, depth + 1) for _ in range(count)]


def _map(cursor, count, depth):
    _check(cursor, 2 * count)
    pairs: dict = {}
    for _ in range(count):
        start, key = cursor.position, _value(cursor, depth + 1)
        if not isinstance(key, str) or key in pairs:
            raise cursor.error(f"A map's keys are texts, each once. Received: {shown(key)}.", start)
        pairs[key] = _value(cursor, depth + 1)
    return pairs


def _check(cursor, count):
    """A value takes a byte at least, so a wrong number of them is noticed before there is a list of that length."""
    if count > cursor.left:
        raise cursor.error(
            f"The file is cut off or damaged: {count} values are wanted where {cursor.left} bytes are left."
        )


_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
_NUMBERS = {
    0xCA: ">f",
    0xCB: ">d",
    0xCC: ">B",
    0xCD: ">H",
    0xCE: ">I",
    0xCF: ">Q",
    0xD0: ">b",
    0xD1: ">h",
    0xD2: ">i",
    0xD3: ">q",
}
