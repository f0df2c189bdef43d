"""What the two Keras examples share: networks of the functional API, whose weights are found by their order.

Names are of no use: "conv2d_7" in one process is "conv2d_31" in the next. But Keras 2 lists the layers of a functional
model in the order of its graph, in every format, so the k-th layer of the file is the k-th of the network. Kinds
and shapes rule out silent mistakes: each layer with weights is written as a letter,

    c  3×3 convolution      p  1×1 convolution      d  dense      n  normalization      e  embedding      a  attention

a network is then a word ("dcdndcncn…"), a family's networks are a regular expression, and the letters of the file must
be the letters of the network that is built, one by one; the shapes are compared afterwards. The numbers of channels,
blocks and levels follow from the word and the shapes; what they do not tell comes from the file's config where it has
one, from the user, or from the example.
"""

import re
from typing import Any, NamedTuple

from keras_diffusion.checkpoints.families.agreement import must_agree
from keras_diffusion.checkpoints.families.family import Source
from keras_diffusion.checkpoints.families.rooted_family import RootedFamily
from keras_diffusion.containers.errors import CheckpointError

# By letter: the class as Keras 2 calls it, and its weights in Keras's order.
_KINDS = {
    "c": (("Conv2D",), ("kernel", "bias")),
    "p": (("Conv2D",), ("kernel", "bias")),
    "d": (("Dense",), ("kernel", "bias")),
    "n": (("GroupNormalization",), ("gamma", "beta")),
    "b": (("BatchNormalization",), ("moving_mean", "moving_variance")),
    "e": (("Embedding",), ("embeddings",)),
}
_WORDS = {
    "c": "a convolution",
    "p": "a 1×1 convolution",
    "d": "a dense layer",
    "n": "a group normalization",
    "b": "a batch normalization",
    "e": "an embedding",
    "a": "an attention block",
    "?": "a layer that the example does not have",
    "": "nothing",
}
_ATTENTION = ("norm", "query", "key", "value", "proj")
_NEEDLESS = re.compile(r"optimizer|save_counter|keras_api|normalizer/|kid/|[^/]*(metric|tracker|loss)")


class Slot(NamedTuple):
    """A layer of the old network: its letter, and the layer here that takes its weights."""

    letter: str
    layer: Any


class KerasExample(RootedFamily):
    """Base class of the two families.

    Attributes:
        pattern: compiled regular expression of the words of its networks.
        aliases: dict from other names of arguments to those of `read_config`.
        free: arguments that do not follow from shapes: the user's value is taken.
    """

    pattern: re.Pattern
    aliases: dict[str, str] = {}
    free: tuple[str, ...] = ()

    def infer(self, container, root):
        """The config as the shapes and the file's own config tell it, a dict with every known key."""
        raise NotImplementedError(f"{type(self).__name__} must implement infer(container, root)")

    def slots(self, network):
        """`Slot`s in the order of the old network."""
        raise NotImplementedError(f"{type(self).__name__} must implement slots(network)")

    def read_config(self, container, root, config):
        found = self.infer(container, root)
        for key, value in config.items():
            key = self.aliases.get(key, key)
            if key == "size":
                size = list(value) if isinstance(value, (list, tuple)) else [value, value]
                found["input_shape"] = [*size, found["input_shape"][-1]]
            elif key == "channels":
                must_agree(key, value, found["input_shape"][-1], container.path)
            elif key == "input_shape":
                must_agree(key, value[-1:], found["input_shape"][-1:], container.path)
                found["input_shape"] = list(value)
            elif key in self.free:
                found[key] = value
            elif key in found:
                must_agree(key, value, found[key], container.path)
            else:
                known = ", ".join(
                    [*found, "size", "channels", *(k for k, v in self.aliases.items() if v not in ("size", "channels"))]
                )
                raise CheckpointError(f"Unknown argument of a {self.title}: {key!r}. Known: {known}.", container.path)
        return found

    def sources(self, container, root, network, config):
        saved, slots = container.layers(root), list(self.slots(network))
        theirs, ours = word_of(container, root), "".join(slot.letter for slot in slots)
        if theirs != ours:
            k = next((i for i, (a, b) in enumerate(zip(theirs, ours)) if a != b), min(len(theirs), len(ours)))
            name = f" ({saved[k].name!r})" if k < len(saved) else ""
            raise CheckpointError(
                f"The layers are not in the order of a {self.title}: layer {k}{name} is "
                f"{_WORDS[theirs[k : k + 1]]}, expected is {_WORDS[ours[k : k + 1]]}. The file has {len(theirs)} "
                f"layers with weights, the network {len(ours)}.",
                container.path,
            )
        for slot, layer in zip(slots, saved):
            if slot.letter == "a":
                yield from self.attention_sources(container, layer, slot.layer)
            else:
                names = _in_order(layer.weights, _KINDS[slot.letter][1])
                yield from (
                    (variable, Source((name,))) for variable, name in zip(slot.layer.weights, names, strict=True)
                )

    def attention_sources(self, container, saved, layer):
        """Pairs (variable, `Source`) of an attention block, for families that have some."""
        raise NotImplementedError(f"{type(self).__name__} must implement attention_sources(container, saved, layer)")

    def ignores(self, container, root):
        return super().ignores(container, root) | set(filter(_NEEDLESS.match, container.tensors))

    def is_mine(self, container, root):
        try:
            return self.pattern.fullmatch(word_of(container, root)) is not None
        except CheckpointError:
            return False


