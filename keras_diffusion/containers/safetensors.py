"""safetensors: names, formats and places in JSON, then the numbers.

    8 bytes       length N of the header, little-endian
    N bytes       JSON {"name": {"dtype": "F32", "shape": [3, 3], "data_offsets": [0, 36]}, …, "__metadata__": {…}}
    the rest      C order, little-endian; offsets count from here

The numbers of the tensors fill the rest without gap or overlap, which is checked. There are no checksums: a changed bit
inside numbers cannot be noticed unless a `.sha256` lies beside the file (see source_file.py).

Reference: https://huggingface.co/docs/safetensors/index, section Format.
"""

import json
from math import prod

from keras_diffusion.containers.container import TensorInfo, read_json, register
from keras_diffusion.containers.errors import CheckpointError
from keras_diffusion.containers.named_tensors import NamedTensors
from keras_diffusion.containers.number_formats import check_byte_count, read_numbers
from keras_diffusion.containers.source_file import SourceFile
from keras_diffusion.runtime.files import atomic_path

_LIMIT = 100_000_000  # of the header, which the format sets
_DTYPES = {
    **{"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "C64": "complex64", "BOOL": "bool"},
    **{
        "I64": "int64",
        "I32": "int32",
        "I16": "int16",
        "I8": "int8",
        "U64": "uint64",
        "U32": "uint32",
        "U16": "uint16",
        "U8": "uint8",
    },
    **{"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu"},
}


def is_safetensors(path):
    """Whether the file at `path` begins with a length and a "{"."""
    with path.open("rb") as file:
        head = file.read(9)
    return len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") <= _LIMIT


@register
class Safetensors(NamedTensors):
    """A `.safetensors` file.

    Args:
        path: the file. A `config.json` beside it becomes `config`.
    """

    kind = "safetensors"

    def __init__(self, path):
        super().__init__(path)
        self._source = SourceFile(self.path)
        try:
            self._look_beside()
            self._offsets = self._header()
        except CheckpointError:
            self.close()
            raise

    @classmethod
    def matches(cls, path):
        return path.is_file() and is_safetensors(path)

    def close(self):
        self._source.close()

    def _header(self):
        length = int.from_bytes(self._source.read(0, 8), "little")
        if length > _LIMIT:
            raise CheckpointError(f"The header claims {length} bytes, more than the format allows.", self.path, 0)
        header = read_json(self._source.read(8, length), "header", self.path)
        told = header.pop("__metadata__", {})
        self.metadata |= told if isinstance(told, dict) else {}
        self._data, places = 8 + length, {}
        for name, entry in header.items():
            info, places[name] = self._entry(name, entry)
            self._add(name, info)
        end = 0
        for start, stop in sorted(places.values()):
            if start != end:
                raise CheckpointError(
                    f"The tensors overlap or leave a gap at {min(start, end)}.", self.path, self._data + min(start, end)
                )
            end = stop
        if self._data + end != self._source.size:
            raise CheckpointError(
                f"The tensors end at byte {self._data + end}, the file at {self._source.size}.", self.path
            )
        return {name: self._data + start for name, (start, _) in places.items()}

    def _entry(self, name, entry):
        match entry:
            case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(start), int(stop)]} if all(
                type(size) is int and size >= 0 for size in shape
            ):
                info = TensorInfo(tuple(shape), _DTYPES.get(dtype, dtype))
                self._source.check(self._data + start, stop - start)
                check_byte_count(name, info, stop - start, self.path, self._data + start)
                return info, (start, stop)
        raise CheckpointError(
            f"The entry of the tensor {name!r} should be a dtype, a shape and two offsets.", self.path
        )

    def _read(self, name):
        shape, dtype = self.tensors[name]
        return read_numbers(self._source, self._offsets[name], name, dtype, prod(shape)).reshape(shape)


def write_safetensors(path, tensors, metadata=None):
    """Writes a `.safetensors` file, first under a temporary name.

    Args:
        path: the file; an existing one is replaced.
        tensors: dict from names to NumPy arrays.
        metadata: dict of strings for the header; default none.
    """
    names = {dtype: code for code, dtype in _DTYPES.items()}
    header, end = {"__metadata__": {"format": "pt", **(metadata or {})}}, 0
    for name, array in sorted(tensors.items()):
        header[name] = {
            "dtype": names[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [end, end + array.nbytes],
        }
        end += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # numbers begin at a multiple of 8
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, array in sorted(tensors.items()):
            file.write(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
