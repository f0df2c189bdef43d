"""Files of `torch.save`, of both kinds, and what lies where in them.

Since PyTorch 1.6, a zip whose members are stored as they are, each with a CRC-32:

    model/data.pkl        pickle; storages have ids ("storage", type, key, device, count)
    model/byteorder       "little" or "big"; may lack
    model/data/<key>      numbers of a storage

Before, and to this day for tensors inside other pickles, five pickles and then the numbers:

    magic number │ version │ sizes and byte order of the machine │ pickle │ list of keys
    then per key: count (8 bytes), numbers

Reference: PyTorch, torch/serialization.py.
"""

import io
import struct
import zipfile
import zlib
from typing import Any

from keras_diffusion.configs.checks import shown
from keras_diffusion.containers.byte_cursor import ByteCursor
from keras_diffusion.containers.errors import CheckpointError, error_at
from keras_diffusion.containers.pickle_machine import run_pickle
from keras_diffusion.containers.torch_values import Storage, lookup
from keras_diffusion.runtime import limits

ZIP = b"PK\x03\x04"
LEGACY = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
_PICKLE = "data.pkl"


def read_torch_file(source, lookup=lookup):
    """Reads what a file of `torch.save` holds; the numbers stay in the file.

    Args:
        source: `SourceFile`, or a part of one.
        lookup: see `run_pickle`. Default: tensors and plain values.

    Returns:
        (value, number of instructions), see `run_pickle`; tensors are `StoredTensor`.

    Raises:
        CheckpointError: damaged, or not weights alone.
    """
    head = source.read(0, min(source.size, len(LEGACY)))
    if head.startswith(ZIP):
        return _read_zip(source, lookup)
    if head == LEGACY:
        return _read_legacy(source, lookup)
    raise CheckpointError("The file does not begin like one of PyTorch.", source.path, 0)


def is_torch_zip(path):
    """Whether the file at `path` is a zip whose first member is PyTorch's pickle."""
    with path.open("rb") as file:
        head = file.read(30)
        if len(head) < 30 or head[:4] != ZIP:
            return False
        return file.read(struct.unpack_from("<H", head, 26)[0]).endswith(f"/{_PICKLE}".encode())


class _Storages(dict):
    """Storages by key, made by the ids in the pickle."""

    def of(self, identity):
        if (
            type(identity) is not tuple
            or len(identity) < 5
            or identity[0] != "storage"
            or any(item is not None for item in identity[5:])
        ):
            raise TypeError("id")
        key, kind, count = identity[2], identity[1], identity[4]
        if type(key) not in (str, int):
            raise TypeError("key")
        storage = self.setdefault(str(key), Storage(kind, count))
        if (storage.dtype, storage.count) != (kind.dtype, count):
            raise ValueError("two types")
        return storage


def _read_zip(source, lookup):
    members = _members(source)
    prefix = next(
        (name.removesuffix(_PICKLE) for name in members if name.endswith(f"/{_PICKLE}") and name.count("/") == 1), None
    )
    if prefix is None:
        raise CheckpointError(f"The archive has no member {_PICKLE!r}.", source.path)
    order = "<"
    if prefix + "byteorder" in members:
        order = {b"little": "<", b"big": ">"}.get(_whole(source, *members[prefix + "byteorder"]))
        if order is None:
            raise CheckpointError('The byte order of the archive should be "little" or "big".', source.path)
    storages = _Storages()
    start, size, checksum = members[prefix + _PICKLE]
    _whole(source, start, size, checksum)
    result = run_pickle(ByteCursor(source, start, size), lookup, storages.of)
    for key, storage in storages.items():
        if f"{prefix}data/{key}" not in members:
            raise CheckpointError(f"The archive has no storage {key!r}, which a tensor needs.", source.path)
        start, size, checksum = members[f"{prefix}data/{key}"]
        storage.place(source, start, order, size, checksum)
    return result


def _members(source):
    """Where the members of a zip lie: dict from name to (offset, size, CRC-32)."""
    members: dict[str, tuple[int, int, int]] = {}
    try:
        with zipfile.ZipFile(_Reader(source)) as archive:
            for info in archive.infolist():
                if (
                    info.compress_type != zipfile.ZIP_STORED
                    or info.compress_size != info.file_size
                    or info.filename in members
                ):
                    raise CheckpointError(
                        f"The member {info.filename!r} is compressed or there twice.", source.path, info.header_offset
                    )
                # The local header, whose two last fields are the lengths of the name and the extra field that follow.
                header = source.read(info.header_offset, 30)
                start = info.header_offset + 30 + sum(struct.unpack_from("<HH", header, 26))
                source.check(start, info.file_size)
                members[info.filename] = start, info.file_size, info.CRC
    except CheckpointError:
        raise
    # zipfile reports damage as BadZipFile, EOFError, struct.error, NotImplementedError, UnicodeDecodeError, …
    except Exception as error:
        raise CheckpointError(
            f"The archive is cut off or damaged: {type(error).__name__}: {error}.", source.path
        ) from error
    return members


def _whole(source, start, size, checksum):
    """A member, after its checksum was compared."""
    limits.check(size, "text_bytes", "The length of the pickle in the archive", error_at(source.path, start))
    data = source.read(start, size)
    if zlib.crc32(data) != checksum:
        raise CheckpointError("A member of the archive has not its checksum: it is damaged.", source.path, start)
    return data


def _read_legacy(source, lookup):
    cursor, storages = ByteCursor(source, len(LEGACY)), _Storages()
    version, system = (run_pickle(cursor, _nothing)[0] for _ in range(2))
    if version != 1001 or not isinstance(system, dict):
        raise CheckpointError(
            f"The version of the file should be 1001. Received: {shown(version)}.", source.path, len(LEGACY)
        )
    result = run_pickle(cursor, lookup, storages.of)
    keys: Any = run_pickle(cursor, _nothing)[0]
    if (
        type(keys) is not list
        or any(type(key) not in (str, int) for key in keys)
        or sorted(map(str, keys)) != sorted(storages)
    ):
        raise cursor.error("The list of storages is not that of the pickle before it: the file is damaged.")
    for key in keys:
        storage = storages[str(key)]
        if cursor.integer(8, order="little") != storage.count:
            raise cursor.error(f"The storage {key!r} should have {storage.count} numbers.")
        storage.place(source, cursor.position, "<" if system.get("little_endian", True) else ">")
        cursor.skip(storage.size)
    if cursor.left:
        raise cursor.error(f"There are {cursor.left} bytes after the end of the data.")
    return result


def _nothing(module, name):
    return None


class _Reader(io.RawIOBase):
    """A `SourceFile` as a file object, which zipfile asks for."""

    def __init__(self, source):
        self._source, self._position = source, 0

    def readable(self):
        return True

    def seekable(self):
        return True

    def seek(self, offset, whence=io.SEEK_SET):
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._source.size}[whence]
        if start + offset < 0:
            raise ValueError("seek before the begin")
        self._position = start + offset
        return self._position

    def tell(self):
        return self._position

    def readinto(self, buffer):
        size = max(0, min(len(buffer), self._source.size - self._position))
        self._source.read_into(memoryview(buffer)[:size], self._position)
        self._position += size
        return size
