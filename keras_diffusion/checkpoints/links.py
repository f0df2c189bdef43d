"""Which tensors a variable is made of: `Source` for reading; `Link`, with PyTorch's names, for reading and writing.

    PyTorch: conv (out, in, h, w)   dense (out, in)   norm weight, bias     down_blocks.0.resnets.1.conv1.weight
    Flax:    conv (h, w, in, out)   dense (in, out)   norm scale, bias      down_blocks_0/resnets_1/conv1/kernel
    here:    conv (h, w, in, out)   dense (in, out)   norm gamma, beta

Names are PyTorch's throughout; `Tensors` finds them in files of Flax, and in old ones, where attention has other names.
A dense kernel here may be a 1×1 convolution there, or one for whole patches; queries, keys and values may lie side by
side in one kernel.
"""

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from keras import ops

_LEAVES = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "embeddings": "weight",
    "frequencies": "weight",
}
_FLAX_LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight"}
_FLAX_LISTS = re.compile(
    r"(down_blocks|up_blocks|resnets|attentions|transformer_blocks|downsamplers|upsamplers|net|to_out)_(\d+)"
)
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_OLD_NAME = re.compile(rf"(.*attentions\.\d+)\.({'|'.join(_OLD_ATTENTION)})\.(weight|bias)")


class Source(NamedTuple):
    """Where the value of one variable comes from.

    Attributes:
        names: tensors of the container.
        combine: function of their arrays → array of the variable's shape; None (default) takes the one tensor as it is.
    """

    names: tuple[str, ...]
    combine: Callable | None = None


class Link(NamedTuple):
    """A variable and its tensors.

    Attributes:
        variable: of a network here.
        names: of tensors, PyTorch's; several lie side by side in the variable's last axis.
        kernel: (h, w, in, out) where the tensor is the kernel of a convolution, None elsewhere.
        table: whether the tensor has the variable's own layout: rows of an embedding.
    """

    variable: Any
    names: tuple[str, ...]
    kernel: tuple[int, ...] | None = None
    table: bool = False

    def write(self):
        """The tensors by name, as PyTorch lays them out."""
        value = ops.convert_to_numpy(self.variable)
        parts = np.split(value, len(self.names), axis=-1)
        return {name: np.ascontiguousarray(self._to_torch(part)) for name, part in zip(self.names, parts)}

    def _to_torch(self, value):
        if self.kernel is not None:
            return value.reshape(self.kernel).transpose(3, 2, 0, 1)
        return value.T if value.ndim == 2 and not self.table else value


def layer_links(prefix, layer, kernel=None):
    """Links of a layer with the weights of a dense layer, convolution, norm or embedding."""
    for variable in _own_weights(layer):
        leaf, shape = variable.path.rsplit("/", 1)[-1], tuple(variable.shape)
        size = None if leaf != "kernel" else kernel or (shape if len(shape) == 4 else None)
        yield Link(variable, (f"{prefix}.{_LEAVES[leaf]}",), size, leaf == "embeddings")


def _own_weights(layer):
    """Without those of an adapter."""
    return [variable for variable in layer.weights if not variable.name.startswith("lora_")]


def links_of(prefix, parts):
    """Links of several layers: `parts` is a dict from names below `prefix` to layers, None where there is none."""
    for name, layer in parts.items():
        if layer is not None:
            yield from layer_links(f"{prefix}.{name}", layer)


def residual_parts(block):
    """The layers of a `ResidualBlock` by their names in diffusers, in the order of the computation."""
    return {
        "norm1": block.norm1,
        "conv1": block.conv1,
        "time_emb_proj": None if block.time_injection is None else block.time_projection,
        "norm2": block.norm2,
        "conv2": block.conv2,
        "conv_shortcut": block.shortcut,
    }


def attention_parts(attention, names=("to_q", "to_k", "to_v", "to_out.0")):
    """Those of an `Attention`."""
    return dict(zip(names, (attention.to_q, attention.to_k, attention.to_v, attention.to_out)))


