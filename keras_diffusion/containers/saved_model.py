"""SavedModel folders, as Keras 2 writes them. The weights are read; the graph of operations in `saved_model.pb` is not.

    folder/variables/variables.index, .data-…     a TensorFlow checkpoint, whose object graph names the tensors
    folder/keras_metadata.pb                      configs of model and layers; Keras ≥ 2.5
    folder/saved_model.pb, fingerprint.pb, assets/

`keras_metadata.pb` is SavedMetadata {1 nodes {2 node in the object graph, 3 its path "root.network", 4 kind, 5 config
as JSON}}. It has no checksum: a damaged letter in it can go unnoticed, unless there is a `keras_metadata.pb.sha256`.
The weights are not in it.

Reference: Keras 2, protobuf/saved_metadata.proto.
"""

from keras_diffusion.containers.container import read_json, register
from keras_diffusion.containers.errors import error_at
from keras_diffusion.containers.protobuf import Message
from keras_diffusion.containers.source_file import SourceFile
from keras_diffusion.containers.tensorflow_checkpoint import TensorFlowCheckpoint
from keras_diffusion.runtime import limits


@register
class SavedModel(TensorFlowCheckpoint):
    """The weights and configs of a SavedModel.

    Args:
        path: the folder.
    """

    kind = "TensorFlow SavedModel"

    def __init__(self, path):
        self._objects = {}
        super().__init__(path)

    @classmethod
    def matches(cls, path):
        return path.is_dir() and (path / "variables" / "variables.index").is_file()

    def config_of(self, root=""):
        self._check_root(root)
        for name, described in self._objects.values():
            if name == root:
                config = described.get("config")
                return config if isinstance(config, dict) and isinstance(config.get("layers"), list) else None
        return None

    def _open(self, prefix):
        metadata = self.path / "keras_metadata.pb"
        if metadata.is_file():
            self._objects = _read_metadata(metadata)
            described = self._objects.get(0, ("", {}))[1]
            self.config = (
                {"class_name": described.get("class_name"), "config": described.get("config")} if described else None
            )
        super()._open(prefix)

    def _class_name(self, node):
        return self._objects.get(node, ("", {}))[1].get("class_name")

    @staticmethod
    def _prefix(path):
        return path / "variables" / "variables"


def _read_metadata(path):
    """From a node of the object graph to (its path, its description)."""
    source = SourceFile(path)
    try:
        limits.check(source.size, "text_bytes", "The length of the file", error_at(path))
        nodes = Message(source.read(0, source.size), path).messages(1)
    finally:
        source.close()
    objects = {}
    for node in nodes:
        described = read_json(node.text(5) or "{}", "config of an object", path)
        name = node.text(3).removeprefix("root").lstrip(".").replace(".", "/")
        objects[node.integer(2)] = (name, described)
    return objects
