"""HDF5 files, opened with care.

HDF5 has no checksums (in the version of the format that Keras writes), and its library reports damage by exceptions of many kinds, or
not at all. So everything that Keras does not write is refused, and what the file says is held against itself:

- data sets are little-endian numbers of standard layout, in one piece, or in pieces that are compressed by gzip at most;
- each lies inside the file, has as many bytes as its shape asks for, and overlaps no other;
- there are no links to other files, no data in other files, no virtual data sets.

What this cannot notice is a changed bit inside the numbers or the names; `NAME.sha256` beside the file can.
"""

import contextlib
import itertools
from math import prod

import h5py
import numpy as np

from keras_diffusion.checkpoints.containers.container import TensorInfo
from keras_diffusion.checkpoints.errors import CheckpointError

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
_DEFLATE_RATIO = 1032  # zlib never makes less than 1/1032 of its input


def is_hdf5(path):
    """Whether the file at `path` begins like HDF5."""
    with path.open("rb") as file:
        return file.read(len(SIGNATURE)) == SIGNATURE


def is_legacy(path):
    """Whether an HDF5 file has the attributes or the group that Keras 2 writes."""
    with _guard(path, "open the file"), h5py.File(path, "r") as file:
        return "model_weights" in file or any(name in file.attrs for name in ("layer_names", "layer_names0"))


