"""H5 files of Keras 2: `model.save_weights("w.h5")` and `model.save("m.h5")`.

    attributes   layer_names, backend, keras_version: of the file, or of its group `model_weights` in a full model
    <layer>      group with the attribute weight_names = ["conv2d/kernel:0", …], and the arrays of these names
    full model   attribute model_config (JSON), group `optimizer_weights`

The order of `layer_names` and of `weight_names` is the model's; the order of groups in the file is not.
"""

from keras_diffusion.containers.container import Container, SavedLayer, read_json, register
from keras_diffusion.containers.errors import CheckpointError
from keras_diffusion.containers.hdf5_file import HDF5File, is_hdf5
from keras_diffusion.containers.source_file import SourceFile

_MODEL = "model_weights"
_TOP_LEVEL = "top_level_model_weights"  # weights that belong to the model and to none of its layers


@register
class LegacyH5(Container):
    """An H5 file of Keras 2, weights alone or a full model.

    Args:
        path: the file.
    """

    kind = "Keras 2 H5"

    def __init__(self, path):
        super().__init__(path)
        self._source = SourceFile(self.path)
        try:
            self._file = HDF5File(self._source)
            self._open()
        except CheckpointError:
            self.close()
            raise

    @classmethod
    def matches(cls, path):
        return path.is_file() and is_hdf5(path) and is_legacy(path)

    def layers(self, root=""):
        self._check_root(root)
        return list(self._layers)

    def close(self):
        self._source.close()

    def _open(self):
        file = self._file
        self._group = _MODEL if _MODEL in file.groups else ""
        names = file.names("layer_names", self._group)
        if names is None:
            raise CheckpointError("The attribute `layer_names` is missing: the file is damaged.", self.path)
        self.metadata = {
            key: value
            for key in ("keras_version", "backend")
            if (value := file.text(key) or file.text(key, self._group))
        }
        if len(set(names)) != len(names):
            raise CheckpointError("Layers and arrays do not correspond; for example 'a name twice'.", self.path)
        version = self.metadata.get("keras_version", "2").split(".")[0]  # Keras 3 still writes this layout, too
        self.format = f"Keras {version} H5 {'model' if self._group else 'weights'}"
        text = file.text("model_config")
        if text is not None:
            self.config = read_json(text, "model's config", self.path)
        classes = {
            str(layer.get("name") or layer["config"].get("name")): layer.get("class_name") for layer in self._configs()
        }
        top = [_TOP_LEVEL] if self._path(_TOP_LEVEL) in file.groups else []
        self._layers = [layer for name in names + top if (layer := self._layer(name, classes)).weights]
        self._check_complete(names, classes)
        ordered = [tensor for layer in self._layers for tensor in layer.weights.values()]
        self.tensors = {name: file.tensors[name] for name in dict.fromkeys([*ordered, *file.tensors])}

    def _layer(self, name, classes):
        if self._path(name) not in self._file.groups:
            raise CheckpointError(f"The layer {name!r} is listed, but it has no group.", self.path)
        weights: dict[str, str] = {}
        for weight in self._file.names("weight_names", self._path(name)) or []:
            tensor = self._path(f"{name}/{weight}")
            leaf = weight.removesuffix(":0").removeprefix(f"{name}/")
            if tensor not in self._file.tensors or leaf in weights:
                raise CheckpointError(
                    f"The layer {name!r} names a weight {weight!r} that is not there, or twice.", self.path
                )
            weights[leaf] = tensor
        return SavedLayer(name, classes.get(name), weights)

    def _check_complete(self, names, classes):
        """Names are not covered by any checksum, so each must have its array, and each array its name."""
        listed = [tensor for layer in self._layers for tensor in layer.weights.values()]
        present = {
            name
            for name in self._file.tensors
            if name.startswith(self._path("")) and not name.startswith("optimizer_weights/")
        }
        strangers = sorted(present.symmetric_difference(listed))
        if len(set(names)) != len(names) or len(set(listed)) != len(listed) or strangers:
            raise CheckpointError(
                f"Layers and arrays do not correspond; for example {(strangers or ['a name twice'])[0]!r}.", self.path
            )
        unknown = [layer.name for layer in self._layers if classes and layer.name not in {*classes, _TOP_LEVEL}]
        if unknown:
            raise CheckpointError(
                f"The model's config has no layer {unknown[0]!r}, but there are weights for it.", self.path
            )

    def _configs(self):
        layers = (self.config_of() or {}).get("layers", [])
        return [layer for layer in layers if isinstance(layer, dict) and isinstance(layer.get("config"), dict)]

    def _path(self, name):
        return f"{self._group}/{name}" if self._group else name

    def _read(self, name):
        return self._file.read(name)


def is_legacy(path):
    """Whether an HDF5 file is laid out as Keras 2 does it; a damaged one counts as such, and is refused when it is
    opened.
    """
    source = SourceFile(path, verify=False)
    try:
        groups = HDF5File(source).groups
        return _MODEL in groups or not {"layer_names", "layer_names0"}.isdisjoint(groups[""])
    except CheckpointError:
        return True
    finally:
        source.close()
