"""The object graph of a TensorFlow checkpoint: which attributes of which objects lead to which tensor.

A checkpoint stores it as a string, a TrackableObjectGraph:

    1 nodes {1 children {1 node, 2 name}   2 attributes {1 name, 2 full name, 3 key of the tensor}   3 slot variables}

Node 0 is the saved object. A functional model has the children `layer-0`, `layer-1`, …, and for those with weights also
`layer_with_weights-0`, …, in the order of its layers. A SavedModel has the same edges, and some more of Keras's own
bookkeeping. Where a tensor's key is `variables/84`, as in SavedModels, only the graph tells what it is.

Reference: TensorFlow, core/protobuf/trackable_object_graph.proto.
"""

import re
from typing import NamedTuple

from keras_diffusion.containers.container import check_name
from keras_diffusion.containers.errors import CheckpointError, error_at
from keras_diffusion.containers.protobuf import Message
from keras_diffusion.runtime import limits

KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"
_VARIABLE = "VARIABLE_VALUE"
_WEIGHTED = re.compile(r"layer_with_weights-(\d+)$")
_LAYER = re.compile(r"layer-\d+$")
# Lists that Keras keeps beside the attributes; they lead to the same variables once more.
_BOOKKEEPING = {
    "keras_api",
    "layer_metrics",
    "layer_regularization_losses",
    "layers",
    "metrics",
    "non_trainable_variables",
    "regularization_losses",
    "signatures",
    "trainable_variables",
    "variables",
}


class _Node(NamedTuple):
    children: list[tuple[str, int]]
    key: str | None


class ObjectGraph:
    """A parsed object graph.

    Args:
        data: bytes of the TrackableObjectGraph.
        path: the file, for errors.

    Attributes:
        names: dict from a tensor's key to its name, the attributes that lead to it, joined by "/".

    Raises:
        CheckpointError: damaged.
    """

    def __init__(self, data, path):
        self._path, self._steps = path, 0
        self.nodes = [self._node(message) for message in Message(data, path).messages(1)]
        if not self.nodes or any(not 0 <= child < len(self.nodes) for node in self.nodes for _, child in node.children):
            raise CheckpointError("The object graph names an object that it does not have.", path)
        self._paths = self._walk(0)
        self.names = {
            self.nodes[node].key: name for node, name in self._paths.items() if self.nodes[node].key is not None
        }

    def roots(self):
        """Names of the outermost objects with `layer_with_weights-…`; `("",)` where there are none."""
        found = [
            name
            for node, name in self._paths.items()
            if any(_WEIGHTED.match(child) for child, _ in self.nodes[node].children)
            and not any(_WEIGHTED.match(part) or _LAYER.match(part) for part in name.split("/"))
        ]
        return tuple(found) or ("",)

    def layers(self, root):
        """Layers with weights under an object, in order.

        Args:
            root: name of the object, "" for the saved object itself.

        Returns:
            list of (name of the edge, node, dict from weight to the key of its tensor).
        """
        node = next(node for node, name in self._paths.items() if name == root)
        children = dict(self.nodes[node].children)
        weighted = sorted((int(match[1]), match[0]) for match in map(_WEIGHTED.match, children) if match)
        # What is no functional model has its layers as attributes.
        edges = [edge for _, edge in weighted] or [edge for edge in children if edge not in _BOOKKEEPING]
        layers = [(edge, children[edge], self._weights(children[edge])) for edge in edges]
        # A variable that is an attribute of the model itself has the name "" here; it is no layer.
        return [layer for layer in layers if layer[2] and "" not in layer[2]]

    def _weights(self, start):
        weights = {
            name: self.nodes[node].key for node, name in self._walk(start).items() if self.nodes[node].key is not None
        }
        return dict(sorted(weights.items()))

    def _walk(self, start):
        """Every object that attributes lead to from `start`, and the name by which it is reached first, nearest objects
        first.

        `layer_with_weights-3` goes before `layer-5`, which is the same object.
        """
        names, queue = {start: ""}, [start]
        for node in queue:
            # Every layer is walked through on its own, and layers may share all that is below them.
            self._steps += 1 + len(self.nodes[node].children)
            error = error_at(self._path)
            limits.check(self._steps, "text_values", "The number of steps through the object graph", error)
            for edge, child in sorted(self.nodes[node].children, key=lambda item: bool(_LAYER.match(item[0]))):
                if child not in names and edge not in _BOOKKEEPING:
                    names[child] = check_name(f"{names[node]}/{edge}".lstrip("/"), self._path)
                    queue.append(child)
        return names

    def _node(self, message):
        children = [(child.text(2), child.integer(1)) for child in message.messages(1)]
        keys = [attribute.text(3) for attribute in message.messages(2) if attribute.text(1) == _VARIABLE]
        return _Node(children, keys[0] if keys else None)
