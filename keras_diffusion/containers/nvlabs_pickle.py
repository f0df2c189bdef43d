"""Pickles of NVIDIA's EDM and EDM2, `edm-cifar10-32x32-cond-vp.pkl`, read without running the source code that lies in
them.

    {"ema": <network>, "augment_pipe": …, "loss_fn": …, "dataset_kwargs": {…}}

    <network>   torch_utils.persistence._reconstruct_persistent_obj({"type": "class", "class_name": "EDMPrecond",
                                                                     "module_src": <Python source>, "state": {…}})
    state       {"_parameters": {name: tensor}, "_buffers": …, "_modules": {name: <module>}, "_init_kwargs": {…}}

`module_src` is the source of the class, which NVIDIA's reader executes. Here it is never looked at: the state alone has
all weights, and `_init_kwargs` the config. A tensor's name is the key, "/", and its name in PyTorch's `state_dict`:
"ema/model.map_layer0.weight".

Reference: https://github.com/NVlabs/edm, torch_utils/persistence.py. The weights that NVIDIA published are for
non-commercial use.
"""

import re
from math import prod

import numpy as np

from keras_diffusion.containers.byte_cursor import ByteCursor
from keras_diffusion.containers.container import check_name, register
from keras_diffusion.containers.errors import CheckpointError
from keras_diffusion.containers.named_tensors import NamedTensors
from keras_diffusion.containers.pickle_machine import Instance, Maker, run_pickle
from keras_diffusion.containers.source_file import SourceFile
from keras_diffusion.containers.torch_file import LEGACY, read_torch_file
from keras_diffusion.containers.torch_pickle import Visits, is_plain
from keras_diffusion.containers.torch_values import Storage, StorageType, StoredTensor, lookup

_ARRAY = "ndarray"
_MODULES = "torch.nn.modules."
_RANK, _MOST = 32, 1 << 48
_CODE = re.compile(r"[fiub][1-8]$")


