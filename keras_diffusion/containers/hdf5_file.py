"""HDF5 as Keras writes it, read without the HDF5 library, which damaged files can crash or hang.

A file is a tree of groups and arrays; groups have attributes. An array lies in one piece at the address that its header
says, or, if it is short, within the header.

The format has no checksums, so what the file says is held against itself: no two structures overlap, and what lies
between them is zero; types are exactly those of NumPy; data have as many bytes as their shape asks for. What that
cannot notice is a changed bit inside numbers or texts; the `.sha256` beside the file can (see source_file.py).

Not supported, since Keras does not write it: links, data in other files, compressed data, and the newer structures that
h5py writes with `libver="latest"`.

Reference: HDF5 File Format Specification, version 3.0, section IV.A.2 (messages).
"""

import struct
from typing import NamedTuple

import numpy as np

from keras_diffusion.containers.container import TensorInfo, check_name
from keras_diffusion.containers.errors import CheckpointError, error_at
from keras_diffusion.containers.hdf5_datatype import count, read_dataspace, read_datatype
from keras_diffusion.containers.hdf5_structures import SIGNATURE, HDF5Structures
from keras_diffusion.runtime import limits

_DEPTH = 64
_DATASPACE, _DATATYPE, _LAYOUT, _FILTERS, _ATTRIBUTE, _SYMBOL_TABLE = 0x1, 0x3, 0x8, 0xB, 0xC, 0x11
_NEWER = {
    0x2: "links in object headers",
    0x6: "links in object headers",
    0x7: "data in other files",
    0x15: "many attributes",
}


class _Dataset(NamedTuple):
    info: TensorInfo
    address: int


def is_hdf5(path):
    """Whether the file at `path` begins like HDF5."""
    with path.open("rb") as file:
        return file.read(len(SIGNATURE)) == SIGNATURE