def transformer_parts(block):
    """Those of a `TransformerBlock`."""
    first, second = attention_parts(block.attention1), attention_parts(block.attention2)
    return {
        "norm1": block.norm1,
        **{f"attn1.{name}": layer for name, layer in first.items()},
        "norm2": block.norm2,
        **{f"attn2.{name}": layer for name, layer in second.items()},
        "norm3": block.norm3,
        "ff.net.0.proj": block.feed_forward1,
        "ff.net.2": block.feed_forward2,
    }


def spatial_parts(layer):
    """Those of a `SpatialTransformer` or a `TemporalTransformer`."""
    blocks = {
        f"transformer_blocks.{i}.{name}": part
        for i, block in enumerate(layer.blocks)
        for name, part in transformer_parts(block).items()
    }
    return {"norm": layer.norm, "proj_in": layer.project_in, **blocks, "proj_out": layer.project_out}


def attention_links(prefix, block):
    """Links of an `AttentionBlock`."""
    yield from layer_links(f"{prefix}.group_norm", block.norm1)
    for variable, leaf in zip(_own_weights(block.qkv), ("weight", "bias"), strict=True):
        yield Link(variable, tuple(f"{prefix}.{part}.{leaf}" for part in ("to_q", "to_k", "to_v")))
    yield from layer_links(f"{prefix}.to_out.0", block.out)


def transformer_links(prefix, layer, linear):
    """Links of a `SpatialTransformer`; `linear`: whether its projections are dense layers in the file."""
    for name, part in spatial_parts(layer).items():
        convolves = name.startswith("proj") and not linear
        yield from layer_links(f"{prefix}.{name}", part, (1, 1, *part.kernel.shape) if convolves else None)


class Tensors:
    """The tensors of one component in a container, by PyTorch's names.

    Args:
        container: opened checkpoint.
        root: the component, "" where there is only one.
    """

    def __init__(self, container, root):
        prefix = f"{root}/" if root else ""
        self._container = container
        self._flax, self._names = set(), {}
        for name in container.tensors:
            if name.startswith(prefix):
                found = _torch_name(name[len(prefix) :])
                self._names[found] = name
                if "/" in name[len(prefix) :]:
                    self._flax.add(found)

    def __contains__(self, name):
        return name in self._names

    def __iter__(self):
        return iter(self._names)

    def shape(self, name):
        """The shape that the tensor has in PyTorch, or () if there is none."""
        if name not in self._names:
            return ()
        shape = self._container.tensors[self._names[name]].shape
        if name not in self._flax or self._names[name].endswith("/embedding"):
            return shape
        return {4: lambda s: (s[3], s[2], s[0], s[1]), 2: lambda s: (s[1], s[0])}.get(len(shape), lambda s: s)(shape)

    def count(self, pattern):
        """How many numbers n there are, from 0 on, with a name that begins with `pattern`, in which "{}" is n."""
        n = 0
        while any(name.startswith(pattern.format(n)) for name in self._names):
            n += 1
        return n

    def names(self, *names):
        """What tensors of these names are called in the container; those that it lacks keep theirs."""
        return tuple(self._names.get(name, name) for name in names)

    def source(self, link):
        """The `Source` of a link's variable."""
        shape = tuple(link.variable.shape)
        part = (*shape[:-1], shape[-1] // len(link.names))
        flax = link.names[0] in self._flax

        def combine(*arrays):
            return np.concatenate([_to_keras(array, part, flax, link.table) for array in arrays], axis=-1)

        return Source(self.names(*link.names), combine)


def _to_keras(array, shape, flax, table):
    if not flax and not table:
        array = {4: lambda a: a.transpose(2, 3, 1, 0), 2: lambda a: a.T}.get(array.ndim, lambda a: a)(array)
    if array.ndim == 4 and len(shape) == 2 and array.size == math.prod(shape):
        array = array.reshape(shape)
    return array.astype("float32") if array.dtype.name in ("float16", "bfloat16") else array


def _torch_name(name):
    if "/" in name:
        *parts, leaf = name.removeprefix("params/").split("/")
        name = ".".join([*(_FLAX_LISTS.sub(r"\1.\2", part) for part in parts), _FLAX_LEAVES.get(leaf, leaf)])
    old = _OLD_NAME.fullmatch(name)
    return f"{old[1]}.{_OLD_ATTENTION[old[2]]}.{old[3]}" if old else name
