"""What PyTorch's pickles are made of: storages, which are runs of numbers, and tensors, which are views of them.

    tensor[i, j, …] = storage[offset + i·stride₀ + j·stride₁ + …]

The names below are all that such a file may ask for (see pickle_machine.py); each stands for a plain value.
"""

import zlib
from math import prod

import numpy as np

from keras_diffusion.containers.container import TensorInfo
from keras_diffusion.containers.errors import CheckpointError
from keras_diffusion.containers.number_formats import byte_count, check_shape, read_numbers
from keras_diffusion.containers.pickle_machine import Instance, Maker

_PIECE = 1 << 20
_RANK, _MOST = 32, 1 << 48  # more axes and larger sizes than any tensor has
_WORDS = 100
_CALLBACKS = "pytorch_lightning.callbacks."  # of which the names alone stand in a file, as keys
_STORAGES = {
    **{"FloatStorage": "float32", "DoubleStorage": "float64", "HalfStorage": "float16", "BFloat16Storage": "bfloat16"},
    **{"LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8"},
    **{"ByteStorage": "uint8", "BoolStorage": "bool"},
    **{"ComplexFloatStorage": "complex64", "ComplexDoubleStorage": "complex128"},
}
_FORMATS = {
    *("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"),
    *("int64", "int32", "int16", "int8", "uint8", "uint16", "uint32", "uint64"),
    *("bool", "complex64", "complex128"),
}


class StorageType:
    """The format of a storage's numbers; None for bytes whose format each tensor says."""

    def __init__(self, dtype):
        self.dtype = dtype


class Storage:
    """A run of numbers in a file.

    Args:
        kind: `StorageType`.
        count: how many numbers.

    The reader of the file says later where they lie: `place(source, offset, size, order, checksum)`.
    """

    def __init__(self, kind, count):
        if not isinstance(kind, StorageType) or type(count) is not int or not 0 <= count < _MOST:
            raise TypeError("storage")
        self.dtype, self.count = kind.dtype, count
        self.source, self.size, self.listed = None, 0, False

    def place(self, source, offset, order="<", size=None, checksum=None):
        """Notes where the numbers lie, of which order their bytes are, and their CRC-32 if there is one.

        Raises:
            CheckpointError: there are not as many bytes as the numbers take.
        """
        expected = self.count * (1 if self.dtype is None else byte_count(TensorInfo((), self.dtype)))
        size = expected if size is None else size
        if size != expected:
            raise CheckpointError(
                f"A storage of {self.count} {self.dtype or 'bytes'} has {size} bytes.", source.path, offset
            )
        source.check(offset, size)
        self.source, self.offset, self.order, self.size, self._checksum = source, offset, order, size, checksum

    def verify(self):
        """Compares with the checksum, once."""
        if self._checksum is None:
            return
        found = 0
        for start in range(0, self.size, _PIECE):
            found = zlib.crc32(self.source.read(self.offset + start, min(_PIECE, self.size - start)), found)
        if found != self._checksum:
            raise CheckpointError(
                "A tensor has not the checksum that is stored with it: it is damaged.", self.source.path, self.offset
            )
        self._checksum = None


class StoredTensor:
    """A view of a storage.

    Args:
        storage: `Storage`.
        offset: number in the storage that is the tensor's first.
        shape, strides: tuples of integers.
        dtype: format of the numbers, where the storage does not say.
    """

    def __init__(self, storage, offset, shape, strides, dtype=None):
        if not isinstance(storage, Storage) or len(shape) != len(strides) or len(shape) > _RANK:
            raise TypeError("tensor")
        if any(type(n) is not int or not 0 <= n < _MOST for n in (offset, *shape, *strides)):
            raise TypeError("tensor")
        self.storage, self.offset = storage, offset
        self.strides = tuple(stride if size > 1 else 0 for size, stride in zip(shape, strides))
        self.info = TensorInfo(tuple(shape), storage.dtype or dtype)
        self._width = 1 if storage.dtype else byte_count(TensorInfo((), self.info.dtype))
        # Numbers from the first to the last. A tensor that repeats numbers could claim any size.
        self._span = 0 if 0 in shape else 1 + sum((size - 1) * stride for size, stride in zip(shape, self.strides))
        if (self.offset + self._span) * self._width > storage.count or prod(shape) > max(self._span, 1):
            raise ValueError("tensor")
        check_shape("", self.info, storage.source and storage.source.path)

    @property
    def size(self):
        """Number of bytes of the tensor."""
        return byte_count(self.info) or 0

    def read(self, name):
        """The tensor as an array."""
        storage, shape = self.storage, self.info.shape
        storage.verify()
        width = byte_count(TensorInfo((), self.info.dtype))
        flat = read_numbers(
            storage.source, storage.offset + self.offset * width, name, self.info.dtype, self._span, storage.order
        )
        strides = tuple(stride * flat.itemsize for stride in self.strides)
        view = np.lib.stride_tricks.as_strided(flat, shape, strides) if self._span else flat.reshape(shape)
        return view if view.flags.c_contiguous else view.copy()


def lookup(module, name):
    """What a name in a PyTorch file stands for: a `Maker`, a value, or None if it must not be there."""
    if module == "torch" and name in _STORAGES:
        return StorageType(_STORAGES[name])
    if module == "torch" and name in _FORMATS:
        return name
    if module.startswith(_CALLBACKS):
        return name
    return _NAMES.get((module.replace("__builtin__", "builtins"), name))


def _rebuild(storage, offset, shape, strides, requires_grad=False, hooks=None, metadata=None):
    return StoredTensor(storage, offset, shape, strides)


def _rebuild_with_dtype(storage, offset, shape, strides, requires_grad, hooks, dtype, metadata=None):
    return StoredTensor(storage, offset, shape, strides, dtype)


def _dict(pairs=()):
    if any(type(key) is not str for key, _ in pairs):
        raise TypeError("dict")
    return {key: value for key, value in pairs}


def _device(*words):
    """The name of a device, "cuda:0". Texts that are put together of texts can double at every step."""
    if (
        any(type(word) not in (str, int) for word in words)
        or sum(len(word) for word in words if type(word) is str) > _WORDS
    ):
        raise TypeError("device")
    return ":".join(map(str, words))


_NAMES = {
    ("collections", "OrderedDict"): Maker("OrderedDict", _dict),
    ("builtins", "set"): Maker("set", lambda items=(): [*items]),
    ("builtins", "dict"): Maker("dict", _dict),
    ("argparse", "Namespace"): Maker("Namespace", lambda: Instance("Namespace")),
    ("torch._utils", "_rebuild_tensor"): Maker("tensor", _rebuild),
    ("torch._utils", "_rebuild_tensor_v2"): Maker("tensor", _rebuild),
    ("torch._utils", "_rebuild_tensor_v3"): Maker("tensor", _rebuild_with_dtype),
    ("torch._utils", "_rebuild_parameter"): Maker("parameter", lambda data, requires_grad, hooks: data),
    ("torch._utils", "_rebuild_parameter_with_state"): Maker(
        "parameter", lambda data, requires_grad, hooks, state: data
    ),
    ("torch", "Size"): Maker("Size", lambda items: tuple(items)),
    ("torch", "device"): Maker("device", _device),
    ("torch.storage", "UntypedStorage"): StorageType(None),
}
