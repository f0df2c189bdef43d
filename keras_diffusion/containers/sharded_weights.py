"""Weights that are cut into several files, and an index that says which tensor is in which.

    diffusion_pytorch_model.safetensors.index.json       {"weight_map": {"conv_in.weight": <file>, …}}
    diffusion_pytorch_model-00001-of-00002.safetensors
    diffusion_pytorch_model-00002-of-00002.safetensors

`pytorch_model.bin.index.json` is the same for PyTorch's files.
"""

from pathlib import Path

from keras_diffusion.containers.container import Container, open_container, register
from keras_diffusion.containers.errors import CheckpointError, error_at
from keras_diffusion.containers.named_tensors import NamedTensors, read_json_file
from keras_diffusion.runtime import limits

_ENDING = ".json"


class JoinedTensors(NamedTensors):
    """Base class of containers whose tensors lie in other containers."""

    def __init__(self, path):
        super().__init__(path)
        self._parts: list[Container] = []
        self._places: dict[str, tuple[Container, str]] = {}

    def close(self):
        for part in self._parts:
            part.close()

    def _open_part(self, path):
        part = open_container(path)
        self._parts.append(part)
        return part

    def _take(self, part, inner, name):
        """Lists the tensor `inner` of `part` as `name`."""
        self._add(name, part.tensors[inner])
        self._places[name] = part, inner

    def _read(self, name):
        part, inner = self._places[name]
        return part.read(inner)


@register
class ShardedWeights(JoinedTensors):
    """Weights in several files.

    Args:
        path: the `.index.json`. The files lie beside it.
    """

    kind = "sharded weights"

    def __init__(self, path):
        super().__init__(path)
        try:
            self._open_all(read_json_file(self.path))
            self._look_beside()
        except CheckpointError:
            self.close()
            raise

    @classmethod
    def matches(cls, path):
        return path.is_file() and path.suffix == _ENDING and ".index" in path.suffixes

    def _open_all(self, index):
        places = index.get("weight_map")
        if not isinstance(places, dict) or not all(isinstance(file, str) for file in places.values()):
            raise CheckpointError('The index should have a "weight_map" from tensors to files.', self.path)
        limits.check(len(set(places.values())), "files", "The number of files", error_at(self.path))
        files = {file: self._open_part(self._beside(file)) for file in dict.fromkeys(places.values())}
        for name, file in places.items():
            if name not in files[file].tensors:
                raise CheckpointError(
                    f"The file {file!r} lacks the tensor {name!r}, which the index promises.", self.path
                )
            self._take(files[file], name, name)
        self.format = (
            f"{self.kind} ({', '.join(dict.fromkeys(part.format for part in self._parts))}, {len(files)} files)"
        )

    def _beside(self, file):
        # A name alone, no way to another folder; ".." is a name to pathlib in some places, and none in others.
        named = (
            bool(file)
            and Path(file).name == file
            and file != ".."
            and len(file) <= 255
            and Path(file).suffix != _ENDING
        )
        path = self.path.parent / file if named else self.path
        if not named or not path.is_file():
            raise CheckpointError(f"The index names {file[:300]!r}, which is no file beside it.", self.path)
        return path