class HDF5File:
    """An HDF5 file of plain arrays.

    Args:
        source: `SourceFile`, or a part of one.

    Attributes:
        tensors: dict from the path of an array, without the first "/", to its `TensorInfo`.
        groups: dict from the path of a group, "" for the root, to its attributes: names and lists of texts, [] for what
            is no text.

    Raises:
        CheckpointError: damaged, or something that Keras does not write.
    """

    def __init__(self, source):
        self._source, self.path = source, source.path
        self.groups: dict[str, dict[str, list[str]]] = {}
        self._datasets: dict[str, _Dataset] = {}
        self._structures, self._size = HDF5Structures(source), source.size
        self._walk("", self._structures.root, 0)
        self._structures.check_gaps()
        self._check_alignment()
        self.tensors = {name: dataset.info for name, dataset in self._datasets.items()}

    def read(self, name):
        """Reads one of `tensors`, straight from the file into the array. bfloat16 comes as float32."""
        (shape, dtype), address = self._datasets[name]
        array = np.empty(shape, "<u2" if dtype == "bfloat16" else np.dtype(dtype).newbyteorder("<"))
        self._source.read_into(array.reshape(-1).view(np.uint8), address)
        if dtype == "bool" and array.view(np.uint8).max(initial=0) > 1:
            raise CheckpointError(f"The array {name!r} should be of 0 and 1.", self.path, address)
        # A bfloat16 is the upper half of a float32.
        return (array.astype("<u4") << 16).view("<f4") if dtype == "bfloat16" else array

    def text(self, name, group=""):
        """An attribute of a group as text, or None."""
        return next(iter(self.groups[group].get(name, [])), None)

    def names(self, name, group=""):
        """An attribute of a group as a list of texts, or None.

        Keras cuts what is above 64 KB into `name0`, `name1`, ….
        """
        attributes = self.groups[group]
        if name in attributes:
            return attributes[name]
        pieces: list[list[str]] = []
        while f"{name}{len(pieces)}" in attributes:
            pieces.append(attributes[f"{name}{len(pieces)}"])
        return [text for piece in pieces for text in piece] if pieces else None

    def _walk(self, name, address, depth):
        """Visits the object whose header is at `address`, and what is below it."""
        if depth > _DEPTH:
            raise CheckpointError("Groups are nested too deeply: the file is damaged.", self.path, address)
        check_name(name, self.path)
        error = error_at(self.path)
        limits.check(len(self.groups), "tensors", "The number of groups", error)
        limits.check(len(self._datasets), "tensors", "The number of arrays", error)
        messages = self._structures.header(address)
        attributes = dict(self._attribute(*message[1:]) for message in messages if message[0] == _ATTRIBUTE)
        kinds = {kind: (data, offset) for kind, data, offset in messages}
        for kind, what in _NEWER.items():
            if kind in kinds:
                raise CheckpointError(
                    f"{name or '/'!r} has {what}, which Keras does not write.", self.path, kinds[kind][1]
                )
        if _SYMBOL_TABLE in kinds:
            self.groups[name] = attributes
            tree, heap = self._structures.unpack("<2Q", *kinds[_SYMBOL_TABLE])
            for child, target in self._structures.members(tree, heap):
                self._walk(f"{name}/{child}".lstrip("/"), target, depth + 1)
        elif {_DATASPACE, _DATATYPE, _LAYOUT} <= set(kinds) and name:
            self._datasets[name] = self._dataset(name, kinds, attributes)
        else:
            raise CheckpointError(
                f"{name or '/'!r} is neither a group nor an array: the file is damaged.", self.path, address
            )

    def _dataset(self, name, kinds, attributes):
        data, offset = kinds[_LAYOUT]
        shape = read_dataspace(kinds[_DATASPACE][0], self.path, kinds[_DATASPACE][1])
        datatype = read_datatype(kinds[_DATATYPE][0])
        dtype = datatype.name
        if dtype == "opaque" and attributes.get("dtype") == ["bfloat16"]:
            dtype = "bfloat16"
        if dtype is None or "string" in dtype or dtype == "opaque":
            raise CheckpointError(
                f"The array {name!r} has a type that Keras does not write.", self.path, kinds[_DATATYPE][1]
            )
        if shape is None or max(shape, default=0) > self._size:
            raise CheckpointError(
                f"The array {name!r} has an impossible shape, {shape}.", self.path, kinds[_DATASPACE][1]
            )
        size = count(shape) * datatype.size
        if _FILTERS in kinds or len(data) < 2 or data[0] not in (3, 4) or data[1] > 1:
            raise CheckpointError(
                f"The array {name!r} is compressed or in pieces, which is not supported. Repack the file with "
                '"h5repack -l CONTI -f NONE".',
                self.path,
                offset,
            )
        if data[1] == 0:  # within the header
            address, stored = offset + 4, int.from_bytes(data[2:4], "little")
            if stored > len(data) - 4:
                raise CheckpointError(f"The array {name!r} is longer than the header that it is in.", self.path, offset)
        else:
            address, stored = self._structures.unpack("<2Q", data[2:], offset + 2)
        if stored != size:
            raise CheckpointError(
                f"The array {name!r} has {stored} bytes, but its shape {shape} asks for {size}.", self.path, offset
            )
        if data[1] == 1 and size:
            self._structures.claim(address, size, read=False)
        return _Dataset(TensorInfo(shape, dtype), address if size else 0)

    def _check_alignment(self):
        """Arrays follow one another, so where all have elements of 4 bytes, they begin at multiples of 4."""
        step = min(
            (2 if info.dtype == "bfloat16" else np.dtype(info.dtype).itemsize for info, _ in self._datasets.values()),
            default=1,
        )
        for name, (_, address) in self._datasets.items():
            if address % step:
                raise CheckpointError(
                    f"The array {name!r} does not begin at a multiple of {step}: its address is damaged.",
                    self.path,
                    address,
                )

    def _attribute(self, data, offset):
        version, _, name_size, type_size, space_size = self._structures.unpack("<BBHHH", data, offset)
        if version not in (1, 2, 3):
            raise CheckpointError("An attribute has an unknown version.", self.path, offset)
        position, pieces = 9 if version == 3 else 8, []
        for size in (name_size, type_size, space_size):
            pieces.append((data[position : position + size], offset + position))
            position += -(-size // 8) * 8 if version == 1 else size
        name, kind, space = pieces
        datatype, shape = read_datatype(kind[0]), read_dataspace(space[0], self.path, space[1])
        size = count(shape) * datatype.size
        if position + size > len(data) or not name[0].endswith(b"\0"):
            raise CheckpointError("An attribute is longer than its message.", self.path, offset)
        texts = self._texts(datatype, data[position : position + size], offset + position)
        return self._structures.decode(name[0].split(b"\0")[0], name[1]), texts

    def _texts(self, datatype, data, offset):
        """The texts in the data of an attribute; [] for what is no text."""
        kind, size = datatype
        pieces = [data[start : start + size] for start in range(0, len(data), size)] if size else []
        if kind == "variable string":
            pieces = [self._structures.heap_object(*struct.unpack("<IQI", piece), offset) for piece in pieces]
        elif kind != "string":
            return []
        return [self._structures.decode(piece.rstrip(b"\0"), offset) for piece in pieces]