def word_of(container, root):
    """The layers under `root` as letters; "?" for one that neither example has."""
    return "".join(_letter(container, layer) for layer in container.layers(root))


def kernel_shapes(container, root):
    """For each layer under `root`, the shape of its largest tensor: of the kernel, where it has one."""
    return [
        max((container.tensors[n].shape for n in layer.weights.values()), key=len) for layer in container.layers(root)
    ]


def attention_names(weights):
    """The tensors of an attention block by its parts "norm", "query", "key", "value", "proj": pairs (kernel, bias) or
    (gamma, beta).

    Where the parts have other names (H5 files: "dense_4"), they come in the order in which they were made.
    """
    parts: dict[str, dict[str, str]] = {}
    for leaf, name in weights.items():
        part, _, leaf = leaf.rpartition("/")
        parts.setdefault(part, {})[leaf] = name
    if set(parts) != set(_ATTENTION):
        parts = dict(zip(_ATTENTION, parts.values(), strict=True))
    return {
        part: _in_order(parts[part], ("gamma", "beta") if part == "norm" else ("kernel", "bias")) for part in _ATTENTION
    }


def file_layers(container, root, class_name):
    """Configs of the layers of a class, as the file's own config has them; [] where it has none."""
    config = container.config_of(root) or {"layers": []}
    return [_plain(layer["config"]) for layer in config["layers"] if layer.get("class_name") == class_name]


def image_size(container, root):
    """[H, W] of the image input in the file's config, [None, None] where it does not say."""
    shapes = [
        layer.get("batch_input_shape") or layer.get("batch_shape")
        for layer in file_layers(container, root, "InputLayer")
    ]
    images = [shape[1:3] for shape in shapes if shape and len(shape) == 4 and shape[1:3] != [1, 1]]
    return images[0] if images else [None, None]


def must_be(container, root, class_name, key, values):
    """Raises CheckpointError where a layer in the file's config differs from the example in what the network here has
    fixed.
    """
    for layer in file_layers(container, root, class_name):
        if key in layer and layer[key] not in values:
            raise CheckpointError(
                f"In the example, `{key}` of {class_name} is {' or '.join(map(repr, values))}, and networks here know "
                "no other. "
                f"Received: {key}={layer[key]!r} in layer {layer.get('name')!r}",
                container.path,
            )


def _plain(value):
    """A config with lists for tuples, which SavedModels write as {"class_name": "__tuple__", "items": […]}."""
    if isinstance(value, dict):
        return (
            _plain(value["items"])
            if value.get("class_name") == "__tuple__"
            else {key: _plain(v) for key, v in value.items()}
        )
    return [_plain(v) for v in value] if isinstance(value, list) else value


def _letter(container, layer):
    ranks = sorted(len(container.tensors[name].shape) for name in layer.weights.values())
    leaves = set(layer.weights)
    if any("/" in leaf for leaf in leaves):
        parts = {leaf.rpartition("/")[0] for leaf in leaves}
        return "a" if ranks == [1] * 6 + [2] * 4 and len(parts) == 5 else "?"
    if ranks == [1, 1]:
        # Weights that are only numbered, of a layer without a class: there is its name left.
        batch = (
            layer.class_name == "BatchNormalization"
            or "moving_mean" in leaves
            or layer.name.startswith("batch_normalization")
        )
        letter = "b" if batch else "n"
    elif ranks == [1, 4]:
        kernel = max((container.tensors[name].shape for name in layer.weights.values()), key=len)
        letter = {(1, 1): "p", (3, 3): "c"}.get(kernel[:2], "?")
    else:
        letter = {(1, 2): "d", (2,): "e"}.get(tuple(ranks), "?")
    classes, names = _KINDS.get(letter, ((), ()))
    known_class = layer.class_name is None or layer.class_name.rsplit(">", 1)[-1] in classes
    known_names = leaves in (set(names), {str(i) for i in range(len(names))})
    return letter if known_class and known_names else "?"


def _in_order(weights, names):
    """Tensor names in Keras's order. .keras files number the weights; others name them."""
    return [weights[name] if name in weights else weights[str(i)] for i, name in enumerate(names)]
