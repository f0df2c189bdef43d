"""Orbax checkpoints in TensorStore's OCDBT format: what FlaxDiff's trainer writes since 2024.

    default/_METADATA         names of the tensors
    default/manifest.ocdbt    root of a B-tree of keys and values, whose nodes have checksums
    default/**/d/             its nodes and values

    "state.params.params.dit_block_0.attention.to_q.kernel/.zarray"     key of shape, dtype and compression, in JSON
    "state.params.params.dit_block_0.attention.to_q.kernel/0.0.0"       key of a piece of its numbers

The nodes' checksums cover names and short values. A changed bit inside longer ones, which lie in files of their own,
cannot be noticed unless a `.sha256` lies beside that file (see source_file.py).

The package tensorstore reads it (`pip install "keras-diffusion[legacy]"`); neither Orbax nor Flax is needed. Names are
the same as in Orbax's msgpack files, "state/params/params/dit_block_0/attention/to_q/kernel".

References: https://google.github.io/tensorstore/kvstore/ocdbt, and zarr's specification, version 2.
"""

from math import ceil, prod
from typing import Any

import numpy as np

from keras_diffusion.containers.container import TensorInfo, read_json, register
from keras_diffusion.containers.errors import CheckpointError, error_at
from keras_diffusion.containers.named_tensors import NamedTensors, read_json_file
from keras_diffusion.containers.number_formats import check_shape
from keras_diffusion.containers.orbax_folder import MANIFEST, find_item, tree_names
from keras_diffusion.containers.source_file import SourceFile
from keras_diffusion.runtime import limits
from keras_diffusion.runtime.optional import import_optional

_ARRAY = "/.zarray"
_TIMEOUT = 600.0  # seconds that one tensor may take


