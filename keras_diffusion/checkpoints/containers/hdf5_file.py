"""HDF5 as Keras writes it, read without the HDF5 library, which damaged files can crash or hold up for ever.

    superblock        signature, versions, sizes, root group
    object header     messages: shape, type, layout of the data, attributes, or the symbol table of a group
    group             B-tree "TREE" ─▶ symbol nodes "SNOD" ─▶ (name in the local heap "HEAP", object header)
    data              in one piece, at the address that the layout says; short ones within the header
    texts             strings of variable length in global heaps "GCOL"

The format has no checksums, so what the file says is held against itself: every structure has its signature, lies inside the file, and
overlaps no other; what lies between them is zero; types are exactly those of NumPy; data have as many bytes as their shape asks for.
What that cannot notice is a changed bit inside numbers or texts; the `.sha256` beside the file can (see source_file.py).

Not supported, since Keras does not write it: links, data in other files, compressed data, and the newer structures that h5py writes with
`libver="latest"`.

Reference: HDF5 File Format Specification, version 3.0.
"""

import bisect
import struct
from typing import NamedTuple

import numpy as np

from keras_diffusion.checkpoints.containers.container import TensorInfo
from keras_diffusion.checkpoints.containers.hdf5_datatype import count, read_dataspace, read_datatype
from keras_diffusion.checkpoints.errors import CheckpointError

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_DEPTH = 64
_PIECE = 1 << 20
_DATASPACE, _DATATYPE, _LAYOUT, _FILTERS, _ATTRIBUTE, _CONTINUATION, _SYMBOL_TABLE = 0x1, 0x3, 0x8, 0xB, 0xC, 0x10, 0x11
_NEWER = {0x2: "links in object headers", 0x6: "links in object headers", 0x7: "data in other files", 0x15: "many attributes"}


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
        groups: dict from the path of a group, "" for the root, to its attributes: names and lists of texts, [] for what is no text.

    Raises:
        CheckpointError: damaged, or something that Keras does not write.
    """

    def __init__(self, source):
        self._source, self.path = source, source.path
        self.groups: dict[str, dict[str, list[str]]] = {}
        self._datasets: dict[str, _Dataset] = {}
        self._claimed: list[tuple[int, int]] = []
        self._heaps: dict[int, dict[int, bytes]] = {}
        self._walk("", self._superblock(), 0)
        self._check_gaps()
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
        """An attribute of a group as a list of texts, or None. Keras cuts what is above 64 KB into `name0`, `name1`, …."""
        attributes = self.groups[group]
        if name in attributes:
            return attributes[name]
        pieces: list[list[str]] = []
        while f"{name}{len(pieces)}" in attributes:
            pieces.append(attributes[f"{name}{len(pieces)}"])
        return [text for piece in pieces for text in piece] if pieces else None

    # Structures

    def _superblock(self):
        raw = self._claim(0, 96)
        if raw[:8] != SIGNATURE:
            raise CheckpointError("The file does not begin like HDF5.", self.path, 0)
        if raw[8] != 0 or raw[13:15] != b"\x08\x08":
            raise CheckpointError(
                'Only HDF5 of the version that Keras writes is supported. Repack the file with "h5repack --low=0 --high=1".', self.path, 8
            )
        self._leaf, self._internal = struct.unpack_from("<HH", raw, 16)
        base, _, end, _ = struct.unpack_from("<4Q", raw, 24)
        if base != 0 or end != self._source.size:
            raise CheckpointError(
                f"The file is cut off or damaged: it should have {end} bytes and has {self._source.size}.", self.path, self._source.size
            )
        return struct.unpack_from("<Q", raw, 64)[0]

    def _walk(self, name, address, depth):
        """Visits the object whose header is at `address`, and what is below it."""
        if depth > _DEPTH:
            raise CheckpointError("Groups are nested too deeply: the file is damaged.", self.path, address)
        messages = self._header(address)
        attributes = dict(self._attribute(*message[1:]) for message in messages if message[0] == _ATTRIBUTE)
        kinds = {kind: (data, offset) for kind, data, offset in messages}
        for kind, what in _NEWER.items():
            if kind in kinds:
                raise CheckpointError(f"{name or '/'!r} has {what}, which Keras does not write.", self.path, kinds[kind][1])
        if _SYMBOL_TABLE in kinds:
            self.groups[name] = attributes
            tree, heap = self._unpack("<2Q", *kinds[_SYMBOL_TABLE])
            for child, target in self._members(tree, heap):
                self._walk(f"{name}/{child}".lstrip("/"), target, depth + 1)
        elif {_DATASPACE, _DATATYPE, _LAYOUT} <= set(kinds) and name:
            self._datasets[name] = self._dataset(name, kinds, attributes)
        else:
            raise CheckpointError(f"{name or '/'!r} is neither a group nor an array: the file is damaged.", self.path, address)

    def _header(self, address):
        """Messages of an object header: (kind, data, offset of the data)."""
        version, _, total, _, size = struct.unpack("<BBHII", self._source.read(address, 12))
        if version != 1:
            raise CheckpointError("An object does not begin with a header of version 1.", self.path, address)
        messages = []
        blocks = [(address, self._claim(address, 16 + size), 16)]
        for start, raw, position in blocks:
            while position + 8 <= len(raw):
                kind, length = struct.unpack_from("<HH", raw, position)
                data = raw[position + 8 : position + 8 + length]
                if len(data) < length:
                    raise CheckpointError("A message is longer than its header.", self.path, start + position)
                if kind == _CONTINUATION:
                    offset, length = self._unpack("<2Q", data, start + position + 8)
                    blocks.append((offset, self._claim(offset, length), 0))
                messages.append((kind, data, start + position + 8))
                position += 8 + len(data)
        if len(messages) != total:
            raise CheckpointError(f"A header should have {total} messages and has {len(messages)}.", self.path, address)
        return messages

    def _members(self, tree, heap):
        """Members of a group: (name, address of the object header)."""
        head = self._claim(heap, 32, b"HEAP")
        size, _, segment = struct.unpack_from("<3Q", head, 8)
        names = self._claim(segment, size)
        members = []
        for node in self._leaves(tree, None):
            raw = self._claim(node, 8 + 2 * self._leaf * 40, b"SNOD")
            used = int.from_bytes(raw[6:8], "little")
            if used > 2 * self._leaf:
                raise CheckpointError("A node of a group has more entries than fit.", self.path, node)
            for index in range(used):
                place, target, cached = struct.unpack_from("<2QI", raw, 8 + 40 * index)
                end = names.find(b"\0", place)
                if cached > 1 or end <= place:
                    raise CheckpointError("An entry of a group is a link, or has no name.", self.path, node + 8 + 40 * index)
                members.append((self._decode(names[place:end], segment + place), target))
        if [name.encode() for name, _ in members] != sorted({name.encode() for name, _ in members}):
            raise CheckpointError("The names in a group are not in order.", self.path, tree)
        return members

    def _leaves(self, address, expected):
        """Addresses of the symbol nodes below a node of a B-tree."""
        raw = self._claim(address, 24 + 8 + 2 * self._internal * 16, b"TREE")
        kind, level, used = raw[4], raw[5], int.from_bytes(raw[6:8], "little")
        if kind != 0 or used > 2 * self._internal or level != (level if expected is None else expected):
            raise CheckpointError("A node of a group's tree is damaged.", self.path, address)
        children = [struct.unpack_from("<Q", raw, 32 + 16 * index)[0] for index in range(used)]
        return children if level == 0 else [leaf for child in children for leaf in self._leaves(child, level - 1)]

    def _dataset(self, name, kinds, attributes):
        data, offset = kinds[_LAYOUT]
        shape = read_dataspace(kinds[_DATASPACE][0], self.path, kinds[_DATASPACE][1])
        datatype = read_datatype(kinds[_DATATYPE][0])
        dtype = datatype.name
        if dtype == "opaque" and attributes.get("dtype") == ["bfloat16"]:
            dtype = "bfloat16"
        if shape is None or dtype is None or "string" in dtype or dtype == "opaque":
            raise CheckpointError(f"The array {name!r} has a type that Keras does not write.", self.path, kinds[_DATATYPE][1])
        size = count(shape) * datatype.size
        if _FILTERS in kinds or len(data) < 2 or data[0] not in (3, 4) or data[1] > 1:
            raise CheckpointError(
                f'The array {name!r} is compressed or in pieces, which is not supported. Repack the file with "h5repack -l CONTI -f NONE".',
                self.path,
                offset,
            )
        if data[1] == 0:  # within the header
            address, stored = offset + 4, int.from_bytes(data[2:4], "little")
            if stored > len(data) - 4:
                raise CheckpointError(f"The array {name!r} is longer than the header that it is in.", self.path, offset)
        else:
            address, stored = self._unpack("<2Q", data[2:], offset + 2)
        if stored != size:
            raise CheckpointError(f"The array {name!r} has {stored} bytes, but its shape {shape} asks for {size}.", self.path, offset)
        if data[1] == 1 and size:
            self._claim(address, size, read=False)
        return _Dataset(TensorInfo(shape, dtype), address if size else 0)

    # Attributes

    def _attribute(self, data, offset):
        version, _, name_size, type_size, space_size = self._unpack("<BBHHH", data, offset)
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
        return self._decode(name[0].split(b"\0")[0], name[1]), texts

    def _texts(self, datatype, data, offset):
        """The texts in the data of an attribute; [] for what is no text."""
        kind, size = datatype
        pieces = [data[start : start + size] for start in range(0, len(data), size)] if size else []
        if kind == "variable string":
            pieces = [self._heap_object(*struct.unpack("<IQI", piece), offset) for piece in pieces]
        elif kind != "string":
            return []
        return [self._decode(piece.rstrip(b"\0"), offset) for piece in pieces]

    def _heap_object(self, length, address, index, offset):
        if length == 0:
            return b""
        if address not in self._heaps:
            self._heaps[address] = self._heap(address)
        found = self._heaps[address].get(index, b"")
        if len(found) < length:
            raise CheckpointError("A text is not where an attribute says.", self.path, offset)
        return found[:length]

    def _heap(self, address):
        """Objects of a global heap, by index."""
        size = self._unpack("<Q", self._source.read(address + 8, 8), address + 8)[0]
        raw, objects, position = self._claim(address, size, b"GCOL"), {}, 16
        while position + 16 <= size:
            index, _, _, length = struct.unpack_from("<HHIQ", raw, position)
            if index == 0:  # what follows is free
                break
            if length > size - position - 16 or index in objects:
                raise CheckpointError("A heap of texts is damaged.", self.path, address + position)
            objects[index] = raw[position + 16 : position + 16 + length]
            position += 16 + -(-length // 8) * 8
        return objects

    # Bytes

    def _claim(self, address, size, signature=b"", read=True):
        """Reads a structure, and notes that these bytes are its own: two structures at one place are damage, and a loop would be one."""
        self._source.check(address, size)
        index = bisect.bisect(self._claimed, (address, address + size))
        before = self._claimed[index - 1][1] if index else 0
        after = self._claimed[index][0] if index < len(self._claimed) else self._source.size
        if size and (before > address or after < address + size):
            raise CheckpointError("Two structures of the file overlap: it is damaged.", self.path, address)
        self._claimed.insert(index, (address, address + size))
        raw = self._source.read(address, size) if read else b""
        if raw[: len(signature)] != signature:
            raise CheckpointError(f"A structure {signature.decode()} is not where it should be.", self.path, address)
        return raw

    def _check_gaps(self):
        """What belongs to no structure is zero in a file as Keras writes it; otherwise something has lost its owner."""
        end = 0
        for start, stop in [*self._claimed, (self._source.size, 0)]:
            for position in range(end, start, _PIECE):
                piece = self._source.read(position, min(_PIECE, start - position))
                if rest := piece.lstrip(b"\0"):
                    raise CheckpointError(
                        "Bytes that belong to nothing are not zero: the file is damaged, or was changed after it was written. In the second "
                        'case, write it anew with "h5repack".',
                        self.path,
                        position + len(piece) - len(rest),
                    )
            end = stop

    def _unpack(self, form, data, offset):
        if len(data) < struct.calcsize(form):
            raise CheckpointError("A message is too short.", self.path, offset)
        return struct.unpack_from(form, data)

    def _decode(self, data, offset):
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise CheckpointError(f"A text is not UTF-8: the file is damaged ({error}).", self.path, offset) from error
