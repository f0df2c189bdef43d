"""NumPy's array files, .npy and .npz, within the limits of runtime/limits.py.

A packed array may be a thousand times its file, and a header of a hundred bytes may claim any shape. So each header is
compared with the bytes that are there before an array of its size is allocated.
"""

import contextlib
import math
import zipfile
import zlib
from pathlib import Path

import numpy as np

from keras_diffusion.configs.checks import clip, shown
from keras_diffusion.runtime import limits

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENDING = ".npy"
# What zipfile and NumPy raise for damaged files; RuntimeError includes NotImplementedError and RecursionError.
_DAMAGE: tuple = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
)
_DAMAGE += (SyntaxError, TypeError, ValueError, zipfile.BadZipFile, zlib.error)


def map_array(path):
    """The array of a .npy file, memory-mapped: only what is used is read, so it may be larger than memory.

    Args:
        path: the file.

    Raises:
        ValueError: a damaged file, or an array of Python objects.
    """
    with _damage_reported(path):
        with Path(path).open("rb") as file:
            _header(file, Path(path).stat().st_size)
        return np.load(path, mmap_mode="r", allow_pickle=False)


def read_arrays(path, names=None):
    """The arrays of a .npz file.

    Args:
        path: the file.
        names: of the arrays that are wanted; others are passed over unread. None (default): all.

    Returns:
        dict from names to arrays.

    Raises:
        ValueError: a damaged file, arrays of objects, or more bytes than `packed_ratio` and `packed_bytes` allow.
    """
    path, found = Path(path), {}
    with _damage_reported(path), zipfile.ZipFile(path) as archive:
        members = [m for m in archive.infolist() if names is None or m.filename.removesuffix(_ENDING) in names]
        limits.check(len(members), "tensors", "The number of arrays")
        check_unpacked(sum(member.file_size for member in members), path.stat().st_size, "The size of all arrays")
        for member in members:
            if member.compress_type not in _METHODS:
                raise ValueError(f"NumPy does not use the compression of the member {clip(member.filename, 100)!r}")
            with archive.open(member) as file:
                shape, fortran, dtype = _header(file, member.file_size)
                flat = np.empty(math.prod(shape), dtype)
                _fill(file, flat)
                found[member.filename.removesuffix(_ENDING)] = flat.reshape(shape, order="F" if fortran else "C")
    return found


def check_unpacked(size, stored, what, error=ValueError):
    """Raises `error` if the unpacked content of a file exceeds both `packed_ratio` and `packed_bytes`.

    Args:
        size: bytes when unpacked.
        stored: bytes of the file.
        what: what the bytes are of, for the message.
        error: function from the message to the exception.
    """
    if size > max(limits.current().packed_bytes, limits.current().packed_ratio * stored):
        raise error(f"{limits.beyond(what, size, 'packed_bytes')} (or packed_ratio=…: the file has {stored} bytes)")


def _header(file, size):
    """Shape, order and dtype of the array that starts here and takes `size` bytes, header included."""
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"arrays of version {version} are not supported")
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("an array of Python objects could run any code when it is read")
    if (
        len(shape) > 32
        or any(type(n) is not int or not 0 <= n <= size for n in shape)
        or math.prod(shape) * dtype.itemsize > size
    ):
        raise ValueError(f"an array of shape {shown(shape)} does not fit in {size} bytes: the file is damaged")
    return shape, fortran, dtype


def _fill(file, array):
    view, done = memoryview(array.view(np.uint8)), 0
    while done < len(view):
        count = file.readinto(view[done : done + (1 << 20)])
        if not count:
            raise ValueError("an array is cut off")
        done += count
    file.read(1)  # reading past the end makes zipfile compare the checksum


@contextlib.contextmanager
def _damage_reported(path):
    try:
        yield
    except _DAMAGE as error:
        reason = clip(str(error), 600) or type(error).__name__
        raise ValueError(f"Cannot read the arrays in {str(path)!r}: {reason}") from error