@register
class OrbaxOCDBT(NamedTensors):
    """An Orbax checkpoint in OCDBT.

    Args:
        path: folder of a run (of which the newest step is taken), of a step, or its `default`.

    Raises:
        ImportError: tensorstore is not installed.
    """

    kind = "Orbax checkpoint (OCDBT)"

    def __init__(self, path):
        super().__init__(path)
        item = find_item(self.path)
        self._folder, self.metadata = item.folder, dict(item.metadata)
        self._tensorstore = import_optional("tensorstore", "legacy", "reading Orbax checkpoints in OCDBT")
        for file in self._folder.rglob("*.sha256"):
            SourceFile(file.with_suffix("")).close()
        self._base = {"driver": "ocdbt", "base": self._folder.absolute().as_uri() + "/"}
        # What all arrays may unpack to: Zstandard makes 128 KiB of 4 bytes, and pieces that are all zero are not even
        # there.
        stored = sum(file.stat().st_size for file in self._folder.rglob("*") if file.is_file())
        self._left = max(limits.current().packed_ratio * stored, limits.current().packed_bytes)
        self._store = self._attempt(lambda: self._tensorstore.KvStore.open(self._base), "The manifest cannot be read")
        self._keys = set(self._attempt(lambda: self._store.list(), "The list of keys cannot be read"))
        limits.check(len(self._keys), "text_values", "The number of keys", error_at(self._folder))
        self._missing_are_zero = self._read_details()
        names = tree_names(self._folder)
        if names is None:  # a "." within a name cannot be told from a "/"
            stored = sorted(
                key.decode("utf-8", "replace").removesuffix(_ARRAY)
                for key in self._keys
                if key.endswith(_ARRAY.encode())
            )
            names = {key.replace(".", "/"): key for key in stored}
        self._arrays: dict[str, dict[str, Any]] = {name: self._array(name, key) for name, key in names.items()}

    @classmethod
    def matches(cls, path):
        item = find_item(path)
        return item is not None and (item.folder / MANIFEST).is_file()

    def _read_details(self):
        """Notes what the writer says of itself; returns whether it left out pieces that are all zero."""
        file = self._folder / "_METADATA"
        details = read_json_file(file) if file.is_file() else {}
        if details.get("use_zarr3"):
            raise CheckpointError(
                "Arrays in zarr 3 are not supported. Restore them with Orbax and save them with use_zarr3=False.", file
            )
        if details.get("custom_metadata"):
            self.metadata["custom_metadata"] = details["custom_metadata"]
        return not details.get("store_array_data_equal_to_fill_value", False)

    def _array(self, name, key):
        """Puts an array on the list; returns its key, its pieces' shape, and where in the numbers of its keys
        they are.
        """
        if (key + _ARRAY).encode() not in self._keys:
            raise CheckpointError(f"The store has no tensor {key!r}, which `_METADATA` lists.", self._folder)
        found = self._attempt(
            lambda: self._store.read(key + _ARRAY), f"The description of {name!r} cannot be read"
        ).value
        description = read_json(found, f"description of {name!r}", self._folder)
        match description:
            case {"shape": list(shape), "chunks": list(chunks), "dtype": str(code), **others} if len(shape) == len(
                chunks
            ) and all(
                type(size) is int and size >= least for sizes, least in ((shape, 0), (chunks, 1)) for size in sizes
            ):
                check_shape(name, TensorInfo(tuple(shape), code), self._folder)
                dtype = "bfloat16" if code == "bfloat16" else _dtype_name(code)
                info = TensorInfo(tuple(shape), dtype or code)
                check_shape(name, TensorInfo(tuple(chunks), code), self._folder)
                width = 2 if dtype == "bfloat16" else np.dtype(dtype or "uint8").itemsize
                self._left -= prod(shape) * width
                # A piece at the edge is as large as the others in the file.
                if self._left < 0 or prod(chunks) * width > max(self._left, 0) + prod(shape) * width:
                    raise CheckpointError(
                        f"The tensor {name!r} claims the shape {shape} in pieces of {chunks}, which the files "
                        "can hardly hold: all arrays together are limited to packed_ratio times their files' "
                        "size (see keras_diffusion.runtime.limits).",
                        self._folder,
                    )
                self._add(name, info)
                return {"key": key, "chunks": chunks, "separator": others.get("dimension_separator") or "."}
        raise CheckpointError(f"The description of the tensor {name!r} is damaged.", self._folder)

    def _read(self, name):
        array, (shape, dtype) = self._arrays[name], self.tensors[name]
        if dtype != "bfloat16" and _dtype_name(dtype) is None:
            raise CheckpointError(
                f"The tensor {name!r} is of the unsupported {dtype}. Convert the weights to float32.", self._folder
            )
        if not self._missing_are_zero:
            self._check_pieces(name, shape, array)
        where = {"driver": "zarr", "kvstore": {**self._base, "path": array["key"] + "/"}}
        opened = self._attempt(
            lambda: self._tensorstore.open(where, read=True, open=True), f"The tensor {name!r} cannot be opened"
        )
        value = np.asarray(self._attempt(opened.read, f"The tensor {name!r} cannot be read"))
        if value.shape != shape:
            raise CheckpointError(
                f"The tensor {name!r} is of shape {value.shape}, and should be of {shape}.", self._folder
            )
        return value.astype("float32") if dtype in ("bfloat16", "float16") else value

    def _check_pieces(self, name, shape, array):
        """TensorStore takes a piece that is not there for zeros, which is right only where the writer leaves
        zeros out.
        """
        counts = [ceil(size / chunk) for size, chunk in zip(shape, array["chunks"])]
        if prod(counts) > len(self._keys):
            raise CheckpointError(
                f"The tensor {name!r} should have {prod(counts)} pieces, more than the store has.", self._folder
            )
        for place in np.ndindex(*counts) if counts else [(0,)]:
            if f"{array['key']}/{array['separator'].join(map(str, place))}".encode() not in self._keys:
                raise CheckpointError(f"A piece of the tensor {name!r} is not in the store.", self._folder)

    def _attempt(self, start, words):
        """What a future of TensorStore gives; its errors, which are of several types, become `CheckpointError`."""
        try:
            return start().result(timeout=_TIMEOUT)
        except Exception as error:
            raise CheckpointError(f"{words}: {error}.", self._folder) from error


def _dtype_name(code):
    try:
        dtype = np.dtype(code)
    except TypeError:
        return None
    return dtype.name if dtype.kind in "fiubc" else None