@register
class NVlabsPickle(NamedTensors):
    """A pickle of networks of EDM or EDM2.

    `roots` are the keys of what has weights. `config_of(root)` is the network's `_init_kwargs`, with its class under
    "_class_name".

    Args:
        path: the file.

    Raises:
        CheckpointError: damaged, or it asks for anything but networks of PyTorch and plain values.
    """

    kind = "pickle of NVIDIA's networks"

    def __init__(self, path):
        super().__init__(path)
        self._tensors: dict[str, StoredTensor] = {}
        self._classes: dict[tuple[str, str], str] = {}
        self._source = SourceFile(self.path)
        try:
            cursor = ByteCursor(self._source)
            value, instructions = run_pickle(cursor, self._lookup)
            if cursor.left:
                raise cursor.error(f"There are {cursor.left} bytes after the end of the data.")
            self._visits = Visits(instructions, self.path)
            self._open(value if isinstance(value, dict) else {"model": value})
        except CheckpointError:
            self.close()
            raise

    @classmethod
    def matches(cls, path):
        if not path.is_file():
            return False
        with path.open("rb") as file:
            head = file.read(len(LEGACY))
        return head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05") and head != LEGACY

    def close(self):
        self._source.close()

    # Names that the file may ask for

    def _lookup(self, module, name):
        if module.startswith(_MODULES):
            return Maker(name, lambda *arguments: Instance(name, *arguments))
        own = {
            ("torch_utils.persistence", "_reconstruct_persistent_obj"): _persistent,
            ("torch.storage", "_load_from_bytes"): self._storage,
            ("dnnlib.util", "EasyDict"): lambda: {},
            ("numpy", "dtype"): lambda code, *others: Instance("dtype", code),
            ("numpy", "ndarray"): lambda: None,  # only named, never made
            ("numpy.core.multiarray", "_reconstruct"): lambda *arguments: Instance(_ARRAY),
            ("numpy.core.numeric", "_frombuffer"): lambda blob, dtype, shape, order: self._array(
                (1, shape, dtype, order == "F", blob)
            ),
            ("numpy.core.multiarray", "scalar"): lambda dtype, blob: self._array((1, (), dtype, False, blob)),
        }.get((module.replace("numpy._core", "numpy.core"), name))
        return Maker(name, own) if own else lookup(module, name)

    def _storage(self, blob):
        """A storage, which PyTorch writes as a whole file of its own into the pickle."""
        storage, _ = read_torch_file(self._source.part(blob.offset, blob.size))
        if not isinstance(storage, Storage):
            raise TypeError("storage")
        return storage

    def _array(self, state):
        """NumPy's state of an array as a tensor."""
        try:
            _, shape, dtype, fortran, blob = state
            if len(shape) > _RANK or any(type(size) is not int or not 0 <= size < _MOST for size in shape):
                raise ValueError("shape")
            name = np.dtype(dtype.arguments[0] if _CODE.match(dtype.arguments[0]) else "O").name
            storage = Storage(StorageType(name), prod(shape))
            storage.place(self._source, blob.offset, ">" if dtype.state and dtype.state[1] == ">" else "<", blob.size)
            steps = [prod(shape[:i]) if fortran else prod(shape[i + 1 :]) for i in range(len(shape))]
            return StoredTensor(storage, 0, shape, steps)
        except (TypeError, ValueError, AttributeError, IndexError) as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(
                "An array of NumPy in the pickle is damaged, or not of numbers.", self.path
            ) from error

    # Networks

    def _open(self, tree):
        self.config, roots = {}, []
        for key, value in tree.items():
            root, before = str(key), len(self.tensors)
            if isinstance(value, Instance):
                self._module(root, "", value, 0)
                kwargs = self._plain(_dict_of(value.state, "_init_kwargs"), 0)
                if len(self.tensors) > before:
                    roots.append(root)
                    self.config[root] = {"_class_name": value.name, **kwargs}
                else:
                    self.metadata[root] = {"_class_name": value.name, **kwargs}
            elif (plain := self._plain(value, 0)) is not None:
                self.metadata[root] = plain
        self.roots = tuple(roots) or ("",)

    def _module(self, root, name, module, depth):
        """Lists the tensors of a network as its `state_dict` has them, and those that are plain attributes of it."""
        self._visits.step(depth)
        check_name(name, self.path)
        self._classes[root, name] = module.name
        prefix = f"{name}." if name else ""
        state = module.state if isinstance(module.state, dict) else {}
        hidden = state.get("_non_persistent_buffers_set")
        hidden = {key for key in hidden if type(key) is str} if isinstance(hidden, list) else ()
        buffers = {key: value for key, value in _dict_of(state, "_buffers").items() if key not in hidden}
        attributes = {key: value for key, value in state.items() if _is_array(value)}
        for key, value in [*_dict_of(state, "_parameters").items(), *buffers.items(), *attributes.items()]:
            if value is not None:
                self._list(f"{root}/{prefix}{key}", value)
        for key, child in _dict_of(state, "_modules").items():
            if isinstance(child, Instance):
                self._module(root, f"{prefix}{key}", child, depth + 1)

    def _list(self, name, value):
        self._visits.step(0)
        if not _is_array(value):
            raise CheckpointError(f"The weight {name!r} should be a tensor.", self.path)
        tensor = value if isinstance(value, StoredTensor) else self._array(value.state)
        self._add(name, tensor.info)
        self._visits.take(tensor)
        self._tensors[name] = tensor

    def _plain(self, value, depth):
        """Numbers, texts, lists and dicts; None for everything else."""
        self._visits.step(depth)
        if isinstance(value, dict):
            return {str(key): self._plain(child, depth + 1) for key, child in value.items()}
        if type(value) in (list, tuple):
            return [self._plain(child, depth + 1) for child in value]
        return value if is_plain(value) else None

    def _class_name(self, root, layer):
        return self._classes.get((root, layer))

    def _read(self, name):
        return self._tensors[name].read(name)


def _persistent(meta):
    if meta["type"] != "class" or type(meta["class_name"]) is not str:
        raise TypeError("class")
    instance = Instance(meta["class_name"])
    instance.state = meta["state"]
    return instance


def _dict_of(state, key):
    value = state.get(key) if isinstance(state, dict) else None
    return value if isinstance(value, dict) else {}


def _is_array(value):
    return isinstance(value, StoredTensor) or (isinstance(value, Instance) and value.name == _ARRAY)
