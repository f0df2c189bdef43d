"""Containers of tensors that have names and nothing else: the layers are what the names say.

down_blocks.0.resnets.0.conv1.weight      PyTorch: layer down_blocks.0.resnets.0.conv1, weight "weight"
state/params/ConvLayer_0/conv/kernel      Flax:    layer state/params/ConvLayer_0/conv, weight "kernel"
"""

import json

from keras_diffusion.checkpoints.containers.container import Container, SavedLayer
from keras_diffusion.checkpoints.errors import CheckpointError

_CONFIG_KEYS = {"_class_name", "architectures", "model_type"}


class NamedTensors(Container):
    """Base class of these containers. `config` is what a `config.json` says, or None; for several roots a dict of such, by root."""

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
        if name in self.tensors:
            raise CheckpointError(f"The file has two tensors of the name {name!r}.", self.path)
        self.tensors[name] = info

    def _look_beside(self):
        """Takes the `config.json` beside a file of weights, and the config of the scheduler in the folder next to it."""
        config = self.path.with_name("config.json")
        if config.is_file():
            found = read_json(config)
            self.config = found if _CONFIG_KEYS & set(found) else None
        self._find_scheduler(self.path.parent.parent)

    def _find_scheduler(self, folder):
        scheduler = folder / "scheduler" / "scheduler_config.json"
        if scheduler.is_file():
            self.metadata["scheduler"] = read_json(scheduler)


def read_json(path, data=None):
    """Reads a JSON object.

    Args:
        path: the file.
        data: its bytes, or None (default) to read it.

    Returns:
        dict.

    Raises:
        CheckpointError: it is no JSON, no object, or an object has a key twice.
    """
    try:
        value = json.loads(path.read_bytes() if data is None else data, object_pairs_hook=_unique)
    except (ValueError, RecursionError, OSError) as error:
        raise CheckpointError(f"The text should be JSON: {error}.", path) from error
    if not isinstance(value, dict):
        raise CheckpointError("The text should be a JSON object.", path)
    return value


def _unique(pairs):
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)
