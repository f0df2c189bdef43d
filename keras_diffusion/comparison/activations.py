"""The outputs of all layers of a network, those inside of layers included, from one forward pass.

While the pass runs, every layer's `call` reports what it returns. Within a compiled function the reports are symbolic,
and the function returns them: all backends compile the pass, and no layer has to be built for being looked at. A layer
inside another one reports before it, so the first layer that differs between two backends is the innermost one.
"""

import contextlib
import functools

import keras
from keras import ops

from keras_diffusion.runtime.compile import Compiled, as_tensors


def activations(network, inputs):
    """What every layer returns.

    Args:
        network: `keras.Model` with weights.
        inputs: dict of arrays, as the network takes it.

    Returns:
        dict: path of a layer inside the network, such as "down_0_block_0/conv1" (with "#2" behind it for the second
        call or output), → array, in the order in which layers finish.
    """
    names = []

    def forward(values, inputs):
        names.clear()
        outputs = {}

        def report(name, tensor):
            names.append(_unused(name, outputs))
            outputs[names[-1]] = tensor

        with (
            keras.StatelessScope(state_mapping=list(zip(network.variables, values, strict=True))),
            _reporting(network, report),
        ):
            network(inputs, training=False)
        return list(outputs.values())

    tensors = Compiled(forward)([variable.value for variable in network.variables], as_tensors(inputs))
    return {
        name: ops.convert_to_numpy(ops.cast(tensor, "float32")) for name, tensor in zip(names, tensors, strict=True)
    }


@contextlib.contextmanager
def _reporting(network, report):
    changed = []
    try:
        for name, layer in named_layers(network):
            object.__setattr__(layer, "call", _reported(layer.call, name, report))
            changed.append(layer)
        yield
    finally:
        for layer in changed:
            object.__delattr__(layer, "call")


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
    """(path, layer) of every layer inside `network`, each once; a path is the names from the outermost layer to it."""
    known, found = {id(network)}, []

    def visit(layer, path):
        for child in layer._flatten_layers(include_self=False, recursive=False):
            if id(child) not in known:
                known.add(id(child))
                found.append((f"{path}{child.name}", child))
                visit(child, f"{path}{child.name}/")

    visit(network, "")
    return found


def _unused(name, taken):
    number, unused = 1, name
    while unused in taken:
        number += 1
        unused = f"{name}#{number}"
    return unused
