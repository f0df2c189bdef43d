"""Formats of numbers: how many bytes each takes, and arrays of them from bytes.

    float16     sign 1, exponent 5, fraction 10
    bfloat16    sign 1, exponent 8, fraction 7: the upper half of a float32

Every value of either is a float32 too, so both are given as float32: nothing is lost, and sums of weights do not
overflow.
"""

from math import prod

import numpy as np

from keras_diffusion.configs.checks import clip, shown
from keras_diffusion.containers.errors import CheckpointError

_NUMPY = (
    *("float64", "float32", "float16", "complex64", "complex128", "bool"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
)
_SIZES = {"bfloat16": 2, **{name: np.dtype(name).itemsize for name in _NUMPY}}
_MOST, _DIMENSIONS = 1 << 48, 32
# Their size is known, so that a file which has some can be opened; they cannot be read.
_EIGHT_BITS = (
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
    "float8_e4m3",
    "float8_e3m4",
)
_SIZES |= dict.fromkeys(_EIGHT_BITS, 1)


def byte_count(info):
    """Number of bytes of a tensor, or None where its format is not known.

    Args:
        info: `TensorInfo`.
    """
    size = _SIZES.get(info.dtype)
    return None if size is None else prod(info.shape) * size


def check_shape(name, info, path, offset=None):
    """Raises `CheckpointError` for a shape that no array has, such as (2⁷⁰, 0)."""
    # The length first: the product of thousands of large integers takes minutes.
    if (
        len(info.shape) > _DIMENSIONS
        or any(size >= _MOST for size in info.shape)
        or prod(max(size, 1) for size in info.shape) >= _MOST
    ):
        raise CheckpointError(
            f"The tensor {clip(name, 100)!r} cannot have the shape {shown(info.shape)}.", path, offset
        )


def check_byte_count(name, info, size, path, offset):
    """Raises `CheckpointError` if a tensor of a known format has not as many bytes as its shape asks for."""
    check_shape(name, info, path, offset)
    if byte_count(info) not in (None, size):
        raise CheckpointError(
            f"The tensor {name!r} of shape {info.shape} and {info.dtype} has {size} bytes, not {byte_count(info)}.",
            path,
            offset,
        )


def read_numbers(source, offset, name, dtype, count, order="<"):
    """Reads numbers that lie one after the other.

    Args:
        source: `SourceFile`.
        offset: where they lie in it.
        name: whose numbers they are, for errors.
        dtype: NumPy's name of their format, or "bfloat16".
        count: how many.
        order: "<" (default) for little-endian, ">" for big-endian.

    Returns:
        array (count,); float32 for "float16" and "bfloat16".

    Raises:
        CheckpointError: they are not in the file, the format is not supported, or a bool is neither 0 nor 1.
    """
    if dtype not in _SIZES or dtype in _EIGHT_BITS:
        raise CheckpointError(
            f"The tensor {name!r} is of the unsupported {dtype}. Convert the weights to float32.", source.path, offset
        )
    source.check(offset, count * _SIZES[dtype])
    array = np.empty(count, np.dtype("uint16" if dtype == "bfloat16" else dtype).newbyteorder(order))
    source.read_into(array.view(np.uint8), offset)
    if dtype == "bool" and array.view(np.uint8).max(initial=0) > 1:
        raise CheckpointError(f"The tensor {name!r} should be of 0 and 1.", source.path, offset)
    if dtype == "bfloat16":
        return (array.astype("uint32") << 16).view("float32")
    return array.astype("float32") if dtype == "float16" else array.astype(array.dtype.newbyteorder("="), copy=False)