class HDF5File:
    """An HDF5 file of plain arrays.

    Args:
        file: path or file object for h5py.
        path: the file's path, for errors.
        size: length of the file in bytes.

    Attributes:
        tensors: dict from the path of a data set, without the first "/", to its `TensorInfo`.
        groups: set of paths of groups.

    Raises:
        CheckpointError: damaged, or something that Keras does not write.
    """

    def __init__(self, file, path, size):
        self.path, self._size = path, size
        self.tensors: dict[str, TensorInfo] = {}
        self.groups: set[str] = set()
        self._ranges: list[tuple[int, int, str]] = []
        with _guard(self.path, "open the file"):
            self._file = h5py.File(file, "r")
        try:
            with _guard(self.path, "list the file's content"):
                self._file.visititems(self._visit)
            self._check_overlap()
        except CheckpointError:
            self.close()
            raise

    def read(self, name):
        """Reads one data set, one of `tensors`, straight into an array."""
        shape, dtype = self.tensors[name]
        with _guard(self.path, f"read {name!r}"):
            dataset = self._file[name]
            if dtype == "bfloat16":  # the upper half of a float32
                return (np.asarray(dataset[()]).view("<u2").astype("<u4") << 16).view("<f4").reshape(shape)
            array = np.empty(shape, dataset.dtype)
            if array.size:
                dataset.read_direct(array)
            return array

    def attribute(self, name, group=""):
        """An attribute of a group, or None."""
        with _guard(self.path, f"read the attribute {name!r} of {group or '/'!r}"):
            holder = self._file[group] if group else self._file
            return holder.attrs[name] if name in holder.attrs else None

    def text(self, name, group=""):
        """An attribute as text, or None."""
        value = self.attribute(name, group)
        with _guard(self.path, f"decode the attribute {name!r}"):
            return value.decode() if isinstance(value, bytes) else None if value is None else str(value)

    def names(self, name, group=""):
        """An attribute as a list of texts, or None. Keras cuts what is above 64 KB into `name0`, `name1`, ….

        Returns:
            list of str.
        """
        value = self.attribute(name, group)
        if value is None:
            pieces = []
            while (piece := self.attribute(f"{name}{len(pieces)}", group)) is not None:
                pieces.append(piece)
            value = np.concatenate(pieces) if pieces else None
        if value is None:
            return None
        with _guard(self.path, f"decode the attribute {name!r}"):
            return [item.decode() if isinstance(item, bytes) else str(item) for item in np.atleast_1d(value).tolist()]

    def close(self):
        """Closes the file."""
        with contextlib.suppress(Exception):
            self._file.close()

    def _visit(self, name, item):
        name = name.decode(errors="replace") if isinstance(name, bytes) else name
        if isinstance(item, h5py.Group):
            self.groups.add(name)
        elif isinstance(item, h5py.Dataset):
            self.tensors[name] = self._checked(name, item)
        else:
            raise CheckpointError(f"{name!r} is neither a group nor an array, which Keras does not write.", self.path)

    def _checked(self, name, dataset):
        """The dtype and shape of a data set, after it was held against the file."""
        dtype = _dtype(dataset)
        if dtype is None:
            raise CheckpointError(f"The array {name!r} has a type that Keras does not write: {dataset.dtype}.", self.path)
        shape, identifier = dataset.shape, dataset.id
        if shape is None:
            raise CheckpointError(f"The array {name!r} has no shape.", self.path)
        size = prod(shape) * identifier.get_type().get_size()
        plist = identifier.get_create_plist()
        layout = plist.get_layout()
        if layout == h5py.h5d.CONTIGUOUS and plist.get_external_count() == 0:
            offset = identifier.get_offset()
            if size and offset is None:
                raise CheckpointError(f"The array {name!r} has no data.", self.path)
            if size:
                self._claim(name, offset, size, identifier.get_storage_size())
        elif layout == h5py.h5d.COMPACT:
            if identifier.get_storage_size() != size:
                raise CheckpointError(f"The array {name!r} has another number of bytes than its shape {shape} asks for.", self.path)
        elif layout == h5py.h5d.CHUNKED:
            self._check_chunks(name, dataset, plist, size)
        else:
            raise CheckpointError(f"The array {name!r} has its data elsewhere, which is not followed.", self.path)
        return TensorInfo(tuple(shape), dtype)

    def _check_chunks(self, name, dataset, plist, size):
        filters = [plist.get_filter(index)[0] for index in range(plist.get_nfilters())]
        if not set(filters) <= _FILTERS:
            raise CheckpointError(
                f"The array {name!r} is packed by a filter that is not supported. Repack it with gzip or none.", self.path
            )
        expected = prod(-(-length // chunk) for length, chunk in zip(dataset.shape, dataset.chunks))
        if expected > self._size or dataset.id.get_num_chunks() != expected:
            raise CheckpointError(f"Pieces of the array {name!r} are missing.", self.path)
        stored = 0
        for index in range(expected):
            chunk = dataset.id.get_chunk_info(index)
            self._claim(name, chunk.byte_offset, chunk.size, chunk.size)
            stored += chunk.size
        if size > stored * _DEFLATE_RATIO:
            raise CheckpointError(f"The array {name!r} claims {size} bytes in {stored}, more than compression can do.", self.path)

    def _claim(self, name, offset, size, stored):
        if stored != size or offset + size > self._size:
            raise CheckpointError(
                f"The array {name!r} does not fit: {size} bytes by its shape, {stored} stored, the file has {self._size}.",
                self.path,
                offset,
            )
        self._ranges.append((offset, offset + size, name))

    def _check_overlap(self):
        ranges = sorted(self._ranges)
        for (_, end, name), (start, _, other) in itertools.pairwise(ranges):
            if start < end:
                raise CheckpointError(f"The arrays {name!r} and {other!r} overlap.", self.path, start)


@contextlib.contextmanager
def _guard(path, doing):
    try:
        yield
    except CheckpointError:
        raise
    # What libhdf5 and h5py make of damage has no common type: OSError, RuntimeError, KeyError, ValueError, UnicodeError, …
    except Exception as error:
        raise CheckpointError(f"The file is cut off or damaged: cannot {doing} ({type(error).__name__}: {error}).", path) from error


def _dtype(dataset):
    """NumPy's name of the data set's type, or None where it is not exactly one that Keras writes."""
    dtype, stored = dataset.dtype, dataset.id.get_type()
    if dtype.kind == "V" and dtype.itemsize == 2 and dataset.attrs.get("dtype") in ("bfloat16", b"bfloat16"):
        return "bfloat16"
    if dtype.kind == "b":
        return "bool"
    if dtype.kind in "fiu" and dtype.itemsize <= 8 and stored == h5py.h5t.py_create(np.dtype(dtype.name).newbyteorder("<")):
        return dtype.name
    return None
