"""Checks a config from a file, down to its last leaf, without importing or creating anything it names.

The result is a rewritten config, in which Keras finds classes where plain_classes.py says, not where the file does.
It has no `compile_config`, which would bring in losses and metrics.
"""

import inspect
import re

import keras
import numpy as np

from keras_diffusion.configs.checks import shown
from keras_diffusion.configs.file_paths import inside
from keras_diffusion.configs.plain_classes import is_activation, keras_home, own_object

_DTYPE = re.compile(r"bool|u?int(8|16|32|64)|b?float(16|32|64)|complex(64|128)")
_DEPTH = 400


class ConfigChecker:
    """Walks through a config and rewrites it.

    Args:
        custom: the caller's objects, by name.
        folder: the folder that paths may point into, or None.
    """

    def __init__(self, custom, folder):
        self.custom, self.folder = custom, folder

    def value(self, value, where, depth=0):
        """Any value of a config."""
        if depth > _DEPTH:
            raise ValueError("A config is nested too deeply.")
        if isinstance(value, dict):
            if "class_name" in value:
                return self.node(value, where, depth)
            return {
                self._key(key, where): self.value(child, f"{where}.{key}", depth + 1) for key, child in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self.value(child, f"{where}[{i}]", depth + 1) for i, child in enumerate(value)]
        if isinstance(value, str):
            return self._text(value, where)
        return value

    def node(self, node, where, depth=0):
        """A dict that stands for an object."""
        if not isinstance(node, dict) or not isinstance(node.get("class_name"), str):
            raise ValueError(
                "An object is described by a dict with its class name and config. Received: "
                f"{_short(where)}={shown(node)}"
            )
        name = node["class_name"]
        if name.startswith("__"):
            return self._special(name, node.get("config"), where, depth)
        if name == "function":
            return self._function(node, where)
        found = self._class(node, where)
        inner = {} if node.get("config") is None else node["config"]
        if not isinstance(inner, dict) or "class_name" in inner:
            raise ValueError(
                f"The config of a class is a dict of its arguments. Received: {_short(where)}.config={shown(inner)}"
            )
        found["config"] = self._with_paths(found, self.value(inner, where, depth + 1), where)
        if isinstance(node.get("build_config"), dict):
            found["build_config"] = _data(node["build_config"], f"{where}.build_config")
        # Functional models add these to each layer.
        if isinstance(node.get("name"), str):
            found["name"] = node["name"]
        if "inbound_nodes" in node:
            found["inbound_nodes"] = self._calls(node["inbound_nodes"], f"{where}.inbound_nodes", depth + 1)
        if isinstance(node.get("shared_object_id"), int):
            found["shared_object_id"] = node["shared_object_id"]
        return found

    def _class(self, node, where):
        """The class that a node names, in the form in which Keras looks it up."""
        module, name, registered = node.get("module"), node["class_name"], node.get("registered_name")
        own = next((key for key in (registered, name) if isinstance(key, str) and key in self.custom), None)
        if own is not None:
            return {"module": None, "class_name": name, "registered_name": own}
        if inspect.isclass(own_object(registered)):
            return {"module": None, "class_name": name, "registered_name": registered}
        home = keras_home(module, name)
        if home is not None and registered in (None, name):
            return {"module": home, "class_name": name, "registered_name": None}
        raise ValueError(_refused("class", registered if registered not in (None, name) else name, module, where))

    def _function(self, node, where):
        module, name = node.get("module"), node.get("config")
        if not isinstance(name, str):
            raise ValueError(f"A function is described by its name. Received: {_short(where)}={shown(name)}")
        if name not in self.custom and inspect.isclass(own_object(name)):
            raise ValueError(f"A function is needed here, not a class. Received: {_short(where)}={shown(name)}")
        if name in self.custom or own_object(name) is not None:
            return {"module": None, "class_name": "function", "config": name, "registered_name": name}
        if is_activation(module, name):
            return {"module": "builtins", "class_name": "function", "config": name, "registered_name": "function"}
        raise ValueError(_refused("function", name, module, where))

    def _special(self, name, inner, where, depth):
        """Values that JSON cannot express, as Keras writes them."""
        made = {"class_name": name, "config": inner}
        match name, inner:
            case "__keras_tensor__", {
                "shape": shape,
                "dtype": str(dtype),
                "keras_history": [str(), int(), int()] as history,
            }:
                if _DTYPE.fullmatch(dtype):
                    return {
                        **made,
                        "config": {"shape": _data(shape, where), "dtype": dtype, "keras_history": list(history)},
                    }
            case (("__tensor__" | "__numpy__"), {"value": value, "dtype": str(dtype)}):
                if _DTYPE.fullmatch(dtype) and _numbers(value):
                    return {**made, "config": {"value": value, "dtype": dtype}}
            case "__bytes__", {"value": str(value)}:
                return {**made, "config": {"value": value}}
            case "__ellipsis__", _:
                return {"class_name": name, "config": {}}
            case "__slice__", {"start": _, "stop": _, "step": _}:
                return {
                    **made,
                    "config": {key: self.value(inner[key], where, depth + 1) for key in ("start", "stop", "step")},
                }
        raise ValueError(
            "Besides JSON, a config may hold tensors, arrays, slices and bytes, but no code. "
            f"Received: {shown(name)} in {_short(where)}"
        )

    def _calls(self, nodes, where, depth):
        """The calls of a layer in a functional model.

        Each has a symbolic input, or Keras would run the layer while loading.
        """
        if not isinstance(nodes, list):
            raise ValueError(f"The calls of a layer are a list. Received: {_short(where)}={shown(nodes)}")
        calls = []
        for i, node in enumerate(nodes):
            symbolic = (
                isinstance(node, dict)
                and {"args", "kwargs"} <= set(node)
                and "class_name" not in node
                and _has_tensor(node)
            )
            if not symbolic and not (isinstance(node, list) and node and all(isinstance(part, list) for part in node)):
                raise ValueError(
                    f"A call of a layer has inputs from other layers. Received: {_short(where)}[{i}]={shown(node)}"
                )
            calls.append(self.value(node, f"{where}[{i}]", depth + 1))
        return calls

    def _text(self, text, where):
        registered = text in keras.saving.get_custom_objects() and text not in self.custom
        if registered and (inspect.isclass(keras.saving.get_registered_object(text)) or own_object(text) is None):
            raise ValueError(_refused("object", text, None, where))
        return text

    def _key(self, key, where):
        if not isinstance(key, str):
            raise ValueError(f"The keys of a config are strings. Received: {shown(key)} in {_short(where)}")
        return key

    def _with_paths(self, found, arguments, where):
        """The arguments of a class, with its paths resolved."""
        cls = own_object(found["registered_name"])
        for name in getattr(cls, "path_arguments", ()):
            if found["registered_name"] not in self.custom and arguments.get(name) is not None:
                arguments[name] = inside(self.folder, arguments[name], f"{where}.{name}")
        return arguments


