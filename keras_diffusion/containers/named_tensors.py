"""Containers of tensors that have names and nothing else: the layers are what the names say.

down_blocks.0.resnets.0.conv1.weight      PyTorch: layer down_blocks.0.resnets.0.conv1, weight "weight"
state/params/ConvLayer_0/conv/kernel      Flax:    layer state/params/ConvLayer_0/conv, weight "kernel"
"""

from keras_diffusion.containers.container import Container, SavedLayer, check_name, read_json
from keras_diffusion.containers.errors import CheckpointError, error_at
from keras_diffusion.containers.source_file import SourceFile
from keras_diffusion.runtime import limits

_CONFIG_KEYS = {"_class_name", "architectures", "model_type"}


class NamedTensors(Container):
    """Base class of these containers.

    `config` is what a `config.json` says, or None; for several roots a dict of such, by root.
    """

    def layers(self, root=""):
        self._check_root(root)
        layers: dict[str, dict[str, str]] = {}
        for name in self.tensors:
            if not root or name.startswith(f"{root}/"):
                inner = name[len(root) + 1 :] if root else name
                cut = max(inner.rfind("/"), inner.rfind("."))
                layers.setdefault(inner[: max(cut, 0)], {})[inner[cut + 1 :]] = name
        return [SavedLayer(name, self._class_name(root, name), weights) for name, weights in layers.items()]

    def config_of(self, root=""):
        self._check_root(root)
        return self.config if not root else (self.config or {}).get(root)

    def _class_name(self, root, layer):
        return None

    def _add(self, name, info):
        """Puts a tensor on the list; two of one name are an error."""
        check_name(name, self.path)
        if name in self.tensors:
            raise CheckpointError(f"The file has two tensors of the name {name!r}.", self.path)
        self.tensors[name] = info
        limits.check(len(self.tensors), "tensors", "The number of tensors", error_at(self.path))

    def _look_beside(self):
        """Takes the `config.json` beside a file of weights, and the config of the scheduler in the folder
        next to it.
        """
        config = self.path.with_name("config.json")
        if config.is_file():
            found = read_json_file(config)
            self.config = found if _CONFIG_KEYS & set(found) else None
        self._find_scheduler(self.path.parent.parent)

    def _find_scheduler(self, folder):
        scheduler = folder / "scheduler" / "scheduler_config.json"
        if scheduler.is_file():
            self.metadata["scheduler"] = read_json_file(scheduler)


def read_json_file(path):
    """Reads a file that is a JSON object, and verifies the `.sha256` beside it if there is one.

    Args:
        path: the file.

    Returns:
        dict.

    Raises:
        CheckpointError: see `read_json`.
    """
    source = SourceFile(path)
    try:
        limits.check(source.size, "text_bytes", "The length of the file", error_at(path))
        return read_json(source.read(0, source.size), "file", path)
    finally:
        source.close()
