"""TensorFlow checkpoints: what `model.save_weights("name")`, `tf.train.Checkpoint` and `CheckpointManager` write.

    folder/checkpoint                       text; names the newest
    folder/name.index                       names, shapes, checksums
    folder/name.data-00000-of-00001         the tensors

A tensor's name is the path of attributes to it, `ema_network/layer_with_weights-3/kernel`.
"""

import re

from keras_diffusion.containers.container import Container, SavedLayer, register
from keras_diffusion.containers.errors import CheckpointError, error_at
from keras_diffusion.containers.leveldb_table import is_table
from keras_diffusion.containers.object_graph import KEY, ObjectGraph
from keras_diffusion.containers.tensor_bundle import TensorBundle
from keras_diffusion.runtime.files import read_bytes

_ATTRIBUTE = "/.ATTRIBUTES/VARIABLE_VALUE"
_STATE = b"model_checkpoint_path"
_DATA = re.compile(r"(.+)\.data-\d{5}-of-\d{5}$")


@register
class TensorFlowCheckpoint(Container):
    """A TensorFlow checkpoint.

    Args:
        path: prefix, `.index` file, data file, or folder with a file `checkpoint`.
    """

    kind = "TensorFlow checkpoint"

    def __init__(self, path):
        super().__init__(path)
        self._open(self._prefix(self.path))

    @classmethod
    def matches(cls, path):
        if path.is_dir():
            # Orbax has a file of the same name, which is no text.
            return _is_state(path / "checkpoint") or any(path.glob("*.index"))
        if _DATA.match(path.name) or path.with_name(path.name + ".index").is_file():
            return True
        return path.is_file() and is_table(path)

    def layers(self, root=""):
        self._check_root(root)
        layers = []
        for edge, node, keys in self._graph.layers(root) if self._graph else []:
            weights = {
                weight: self._names[key] for weight, key in keys.items() if key in self._names
            }  # those of strings are no weights
            if weights:
                layers.append(SavedLayer(edge, self._class_name(node), weights))
        return layers

    def close(self):
        self._bundle.close()

    def _open(self, prefix):
        self._bundle = TensorBundle(prefix)
        try:
            graph = self._bundle.read_text(KEY)
            self._graph = None if graph is None else ObjectGraph(graph, self.path)
            self.roots = self._graph.roots() if self._graph else ("",)
            known = self._graph.names if self._graph else {}
            self._names = {key: known.get(key, key.removesuffix(_ATTRIBUTE)) for key in self._bundle.tensors}
            if len(set(self._names.values())) < len(self._names):
                self._names = {key: key for key in self._names}
            self._keys = {name: key for key, name in self._names.items()}
            missing = sorted(set(known) - self._bundle.names)
            if missing:
                raise CheckpointError(
                    f"The object graph names tensors that the index lacks: {', '.join(missing[:3])}.", self.path
                )
            self.tensors = {self._names[key]: info for key, info in self._bundle.tensors.items()}
        except CheckpointError:
            self.close()
            raise

    def _class_name(self, node):
        return None

    def _read(self, name):
        return self._bundle.read(self._keys[name])

    @staticmethod
    def _prefix(path):
        if not path.is_dir():
            data = _DATA.match(path.name)
            if data:
                return path.with_name(data[1])
            return (
                path.with_name(path.name.removesuffix(".index"))
                if path.name.endswith(".index") and path.is_file()
                else path
            )
        found = sorted(index.name.removesuffix(".index") for index in path.glob("*.index"))
        state = path / "checkpoint"
        if state.is_file():
            newest = re.search(r'^model_checkpoint_path: "(.+)"', _text_of(state), re.MULTILINE)
            # The path may be absolute, of another machine; the files lie beside.
            found = [newest[1].replace("\\", "/").split("/")[-1]] if newest else found
        if len(found) != 1 or found[0] in ("", ".", ".."):
            raise CheckpointError(
                f"Which of the checkpoints? Pass one of the prefixes: {', '.join(found) or 'none found'}.", path
            )
        return path / found[0]


def _text_of(path):
    return read_bytes(path, error_at(path)).decode("utf-8", "replace")


def _is_state(path):
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_STATE)) == _STATE
