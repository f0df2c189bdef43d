"""Which axis of which weight is split over the model axis of a device mesh.

    columns   x·W, W split by outputs   queries, keys, values; first layer of a feed-forward; modulation; convolutions
    rows      x·W, W split by inputs    the layer after one of these: output of an attention, second of a feed-forward
    copies    everything else           norms, embeddings, the last layer, and what the devices do not divide evenly

A split by columns leaves its output split by features; the split by rows that follows uses it as it is and ends in a
sum over devices. So a feed-forward costs one exchange, not two. Every layout gives the same numbers, since XLA inserts
the exchanges that it needs. Weights are recognized by their paths, which are fixed in all networks of this library; the
average of the weights has the same paths, and optimizers lay out their moments like the weights.

Reference: Shoeybi et al., "Megatron-LM", arXiv:1909.08053, section 3.
"""

import re

import keras

_START = r"(.*/)?([\w]*_)?"
_COLUMNS = (
    rf"{_START}(qkv|query|key|value|to_q|to_k|to_v|cross_q|cross_kv)",
    rf"{_START}(mlp1|feed_forward1)",
    r"(.*/)?ada_ln/\w+|.+/(time_projection|modulation)",
)
_CONVOLUTIONS = rf"{_START}(conv\d*|conv_in|shortcut)"
_ROWS = (rf"{_START}attention\w*/(out|to_out|cross_out)", rf"{_START}(mlp2|feed_forward2)")

#: Names of the rules, and the paths of the layers that each is for.
RULES = {
    "columns": re.compile("|".join(f"({pattern})" for pattern in _COLUMNS)),
    "convolutions": re.compile(_CONVOLUTIONS),
    "rows": re.compile("|".join(f"({pattern})" for pattern in _ROWS)),
}


def split_axis(path, shape, parts):
    """The axis along which a weight is split over the devices of the model axis.

    Args:
        path: path of the variable in its network, such as "down_1_attention/qkv/kernel".
        shape: its shape.
        parts: number of devices on the model axis.

    Returns:
        number of the axis, or None for a copy on every device.
    """
    layer, _, kind = path.rpartition("/")
    if RULES["columns"].fullmatch(layer) or RULES["convolutions"].fullmatch(layer):
        axis = len(shape) - 1 if kind in ("kernel", "bias") else None
    elif RULES["rows"].fullmatch(layer):
        axis = len(shape) - 2 if kind == "kernel" else None
    else:
        axis = None
    return axis if axis is not None and shape[axis] % parts == 0 else None


def layout_map(network, device_mesh, model_axis="model"):
    """A `keras.distribution.LayoutMap` with the `split_axis` of each weight of a network, path by path.

    Args:
        network: built network of this library.
        device_mesh: `keras.distribution.DeviceMesh` with an axis named `model_axis`.
        model_axis: name of that axis. Default "model".

    Returns:
        `LayoutMap` with an entry for each weight that is split.

    Raises:
        ValueError: no such axis, or a network without weights to split.

    Example:

    >>> mesh = keras.distribution.DeviceMesh((4, 2), ("batch", "model"))
    >>> layouts = keras_diffusion.distribution.layout_map(network, mesh)
    """
    parts = _axis_size(device_mesh, model_axis)
    layouts = keras.distribution.LayoutMap(device_mesh)
    for variable in network.weights:
        axis = split_axis(variable.path, variable.shape, parts)
        if axis is not None:
            layouts[variable.path] = _axes(variable.shape, axis, model_axis)
    if not len(layouts):
        raise ValueError(
            f"Nothing of this network can be split over {parts} devices: its layers have other names than those of "
            f"the library, or the number divides none of them. Received: {type(network).__name__}. Use data "
            "parallelism, or a `LayoutMap` of your own."
        )
    return layouts


class SplitWeights(keras.distribution.ModelParallel):
    """`keras.distribution.ModelParallel` with the rules of this module, created before the network.

    Args:
        device_mesh: `keras.distribution.DeviceMesh` with a batch axis first, and an axis named `model_axis`.
        model_axis: name of the axis that weights are split over. Default "model".
        auto_shard_dataset: as in `ModelParallel`. Default False: each process feeds its own rows.

    Raises:
        ValueError: a mesh without that axis.
    """

    def __init__(self, device_mesh, model_axis="model", auto_shard_dataset=False):
        self._parts, self._model_axis = _axis_size(device_mesh, model_axis), model_axis
        super().__init__(layout_map=keras.distribution.LayoutMap(device_mesh), auto_shard_dataset=auto_shard_dataset)

    def get_variable_layout(self, variable):
        axis = split_axis(variable.path, variable.shape, self._parts)
        if getattr(variable, "_layout", None) is not None or axis is None:
            return super().get_variable_layout(variable)
        return keras.distribution.TensorLayout(_axes(variable.shape, axis, self._model_axis), self.device_mesh)


def _axes(shape, axis, name):
    return tuple(name if i == axis else None for i in range(len(shape)))


def _axis_size(device_mesh, name):
    if name not in device_mesh.axis_names:
        raise ValueError(
            f"The device mesh needs an axis {name!r} to split weights over. Received: axes "
            f"{tuple(device_mesh.axis_names)}"
        )
    return device_mesh.shape[list(device_mesh.axis_names).index(name)]
