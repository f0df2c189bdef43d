"""Weights of Flax in msgpack: Orbax's aggregated checkpoints, and `flax_model.msgpack`, `diffusion_flax_model.msgpack`.

The file is one map of maps; a tensor's name is the path of keys to it, "state/params/params/ConvLayer_0/conv/kernel".

    extension 1, 3      array, NumPy scalar: msgpack [shape, name of the dtype, bytes in C order, little-endian]
    arrays ≥ 1 GiB      map {"__msgpack_chunked_array__": true, "shape": {"0": …}, "chunks": {"0": array, …}}
    lists               paths go on with "0", "1", …

Plain numbers and texts become metadata, nil is left out. The format has no checksums: a changed bit inside numbers
cannot be noticed unless a `.sha256` lies beside the file (see source_file.py).

Reference: Flax, flax/serialization.py.
"""

from math import prod
from typing import NamedTuple

import numpy as np

from keras_diffusion.containers.byte_cursor import ByteCursor
from keras_diffusion.containers.container import TensorInfo, check_name, register
from keras_diffusion.containers.errors import CheckpointError
from keras_diffusion.containers.msgpack import Blob, Extension, read_msgpack
from keras_diffusion.containers.named_tensors import NamedTensors
from keras_diffusion.containers.number_formats import check_byte_count, read_numbers
from keras_diffusion.containers.orbax_folder import AGGREGATE, MANIFEST, find_item, tree_names
from keras_diffusion.containers.safetensors import is_safetensors
from keras_diffusion.containers.source_file import SourceFile

_ARRAYS = (1, 3)
_CHUNKED = "__msgpack_chunked_array__"
_PLACEHOLDER = "PLACEHOLDER://"


class _Piece(NamedTuple):
    info: TensorInfo
    data: Blob


@register
class FlaxMsgpack(NamedTensors):
    """A msgpack file of Flax.

    Args:
        path: the file; or a folder of Orbax: of a run (of which the newest step is taken), of a step, or its `default`.
    """

    kind = "Flax msgpack"

    def __init__(self, path):
        super().__init__(path)
        item = find_item(self.path)
        if item is not None:
            self.format, self.metadata = "Orbax checkpoint (msgpack)", dict(item.metadata)
        self._pieces: dict[str, list[_Piece]] = {}
        self._source = SourceFile(self.path if item is None else item.folder / AGGREGATE)
        try:
            tree = read_msgpack(ByteCursor(self._source))
            if not isinstance(tree, dict):
                raise CheckpointError("The file should be a map of names to arrays.", self._source.path, 0)
            self._walk("", tree)
            if item is None:
                self._look_beside()
            else:
                self._compare(tree_names(item.folder))
        except CheckpointError:
            self.close()
            raise

    @classmethod
    def matches(cls, path):
        item = find_item(path)
        if item is not None:
            return not (item.folder / MANIFEST).is_file()
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return _begins_like_map(file.read(64)) and not is_safetensors(path)

    def close(self):
        self._source.close()

    def _compare(self, names):
        """Orbax lists the names a second time, which shows whether any of them is damaged."""
        missing = [name for name in names or () if name not in self.tensors and name not in self.metadata]
        if missing:
            raise CheckpointError(
                f"The file lacks {len(missing)} of the tensors that `_METADATA` lists: {missing[0]}, ….",
                self._source.path,
            )

    def _walk(self, prefix, value):
        name = check_name(prefix[:-1], self.path)
        if isinstance(value, dict) and _CHUNKED in value:
            self._add_chunks(name, value)
        elif isinstance(value, dict | list):
            for key, child in value.items() if isinstance(value, dict) else enumerate(value):
                self._walk(f"{prefix}{key}/", child)
        elif isinstance(value, Extension) and value.code in _ARRAYS:
            piece = self._array(name, value)
            self._add(name, piece.info)
            self._pieces[name] = [piece]
        elif isinstance(value, str) and value.startswith(_PLACEHOLDER):
            raise CheckpointError(
                "The tensors lie in a folder each, which is not supported. "
                "Restore them with Orbax and save them again.",
                self._source.path,
            )
        elif isinstance(value, str | int | float):
            self.metadata[name] = value

    def _array(self, name, extension):
        """What an extension says of its array."""
        cursor = ByteCursor(self._source, extension.offset, extension.size)
        match read_msgpack(cursor):
            case [list(shape), str(dtype), Blob() as data] if all(type(size) is int and size >= 0 for size in shape):
                info = TensorInfo(tuple(shape), dtype)
                check_byte_count(name, info, data.size, self._source.path, extension.offset)
                return _Piece(info, data)
        raise CheckpointError(
            f"The array {name!r} should be a shape, a dtype and bytes.", self._source.path, extension.offset
        )

    def _add_chunks(self, name, value):
        shape, chunks = (_listed(value.get(key)) for key in ("shape", "chunks"))
        pieces = [self._array(name, c) for c in chunks or [] if isinstance(c, Extension) and c.code in _ARRAYS]
        whole = pieces and len(pieces) == len(chunks) and len({piece.info.dtype for piece in pieces}) == 1
        if shape is None or not whole or not all(type(size) is int and size >= 0 for size in shape):
            raise CheckpointError(f"The array {name!r}, which is stored in chunks, is damaged.", self._source.path)
        info = TensorInfo(tuple(shape), pieces[0].info.dtype)
        check_byte_count(name, info, sum(piece.data.size for piece in pieces), self._source.path, pieces[0].data.offset)
        self._add(name, info)
        self._pieces[name] = pieces

    def _read(self, name):
        arrays = [
            read_numbers(self._source, data.offset, name, info.dtype, prod(info.shape))
            for info, data in self._pieces[name]
        ]
        return (arrays[0] if len(arrays) == 1 else np.concatenate(arrays)).reshape(self.tensors[name].shape)


def _listed(value):
    """Flax stores lists as maps of "0", "1", …"""
    if isinstance(value, list):
        return value
    if not isinstance(value, dict) or set(value) != {str(i) for i in range(len(value))}:
        return None
    return [value[str(i)] for i in range(len(value))]


def _begins_like_map(head):
    """A map of at least one pair, whose first key is a text of printable characters."""
    if not head or not (0x81 <= head[0] <= 0x8F or head[0] in (0xDE, 0xDF)):
        return False
    rest = head[{0xDE: 3, 0xDF: 5}.get(head[0], 1) :]
    if not rest or not (0xA1 <= rest[0] <= 0xBF or rest[0] == 0xD9):
        return False
    size, start = (rest[0] & 0x1F, 1) if rest[0] != 0xD9 else (rest[1] if len(rest) > 1 else 0, 2)
    key = rest[start : start + size]
    return bool(key) and key.decode("utf-8", "replace").isprintable()
