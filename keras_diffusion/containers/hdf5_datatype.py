"""Types and shapes in HDF5: two kinds of header message, read strictly.

    dataspace   version, rank, flags │ v1: 5 bytes, v2: kind │ sizes (8 bytes each), largest sizes if flags & 1
    datatype    class | version << 4, 3 bytes of class bits, size (4 bytes), properties

A number's type spells out where its sign, exponent and mantissa lie. Only the layouts that NumPy has are accepted, in
little-endian order, and compared as whole: a bit that flips in them would otherwise give other numbers from the same
bytes.

Reference: HDF5 File Format Specification, version 3.0, sections IV.A.2.b and d.
"""

import struct
from math import prod
from typing import NamedTuple

from keras_diffusion.containers.errors import CheckpointError

_INTEGER = struct.Struct("<BBBBIHH")
_FLOAT = struct.Struct("<BBBBIHHBBBBI")
_STRING, _VARIABLE, _OPAQUE, _ENUM = 3, 9, 5, 8
LIMIT = 32  # rank; HDF5's own limit


def _numbers():
    """From a datatype message without its version to NumPy's name of the type."""
    known = {}
    for size in (1, 2, 4, 8):
        for signed in (0, 1):
            known[_INTEGER.pack(0, 8 * signed, 0, 0, size, 0, 8 * size)] = f"{'' if signed else 'u'}int{8 * size}"
    for name, size, exponent, mantissa in (
        ("float16", 2, 5, 10),
        ("bfloat16", 2, 8, 7),
        ("float32", 4, 8, 23),
        ("float64", 8, 11, 52),
    ):
        bias = (1 << (exponent - 1)) - 1
        known[_FLOAT.pack(1, 0x20, 8 * size - 1, 0, size, 0, 8 * size, mantissa, exponent, 0, mantissa, bias)] = name
    return known


_NUMBERS = _numbers()
_BOOL = _INTEGER.pack(0, 8, 0, 0, 1, 0, 8)  # the base of h5py's enumeration of FALSE and TRUE


class Datatype(NamedTuple):
    """`name`: NumPy's, or "string", "variable string", "opaque", or None for what is not supported; `size` of an
    element in bytes.
    """

    name: str | None
    size: int


def read_datatype(message):
    """Reads a datatype message.

    Args:
        message: bytes, perhaps with padding behind.

    Returns:
        `Datatype`.
    """
    if len(message) < 8:
        return Datatype(None, 0)
    kind, size = message[0] & 15, int.from_bytes(message[4:8], "little")
    plain = bytes([kind]) + message[1:]
    for known, name in _NUMBERS.items():
        if plain[: len(known)] == known:
            return Datatype(name, size)
    if kind == _STRING:
        return Datatype("string", size)
    if kind == _VARIABLE and message[1] & 15 == 1 and size == 16:
        return Datatype("variable string", size)
    if kind == _OPAQUE and size == 2:
        return Datatype("opaque", size)
    if (
        kind == _ENUM
        and size == 1
        and message[1] == 2
        and message[8:].startswith((b"\x10", b"\x30"))
        and message[9:20] == _BOOL[1:]
    ):
        return Datatype("bool", size)
    return Datatype(None, size)


def read_dataspace(message, path, offset):
    """Reads a dataspace message.

    Args:
        message: bytes.
        path, offset: where it is, for errors.

    Returns:
        the shape, a tuple; None for the null dataspace, which holds nothing.

    Raises:
        CheckpointError: damaged.
    """
    version, rank, flags = message[:3] if len(message) >= 4 else (0, 0, 0)
    start = {1: 8, 2: 4}.get(version)
    if start is None or rank > LIMIT or flags > 1 or len(message) - start - 8 * rank * (1 + flags) not in range(8):
        raise CheckpointError(
            "A shape cannot be read: the file is damaged, or of a newer version of HDF5.", path, offset
        )
    if version == 2 and message[3] != (1 if rank else 0):
        if message[3] == 2:
            return None
        raise CheckpointError("A shape cannot be read: the file is damaged.", path, offset)
    sizes = struct.unpack_from(f"<{rank * (1 + flags)}Q", message, start)
    if sizes[rank:] and sizes[rank:] != sizes[:rank]:
        raise CheckpointError("An array that can grow is not what Keras writes: the file is damaged.", path, offset)
    return sizes[:rank]


def count(shape):
    """Number of elements of a shape, 0 for None."""
    return 0 if shape is None else prod(shape)
