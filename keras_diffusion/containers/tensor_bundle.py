"""TensorBundle, TensorFlow's format of checkpoints: `<prefix>.index` and `<prefix>.data-00000-of-00001`, or more
shards.

The index is a LevelDB table. Its first key is empty, and holds a BundleHeaderProto: number of shards (1), byte order
(2: 0 is little), version (3). Every other key is a tensor's name, and holds a BundleEntryProto:

    1 dtype   2 shape {2: dim {1: size}}   3 shard   4 offset   5 size   6 masked CRC-32C
    7 slices of a partitioned variable

The data files are the tensors' bytes, one after the other. A tensor of strings is stored as lengths (varints), a
checksum of the lengths (each as 4 bytes), and the characters; the tensor's checksum goes over the lengths as 4 bytes,
that checksum, the characters.

Reference: TensorFlow, core/protobuf/tensor_bundle.proto and core/util/tensor_bundle/tensor_bundle.cc.
"""

from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_diffusion.configs.checks import shown
from keras_diffusion.containers.container import TensorInfo
from keras_diffusion.containers.crc32c import crc32c, masked
from keras_diffusion.containers.errors import CheckpointError, error_at
from keras_diffusion.containers.leveldb_table import read_table
from keras_diffusion.containers.protobuf import Message, varint
from keras_diffusion.containers.source_file import SourceFile
from keras_diffusion.runtime import limits

# DataType of TensorFlow's types.proto. Quantized and 8-bit floating-point types are not weights of these networks.
_DTYPES = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    8: "complex64",
    9: "int64",
    10: "bool",
    14: "bfloat16",
    17: "uint16",
    18: "complex128",
    19: "float16",
    22: "uint32",
    23: "uint64",
}
_STRING = 7
_RANK = 32  # more than TensorFlow allows, less than NumPy


class _Entry(NamedTuple):
    info: TensorInfo
    shard: int
    offset: int
    size: int
    checksum: int
    sliced: bool
    where: int  # of the entry in the index


class TensorBundle:
    """An opened bundle.

    Args:
        prefix: path without `.index`.

    Attributes:
        names: keys of all tensors.
        tensors: dict from key to `TensorInfo`, in the index's order; tensors of strings are not among them.

    Raises:
        CheckpointError: damaged or incomplete.
    """

    def __init__(self, prefix):
        self.prefix = Path(prefix)
        self._shards: dict[int, SourceFile] = {}
        index = SourceFile(f"{prefix}.index")
        try:
            entries = read_table(index)
        finally:
            index.close()
        self._index = index.path
        if not entries or entries[0][0] != b"":
            raise CheckpointError("The index has no header.", self._index, 0)
        header = Message(entries[0][1], self._index, entries[0][2])
        self._count = header.integer(1)
        if header.integer(2) != 0:
            raise CheckpointError("Checkpoints of big-endian machines are not supported.", self._index, entries[0][2])
        self._entries = {}
        try:
            for key, value, where in entries[1:]:
                if key[:1] == b"\0":  # a slice of a partitioned variable
                    continue
                self._entries[self._name(key, where)] = self._entry(value, where)
        except CheckpointError:
            self.close()
            raise
        self.names = frozenset(self._entries)
        self.tensors = {name: entry.info for name, entry in self._entries.items() if entry.info.dtype != "string"}

    def read(self, name):
        """Reads one tensor and verifies its checksum. bfloat16 comes as float32.

        Args:
            name: one of `tensors`.

        Raises:
            CheckpointError: the checksum differs, or a dtype or a kind of variable that is not supported.
        """
        entry = self._entries[name]
        shape, dtype = entry.info
        if entry.sliced:
            raise CheckpointError(
                f"The variable {name!r} is partitioned, which is not supported. Load it "
                "in TensorFlow and save it in one piece.",
                self._index,
                entry.where,
            )
        if dtype not in _DTYPES.values():
            raise CheckpointError(f"The tensor {name!r} is of the unsupported {dtype}.", self._index, entry.where)
        array = np.empty(shape, "<u2" if dtype == "bfloat16" else np.dtype(dtype).newbyteorder("<"))
        flat = array.reshape(-1).view(np.uint8)
        shard = self._shard(entry)
        shard.read_into(flat, entry.offset)
        if masked(crc32c(flat)) != entry.checksum:
            raise CheckpointError(
                f"The tensor {name!r} does not have the checksum that is stored with it: the file is damaged.",
                shard.path,
                entry.offset,
            )
        # A bfloat16 is the upper half of a float32.
        return (array.astype("<u4") << 16).view("<f4") if dtype == "bfloat16" else array

    def read_text(self, name):
        """Reads a scalar string, for example the object graph; None where there is none of this name.

        Returns:
            bytes.
        """
        entry = self._entries.get(name)
        if entry is None or entry.info != ((), "string"):
            return None
        shard = self._shard(entry)
        raw = shard.read(entry.offset, entry.size)
        length, position = varint(raw, 0, shard.path, entry.offset)
        width = 4 if length < 1 << 32 else 8
        if position + 4 + length != len(raw):
            raise CheckpointError(f"The string {name!r} is not as long as it says.", shard.path, entry.offset)
        checksum = raw[position : position + 4]
        lengths = crc32c(length.to_bytes(width, "little"))
        text = raw[position + 4 :]
        if (
            masked(lengths) != int.from_bytes(checksum, "little")
            or masked(crc32c(text, crc32c(checksum, lengths))) != entry.checksum
        ):
            raise CheckpointError(
                f"The string {name!r} does not have the checksum that is stored with it: the file is damaged.",
                shard.path,
                entry.offset,
            )
        return text

    def close(self):
        """Closes the shards."""
        for shard in self._shards.values():
            shard.close()

    def _name(self, key, where):
        try:
            return key.decode()
        except UnicodeDecodeError as error:
            raise CheckpointError("A name in the index is not UTF-8: it is damaged.", self._index, where) from error

    def _entry(self, value, where):
        message = Message(value, self._index, where)
        number = message.integer(1)
        dtype = "string" if number == _STRING else _DTYPES.get(number, f"TensorFlow dtype {number}")
        shape = tuple(dim.integer(1) for shape in message.messages(2) for dim in shape.messages(2))
        entry = _Entry(
            TensorInfo(shape, dtype),
            *(message.integer(field) for field in (3, 4, 5, 6)),
            sliced=7 in message,
            where=where,
        )
        if len(shape) > _RANK or max(shape, default=0) > 1 << 62:
            raise CheckpointError(f"A tensor has an impossible shape, {shown(shape)}.", self._index, where)
        if entry.sliced:
            return entry
        if entry.shard >= self._count:
            raise CheckpointError(f"An entry names shard {entry.shard} of {self._count}.", self._index, where)
        if dtype in _DTYPES.values():
            expected = prod(shape) * (2 if dtype == "bfloat16" else np.dtype(dtype).itemsize)
            if entry.size != expected:
                raise CheckpointError(
                    f"A tensor of shape {shape} and {dtype} has {entry.size} bytes, not {expected}.", self._index, where
                )
        self._shard(entry).check(entry.offset, entry.size)
        return entry

    def _shard(self, entry):
        if entry.shard not in self._shards:
            limits.check(len(self._shards) + 1, "files", "The number of shards", error_at(self._index))
            self._shards[entry.shard] = SourceFile(f"{self.prefix}.data-{entry.shard:05d}-of-{self._count:05d}")
        return self._shards[entry.shard]
