"""The outputs of all layers of a network, nested ones included, from one forward pass.

During the pass, every layer's `call` reports its output. In a compiled function these are symbolic, and the function
returns them: all backends compile the pass, and no layer needs to be rebuilt. A nested layer reports before the layer
around it, so the first layer that differs between two backends is the innermost one.
"""

import collections
import contextlib
import functools

import keras
from keras import ops

from keras_diffusion.runtime.compile import Compiled, as_tensors


def activations(network, inputs):
    """The outputs of every layer.

    Args:
        network: `keras.Model` with weights.
        inputs: dict of arrays, the network's input.

    Returns:
        dict: path of a layer inside the network, such as "down_0_block_0/conv1" (with "#2" behind it for the second
        call or output), → array, in the order in which layers finish.
    """
    names = []

    def forward(values, inputs):
        outputs, counts = {}, collections.Counter()

        def report(name, tensor):
            counts[name] += 1
            outputs[name if counts[name] == 1 else f"{name}#{counts[name]}"] = tensor

        with (
            keras.StatelessScope(state_mapping=list(zip(network.variables, values, strict=True))),
            _reporting(network, report),
        ):
            network(inputs, training=False)
        names[:] = outputs
        return list(outputs.values())

    tensors = Compiled(forward)([variable.value for variable in network.variables], as_tensors(inputs))
    return {
        name: ops.convert_to_numpy(ops.cast(tensor, "float32")) for name, tensor in zip(names, tensors, strict=True)
    }


@contextlib.contextmanager
def _reporting(network, report):
    with contextlib.ExitStack() as stack:
        for name, layer in named_layers(network):
            object.__setattr__(layer, "call", _reported(layer.call, name, report))
            stack.callback(object.__delattr__, layer, "call")
        yield


def _reported(call, name, report):
    @functools.wraps(call)
    def reporting(*args, **kwargs):
        output = call(*args, **kwargs)
        for tensor in keras.tree.flatten(output):
            if ops.is_tensor(tensor):
                report(name, tensor)
        return output

    return reporting


def named_layers(network):
    """(path, layer) of every layer inside `network`, once each; a path has the names from the outermost layer on."""
    known, found = {id(network)}, []

    def visit(layer, path):
        for child in layer._flatten_layers(include_self=False, recursive=False):
            if id(child) not in known:
                known.add(id(child))
                found.append((f"{path}{child.name}", child))
                visit(child, f"{path}{child.name}/")

    visit(network, "")
    return found
