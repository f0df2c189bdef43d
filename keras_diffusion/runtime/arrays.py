"""Files of NumPy's arrays, .npy and .npz, within the limits of runtime/limits.py.

What a header claims is compared with what is there before there is an array of that size: a packed array may be a
thousand times its file, and a header of a hundred bytes may claim any shape.
"""

import math
import zipfile
import zlib
from pathlib import Path

import numpy as np

from keras_diffusion.configs.checks import clip, shown
from keras_diffusion.runtime import limits

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENDING = ".npy"
# What zipfile and NumPy raise for damage.
_DAMAGE = (
    *(
        ArithmeticError,
        AssertionError,
        AttributeError,
        EOFError,
        LookupError,
        MemoryError,
        NotImplementedError,
        OSError,
        RecursionError,
    ),
    *(RuntimeError, SyntaxError, TypeError, ValueError, zipfile.BadZipFile, zlib.error),
)


def map_array(path):
    """The array of a .npy file, mapped: it is read where it is looked at, and may be larger than the memory.

    Args:
        path: the file.

    Raises:
        ValueError: damaged, or an array of Python's objects.
    """
    try:
        with Path(path).open("rb") as file:
            _header(file, Path(path).stat().st_size)
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except _DAMAGE as error:
        raise _error(path, error) from error


def read_arrays(path):
    """The arrays of a .npz file.

    Args:
        path: the file.

    Returns:
        dict from names to arrays.

    Raises:
        ValueError: damaged, arrays of objects, or more bytes than the limits `packed_ratio` and `packed_bytes` allow.
    """
    path, found = Path(path), {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            limits.check(len(members), "tensors", "The number of arrays")
            check_unpacked(sum(member.file_size for member in members), path.stat().st_size, "The size of all arrays")
            for member in members:
                if member.compress_type not in _METHODS:
                    raise ValueError(
                        f"the member {clip(member.filename, 100)!r} is packed in a way that NumPy does not use"
                    )
                with archive.open(member) as file:
                    shape, fortran, dtype = _header(file, member.file_size)
                    flat = np.empty(math.prod(shape), dtype)
                    _fill(file, flat)
                    found[member.filename.removesuffix(_ENDING)] = flat.reshape(shape, order="F" if fortran else "C")
    except _DAMAGE as error:
        raise _error(path, error) from error
    return found


def check_unpacked(size, stored, what, error=ValueError):
    """Raises `error` where a file holds, once unpacked, more than the limits `packed_ratio` and `packed_bytes` allow.

    Args:
        size: bytes when unpacked.
        stored: bytes of the file.
        what: whose bytes they are.
        error: function from the message to the exception.
    """
    if size > max(limits.current().packed_bytes, limits.current().packed_ratio * stored):
        raise error(f"{limits.beyond(what, size, 'packed_bytes')} (or packed_ratio=…: the file has {stored} bytes)")


def _header(file, size):
    """Shape, order and dtype of the array that begins here, which has `size` bytes with its header."""
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"an array of the version {version} is none of numbers")
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("an array of Python's objects can run any program when it is read")
    if (
        len(shape) > 32
        or any(type(n) is not int or not 0 <= n <= size for n in shape)
        or math.prod(shape) * dtype.itemsize > size
    ):
        raise ValueError(f"an array of the shape {shown(shape)} is not in {size} bytes: the file is cut off or damaged")
    return shape, fortran, dtype


def _fill(file, array):
    view, done = memoryview(array.view(np.uint8)), 0
    while done < len(view):
        count = file.readinto(view[done : done + (1 << 20)])
        if not count:
            raise ValueError("an array is cut off")
        done += count
    file.read(1)  # at the end the checksum is compared


def _error(path, error):
    words = clip(str(error), 600) or type(error).__name__
    return ValueError(f"Cannot read the arrays in {str(path)!r}: {words}")