def _refused(kind, name, module, where):
    of = f" of the module {shown(module)}" if isinstance(module, str) and not module.startswith("builtins") else ""
    key = name if isinstance(name, str) and len(name) < 200 else "package>Name"
    given = key.split(">")[-1]
    return (
        "A config from a file makes only classes of this library and plain ones of Keras; no code of others is "
        "imported or run. "
        f"Received: the {kind} {shown(name)}{of}, in {_short(where)}. If you trust it, pass it yourself: "
        f"custom_objects={{{key!r}: {given if given.isidentifier() else 'it'}}}"
    )


def _data(value, where):
    """A value that names no classes, such as a shape."""
    if isinstance(value, dict):
        if "class_name" in value:
            raise ValueError(f"A shape is needed here, not an object. Received: {_short(where)}={shown(value)}")
        return {str(key): _data(child, where) for key, child in value.items()}
    return [_data(child, where) for child in value] if isinstance(value, (list, tuple)) else value


def _numbers(value):
    """Whether a value is a number, or lists of them."""
    if isinstance(value, list):
        return all(map(_numbers, value))
    return isinstance(value, (bool, int, float, np.generic)) or (
        isinstance(value, np.ndarray) and value.dtype != object
    )


def _has_tensor(value):
    if isinstance(value, dict):
        return value.get("class_name") == "__keras_tensor__" or any(map(_has_tensor, value.values()))
    return isinstance(value, list) and any(map(_has_tensor, value))


def _short(where):
    """The end of a place in a config, which may be long."""
    return where if len(where) <= 120 else f"…{where[-120:]}"
