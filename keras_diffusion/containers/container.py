"""A container: an opened checkpoint, as named tensors in layers.

What it promises, whoever wrote the file: sizes are checked against the file before anything is allocated, checksums are
verified where the format has them, no code of the file is run, and what is damaged raises `CheckpointError` with the
file and, where known, the byte.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_diffusion.configs.checks import clip
from keras_diffusion.containers.errors import CheckpointError, error_at, only_checkpoint_errors
from keras_diffusion.runtime import limits
from keras_diffusion.runtime.documents import parse_json

CONTAINERS: list[type["Container"]] = []


class TensorInfo(NamedTuple):
    """What a tensor is like before it is read.

    Attributes:
        shape: tuple of ints.
        dtype: NumPy's name of its dtype; "bfloat16" as such.
    """

    shape: tuple[int, ...]
    dtype: str


class SavedLayer(NamedTuple):
    """A layer with weights.

    Attributes:
        name: of the layer in the file.
        class_name: of the layer, where the file says so, or None.
        weights: dict from a weight's name within the layer ("kernel", "query/kernel", "query/0") to the tensor's.
    """

    name: str
    class_name: str | None
    weights: dict[str, str]


def register(cls):
    """Class decorator: `open_container` tries `cls`."""
    CONTAINERS.append(cls)
    return cls


class Container:
    """An opened checkpoint; a context manager that closes its files.

    Subclasses fill the attributes in `__init__`, and define `matches`, `_read` and `layers`.

    Args:
        path: the file or folder.

    Attributes:
        format: the kind of file, in words.
        path: `pathlib.Path`.
        tensors: dict from names to `TensorInfo`, in the file's order.
        config: the model's config as Keras wrote it, a dict, or None. It is data: no class is made of it.
        metadata: dict of what the file says of itself (versions, dates).
        roots: the sub-models that hold layers: `("",)` for a plain model, `("network", "ema_network")` for a model of
            two.

    Raises:
        CheckpointError: the file is damaged, or holds what is not supported.
    """

    kind = ""  # what `open_container` lists as known

    def __init__(self, path):
        self.format = self.kind
        self.path = Path(path)
        self.tensors: dict[str, TensorInfo] = {}
        self.config: dict[str, Any] | None = None
        self.metadata: dict[str, Any] = {}
        self.roots: tuple[str, ...] = ("",)

    @classmethod
    def matches(cls, path):
        """Whether a file or folder looks like this kind, judged by its content.

        Args:
            path: `pathlib.Path`.

        Returns:
            bool.
        """
        raise NotImplementedError

    def read(self, name):
        """Reads one tensor, and no other.

        Args:
            name: one of `tensors`.

        Returns:
            array of the tensor's shape and dtype; bfloat16 comes as float32.

        Raises:
            CheckpointError: the tensor is damaged, is not in the file, or has values that are not finite: such weights
                are of no use, and in files without checksums they are what most damage looks like.
        """
        if name not in self.tensors:
            raise CheckpointError(f"There is no tensor {name!r}. The file has {len(self.tensors)} tensors.", self.path)
        array = self._read(name)
        if array.dtype.kind in "fc" and not np.isfinite(array).all():
            raise CheckpointError(
                f"Weights must be finite. The tensor {name!r} holds NaN or infinity: the file is damaged.", self.path
            )
        return array

    def layers(self, root=""):
        """Layers that have weights, in the order in which Keras 2 lists a model's layers.

        Args:
            root: one of `roots`.

        Returns:
            list of `SavedLayer`.

        Raises:
            CheckpointError: another root, or a file that is damaged.
        """
        raise NotImplementedError

    def config_of(self, root=""):
        """The config of a model in the file.

        Args:
            root: one of `roots`.

        Returns:
            dict `{"name", "layers": [{"class_name", "config", …}, …]}`, or None where it is not known.

        Raises:
            CheckpointError: another root, of the kinds that check it.
        """
        value: Any = self.config
        for key in (*(part for name in filter(None, root.split("/")) for part in ("config", name)), "config"):
            value = value.get(key) if isinstance(value, dict) else None
        return value if isinstance(value, dict) and isinstance(value.get("layers"), list) else None

    def close(self):
        """Closes the files; nothing can be read afterwards."""

    def _read(self, name):
        raise NotImplementedError

    def _check_counts(self):
        """Raises CheckpointError where tensors or sets of weights are more, or names longer, than the limits allow."""
        error = error_at(self.path)
        limits.check(len(self.tensors), "tensors", "The number of tensors", error)
        limits.check(len(self.roots), "files", "The number of sets of weights", error)
        for name in self.tensors:
            check_name(name, self.path)

    def _check_root(self, root):
        if root not in self.roots:
            raise CheckpointError(
                f"There is no sub-model {root!r}. Known: {', '.join(map(repr, self.roots))}.", self.path
            )

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def __repr__(self):
        return f"{type(self).__name__}({str(self.path)!r})"


def read_json(text, what, path):
    """Reads a JSON object, as data.

    Args:
        text: str or bytes.
        what: what it is, for errors.
        path: the file that it is in.

    Returns:
        dict.

    Raises:
        CheckpointError: it is no JSON, no object, an object has a key twice, or it is beyond the limits of
            runtime/limits.py.
    """
    return parse_json(text, what, error_at(path))


def check_name(name, path):
    """`name`; CheckpointError where it is longer than names of tensors are: what is put together of parts can grow with
    their square.
    """
    if len(name) > limits.current().name_length:
        limits.check(len(name), "name_length", f"The length of the name {clip(name, 60)!r}", error_at(path))
    return name


def open_container(path):
    """Opens a checkpoint, whose kind is recognized by its content.

    Args:
        path: a file, a folder (SavedModel, or with TensorFlow's file `checkpoint` in it), or the prefix of a TensorFlow
            checkpoint.

    Returns:
        `Container`. Use it in a `with` block, or `close` it.

    Raises:
        CheckpointError: an unknown kind of file, or a damaged one.
        FileNotFoundError: nothing there.

    Example:

    >>> with open_container("model.h5") as container:
    ...     print(container.format, len(container.tensors))
    """
    path = Path(path)
    with only_checkpoint_errors(path):
        for cls in CONTAINERS:
            if cls.matches(path):
                container = cls(path)
                container._check_counts()
                return container
    if not path.exists():
        raise FileNotFoundError(
            f"There is no checkpoint at {str(path)!r}: neither a file or folder, nor a file {path.name + '.index'!r}."
        )
    if path.is_dir():
        found = "a folder with " + (", ".join(sorted(p.name for p in path.iterdir())[:10]) or "nothing") + " in it"
    else:
        with path.open("rb") as file:
            found = f"{path.stat().st_size} bytes that begin with {file.read(8).hex(' ') or 'nothing'}"
    known = ", ".join(dict.fromkeys(cls.kind for cls in CONTAINERS))
    raise CheckpointError(f"Not a checkpoint of a known kind. Known: {known}. Found: {found}.", path)
