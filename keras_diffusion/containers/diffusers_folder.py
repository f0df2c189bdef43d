"""Folders of diffusers: components with a config and weights, alone or together in a pipeline.

    model_index.json                             {"unet": ["diffusers", "UNet2DConditionModel"], …}
    scheduler/scheduler_config.json
    unet/config.json
    unet/diffusion_pytorch_model.safetensors
    unet_ema/…                                   training scripts: averaged weights

Where a component has its weights more than once, the first of these is taken:

    variant     none, fp32, other, bf16, fp16, non_ema
    kind        .safetensors, .safetensors.index.json, .bin, .bin.index.json, .msgpack
"""

import re

from keras_diffusion.containers.container import register
from keras_diffusion.containers.errors import CheckpointError
from keras_diffusion.containers.named_tensors import read_json_file
from keras_diffusion.containers.sharded_weights import JoinedTensors

_CONFIG, _INDEX = "config.json", "model_index.json"
_BASES = "diffusion_pytorch_model|model|pytorch_model|diffusion_flax_model|flax_model"
_WEIGHTS = re.compile(
    rf"(?:{_BASES})(?:\.(?P<first>\w+))?\.(?P<kind>safetensors|bin|msgpack)"
    r"(?P<index>\.index(?:\.(?P<last>\w+))?\.json)?$"
)
_KINDS = ("safetensors", "bin", "msgpack")
_VARIANTS = {None: 0, "fp32": 1, "bf16": 3, "fp16": 4, "non_ema": 5}


@register
class DiffusersFolder(JoinedTensors):
    """A folder of diffusers.

    A component's tensors have the names of its file. In a pipeline `roots` are the components that have weights, in the
    order of `model_index.json`, "unet_ema" before "unet", and the names begin with the root, "unet/conv_in.weight".
    `config_of(root)` is the component's `config.json`; `metadata` has "files" (root → file taken), "not_taken" (further
    files of weights), "scheduler" (its config) and "components".

    Args:
        path: folder of a component or of a pipeline; `model_index.json` may lack.
    """

    kind = "diffusers folder"

    def __init__(self, path):
        super().__init__(path)
        self.metadata: dict = {"files": {}, "not_taken": []}
        try:
            if _is_component(self.path):
                self._find_scheduler(self.path.parent)
                self.config = self._component("", self.path)
            else:
                self._pipeline()
        except CheckpointError:
            self.close()
            raise
        if not self.metadata["not_taken"]:
            del self.metadata["not_taken"]

    @classmethod
    def matches(cls, path):
        return path.is_dir() and (_is_component(path) or any(_is_component(child) for child in path.iterdir()))

    def _pipeline(self):
        self.format = "diffusers pipeline"
        index = read_json_file(self.path / _INDEX) if (self.path / _INDEX).is_file() else {}
        components = {name: value for name, value in index.items() if isinstance(value, list) and value != [None, None]}
        if components:
            self.metadata["components"] = {name: value[-1] for name, value in components.items()}
        if "_class_name" in index:
            self.metadata["pipeline"] = index["_class_name"]
        self._find_scheduler(self.path)
        there = sorted(child.name for child in self.path.iterdir() if _is_component(child))
        order = [name for name in components if name in there]
        order = [*order, *(name for name in there if name not in order)]
        # Averaged weights stand before those that they are the average of.
        order = [
            name for root in order if not _averaged(root, there) for name in (f"{root}_ema", root) if name in there
        ]
        self.roots, self.config = tuple(order), {}
        for root in order:
            self.config[root] = self._component(root, self.path / root)

    def _component(self, root, folder):
        """Lists the tensors of a component, and returns its config."""
        first, *others = _weights(folder)
        prefix = f"{root}/" if root else ""
        part = self._open_part(folder / first)
        for name in part.tensors:
            self._take(part, name, prefix + name)
        self.metadata["files"][root] = first
        self.metadata["not_taken"] += [prefix + name for name in others]
        return read_json_file(folder / _CONFIG)


def weights_to_take(names):
    """Of the files in a component's folder, those that hold the weights to be taken: one file, or an index and its
    parts.
    """
    ranked = sorted((name for name in names if _WEIGHTS.match(name)), key=_rank)
    if not ranked:
        return []
    match = _WEIGHTS.match(ranked[0])
    if match["index"] is None:
        return ranked[:1]
    # model.safetensors.index.fp16.json: parts may be called model.fp16-00001-of-00002.safetensors.
    base, variant = ranked[0].split(".")[0], match["first"] or match["last"]
    part = re.compile(rf"{re.escape(base)}(?:\.(?P<variant>\w+))?-\d+-of-\d+(?:\.(?P<last>\w+))?\.{match['kind']}$")
    parts = [(name, part.match(name)) for name in names]
    return [
        ranked[0],
        *sorted(name for name, found in parts if found and (found["variant"] or found["last"]) == variant),
    ]


def _weights(folder):
    """Names of a component's files of weights, the one to take first."""
    return sorted((file.name for file in folder.iterdir() if _WEIGHTS.match(file.name)), key=_rank)


def _rank(name):
    match = _WEIGHTS.match(name)
    return (
        _VARIANTS.get(match["first"] or match["last"], 2),
        _KINDS.index(match["kind"]),
        match["index"] is not None,
        name,
    )


def _is_component(path):
    return path.is_dir() and (path / _CONFIG).is_file() and bool(_weights(path))


def _averaged(root, there):
    return root.endswith("_ema") and root.removesuffix("_ema") in there
