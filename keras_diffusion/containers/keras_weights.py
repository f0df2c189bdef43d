"""Weights as Keras 3 lays them out in HDF5, in `.weights.h5` and within `.keras`; Keras 2 does the same in its own
`.keras`.

    layers/conv2d_3/vars/0                    the fourth Conv2D of a functional model, its first variable
    layers/attention_block/query/vars/1       a layer in a layer, by attribute
    network/layers/conv2d/vars/0              a functional model that is an attribute of the model

A group's name is the class in snake case and a count, not the layer's name; the order of layers is in the model's
config alone. A `.weights.h5` has no config: its layers come sorted by name.
"""

import re

from keras_diffusion.containers.container import Container, SavedLayer, register
from keras_diffusion.containers.errors import CheckpointError
from keras_diffusion.containers.hdf5_file import HDF5File, is_hdf5
from keras_diffusion.containers.legacy_h5 import is_legacy
from keras_diffusion.containers.source_file import SourceFile
from keras_diffusion.runtime.natural_order import natural

# Keras 2.13 kept a functional model's layers under the second name.
_LISTS = ("layers", "_layer_checkpoint_dependencies")
_COUNT = re.compile(r"(.+?)(?:_(\d{1,9}))?$", re.DOTALL)


@register
class KerasWeights(Container):
    """A `.weights.h5` file.

    Args:
        path: the file.
    """

    kind = "Keras 3 .weights.h5"

    def __init__(self, path):
        super().__init__(path)
        self._source = SourceFile(self.path)
        self._open(self._source)

    @classmethod
    def matches(cls, path):
        return path.is_file() and is_hdf5(path) and not is_legacy(path)

    def layers(self, root=""):
        self._check_root(root)
        prefix = f"{root}/" if root else ""
        parent = next((f"{prefix}{name}/" for name in _LISTS if f"{prefix}{name}" in self._file.groups), prefix)
        found: dict[str, dict[str, str]] = {}
        for tensor in sorted(filter(lambda name: name.startswith(parent), self.tensors), key=natural):
            group, _, rest = tensor.removeprefix(parent).partition("/")
            if rest and group != "vars":
                found.setdefault(group, {})["/".join(part for part in rest.split("/") if part != "vars")] = tensor
        config = self.config_of(root)
        if config is None:
            # Keras 3 notes the layer's own name beside its variables.
            names = {
                group: self._file.text("name", f"{parent}{group}/vars")
                for group in found
                if f"{parent}{group}/vars" in self._file.groups
            }
            return [SavedLayer(names.get(group) or group, None, weights) for group, weights in found.items()]
        groups, keys = list(_groups(config["layers"], self.path)), _keys_of(found)
        strangers = sorted(set(found).difference(keys.get(key) for key, _, _ in groups))
        if strangers:
            raise CheckpointError(
                f"The model's config has no layer for the weights {parent + strangers[0]!r}.", self.path
            )
        named = ((keys.get(key), name, class_name) for key, name, class_name in groups)
        return [SavedLayer(name, class_name, found[group]) for group, name, class_name in named if group is not None]

    def close(self):
        self._source.close()

    def _open(self, source):
        try:
            self._file = HDF5File(source)
            if not any("vars" in name.split("/") for name in self._file.groups):
                raise CheckpointError(
                    "This HDF5 file is not of Keras: neither `layer_names` nor groups called `vars`.", self.path
                )
            stray = next((name for name in self._file.tensors if f"/{name}".split("/")[-2] != "vars"), None)
            if stray is not None:
                raise CheckpointError(
                    f"Arrays lie in groups called `vars`, but {stray!r} does not: the file is damaged.", self.path
                )
        except CheckpointError:
            self.close()
            raise
        self.tensors = dict(self._file.tensors)
        holders = {
            re.sub(r"(^|/)(layers|_layer_checkpoint_dependencies)/.*", "", name)
            for name in self.tensors
            if _in_list(name)
        }
        self.roots = tuple(sorted(holders)) or ("",)

    def _read(self, name):
        return self._file.read(name)


def _in_list(name):
    return any(part in _LISTS for part in name.split("/"))


def _groups(layers, path):
    """For every layer of a config: (class without case and underscores, how many of them came before), name, class."""
    counts: dict[str, int] = {}
    for layer in layers:
        if (
            not isinstance(layer, dict)
            or not isinstance(layer.get("class_name"), str)
            or not isinstance(layer.get("config"), dict)
        ):
            raise CheckpointError("The model's config lists what is no layer: the file is damaged.", path)
        kind = layer["class_name"].split(">")[-1].lower().replace("_", "")
        yield (kind, counts.get(kind, 0)), layer.get("name") or layer["config"].get("name"), layer["class_name"]
        counts[kind] = counts.get(kind, 0) + 1


def _keys_of(found):
    """From the keys of `_groups` to the group that belongs to each; layers without weights have none."""
    keys: dict[tuple[str, int], str] = {}
    for group in found:
        base, number = _COUNT.match(group).groups()
        keys.setdefault((base.replace("_", ""), int(number or 0)), group)
    return keys
