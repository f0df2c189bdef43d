"""Adapters (LoRA) in files of their own: write those of a model here, read those of diffusers, PEFT and kohya too.

    save_lora(model, "style.safetensors")      a few megabytes, which diffusers reads as well where it has the network
    load_lora(model, "style.safetensors")      on the same weights; or `merge=True`: straight into the kernels

How the tensors are called is in lora_file.py; which kernel a name of diffusers means is known from diffusers/, as for whole models.
"""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from keras_diffusion.checkpoints.containers import open_container
from keras_diffusion.checkpoints.containers.safetensors import write_safetensors
from keras_diffusion.checkpoints.diffusers import Link, component_of_network
from keras_diffusion.checkpoints.errors import CheckpointError
from keras_diffusion.checkpoints.lora_file import OWN_KEY, read_pairs, some, split_name
from keras_diffusion.layers.lora import LoRAMixin, dense_layers
from keras_diffusion.models.diffusion_model import DiffusionModel


class Place(NamedTuple):
    """The kernel that a module of a file means.

    Fields:
        link: the `Link` of the kernel.
        index: which of the modules that lie side by side in it.
        path, layer: of the dense layer here; None for a convolution.
    """

    link: Link
    index: int
    path: str | None
    layer: Any


def save_lora(model, path, weights="ema"):
    """Writes the adapters of a model, and nothing else, first under a temporary name.

    Networks that diffusers has get diffusers' names; B is written with α/r in it, so that every reader gets the same product.

    Args:
        model: `DiffusionModel`, `TextToImage` (the text encoder's adapters are written too, where it has some), a network or a text encoder.
        path: the file, `.safetensors`; an existing one is replaced.
        weights: "ema" (default), the average of a `DiffusionModel`, where there is one; or "raw".

    Returns:
        the path, as `pathlib.Path`.

    Raises:
        ValueError: a model without adapters; a path that does not end in ".safetensors"; unknown `weights`.

    Example:

    >>> model.enable_lora(8)
    >>> save_lora(model, "style.safetensors")
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"Adapters are written as .safetensors. Received: path={str(path)!r}")
    if weights not in ("ema", "raw"):
        raise ValueError(f"`weights` must be 'ema' or 'raw'. Received: weights={weights!r}")
    tensors, alphas = {}, {}
    for part, networks in _parts(model).items():
        for module, place in _places(networks[-1 if weights == "ema" else 0]).items():
            if place.layer is not None and place.layer.lora_enabled:
                name, layer = f"{part}.{module}", place.layer
                a, b = (ops.convert_to_numpy(variable) for variable in (layer.lora_kernel_a, layer.lora_kernel_b))
                b = np.split(b, len(place.link.names), axis=-1)[place.index] * np.float32(layer.lora_alpha / layer.lora_rank)
                kernel = place.link.kernel
                down = a.T if kernel is None else a.reshape(*kernel[:3], -1).transpose(3, 2, 0, 1)
                up = b.T if kernel is None else b.T[:, :, None, None]
                tensors[f"{name}.lora_A.weight"], tensors[f"{name}.lora_B.weight"] = map(np.ascontiguousarray, (down, up))
                alphas[name] = layer.lora_alpha
    if not tensors:
        raise ValueError(f"The model has no adapters to write. Received: a {type(model).__name__}. Call enable_lora(rank) first")
    write_safetensors(path, tensors, {OWN_KEY: json.dumps(alphas)})
    return path


def load_lora(model, path, scale=1.0, merge=False):
    """Reads adapters into a model: those of `save_lora`, and those of diffusers, PEFT and kohya.

    All other weights are frozen then, as after `enable_lora`. A model that has adapters of the same layers and ranks gets their values. All
    is checked before anything is changed.

    Args:
        model: `DiffusionModel`, `TextToImage`, a network or a text encoder. A network alone takes what the file has for it.
        path: the file.
        scale: factor on what the adapters add. Default 1.
        merge: True adds scale·(α/r)·A·B to the kernels, so that no adapters remain, and takes convolutions as well; several files can be
            added one after another. Default False.

    Returns:
        dict from the file's names of modules to paths of layers (with `merge`, of kernels).

    Raises:
        CheckpointError: a damaged file, modules that the model does not have, matrices that do not fit, adapters of convolutions without
            `merge`, or tensors that are no adapters.
        ValueError: a model with other adapters; a `scale` that is not finite.
        FileNotFoundError: nothing there.

    Example:

    >>> load_lora(model, "pytorch_lora_weights.safetensors", scale=0.8)
    >>> images = model.text_to_image("a lighthouse in the style of sks")
    """
    if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not math.isfinite(scale):
        raise ValueError(f"`scale` is a factor on what adapters add, a finite number. Received: scale={scale!r}")
    parts = _parts(model)
    with open_container(path) as container:
        pairs = read_pairs(container)
    names = _assign_names(pairs, parts, alone=not isinstance(model, DiffusionModel), path=path)
    matched, plans = {}, []
    for part, networks in parts.items():
        chosen = names[part]
        for network in networks if chosen else ():
            places = _places(network)
            for module, pair in chosen.items():
                _check(pair, places[module], merge, path)
                matched[pair.name] = places[module].link.variable.path if merge else places[module].path
            plans.append((network, _sums(chosen, places, scale) if merge else _layers(chosen, places, scale)))
    if merge:
        for _, sums in plans:
            for variable, value in sums:
                variable.assign(value)
        return matched
    tables = [(network, {path: (rank, alpha) for path, (rank, alpha, _, _) in layers.items()}) for network, layers in plans]
    for network, table in tables:
        _check_present(network, table)
    for network, table in tables:
        if not network.adapters:  # the average's come with the network's
            (model if network is getattr(model, "network", None) else network).add_adapters(table)
    for network, layers in plans:
        for layer_path, layer in dense_layers(network):
            if layer_path in layers:
                _, alpha, a, b = layers[layer_path]
                layer.lora_kernel_a.assign(a)
                layer.lora_kernel_b.assign(b * np.float32(alpha / layer.lora_alpha))
    return matched


def _parts(model):
    """Dict from the parts of a model, by diffusers' names of them, to their networks: one, or one and its average."""
    if isinstance(model, DiffusionModel):
        average = [] if model.average is None else [model.average.network]
        found = [[model.network, *average], [getattr(model, "text_encoder", None)]]
    else:
        found = [[model]]
    parts = {}
    for networks in found:
        if isinstance(networks[0], LoRAMixin):
            component = component_of_network(networks[0])
            parts["network" if component is None else component.folder] = networks
    if not parts:
        raise ValueError(f"Adapters are for networks of this library, and models with one. Received: a {type(model).__name__}")
    return parts


def _places(network):
    """Dict from modules, by their names in files, to `Place`s."""
    layers = list(dense_layers(network))
    component = component_of_network(network)
    if component is None:
        return {path.replace("/", "."): Place(Link(layer._kernel, (path,)), 0, path, layer) for path, layer in layers}
    known = {id(layer._kernel): (path, layer) for path, layer in layers}
    return {
        name.removesuffix(".weight"): Place(link, i, *known.get(id(link.variable), (None, None)))
        for link in component.links(network, component.config(network))
        if link.variable.name == "kernel"
        for i, name in enumerate(link.names)
    }


def _assign_names(pairs, parts, alone, path):
    """For each part, a dict from modules to the pairs of the file that are for them."""
    modules = {part: {name: name for name in _places(networks[0])} for part, networks in parts.items()}
    flat = {part: {name.replace(".", "_"): name for name in known} for part, known in modules.items()}
    names, unknown, others = {part: {} for part in parts}, [], set()
    for pair in pairs:
        told, module = split_name(pair.name)
        part = next(iter(parts)) if told is None else told
        if part not in parts:
            others.add(part)
            continue
        known = modules[part].get(module) or flat[part].get(module)
        if known is None:
            unknown.append(pair.name)
        elif known in names[part]:
            raise CheckpointError(f"A layer takes one adapter. Received two for {known}: {names[part][known].name}, {pair.name}.", path)
        else:
            names[part][known] = pair
    if unknown:
        raise CheckpointError(
            f"The file has adapters for {len(unknown)} modules (of {len(pairs)}) that this model does not have: {some(unknown)}. It was "
            "made for another network",
            path,
        )
    if others and not (alone and any(names.values())):
        raise CheckpointError(
            f"The file has adapters for parts that this model does not have: {', '.join(sorted(others))}. Received a model of: "
            f"{', '.join(parts)}. load_lora(model.network, …) takes the network's alone",
            path,
        )
    return names


def _check(pair, place, merge, path):
    if place.layer is None and not merge:
        raise CheckpointError(
            f"Adapters are for dense layers; this one is for a convolution: {pair.name}. Pass merge=True to add it to the kernel", path
        )
    shape = tuple(place.link.variable.shape)
    kernel = place.link.kernel or (shape if len(shape) == 4 else (1, 1, *shape))
    inputs, outputs = math.prod(shape[:-1]), shape[-1] // len(place.link.names)
    window = pair.down.shape[2:] or (1, 1)
    if window != tuple(kernel[:2]) or math.prod(pair.down.shape[1:]) != inputs or pair.up.shape[0] != outputs:
        raise CheckpointError(
            f"The matrices of an adapter are (r, {inputs}) and ({outputs}, r) for {place.link.variable.path}. Received: "
            f"{tuple(pair.down.shape)} and {tuple(pair.up.shape)} for {pair.name}. The file was made for another network",
            path,
        )


def _check_present(network, table):
    present = {path: rank for path, (rank, _) in network.adapters.items()}
    wanted = {path: rank for path, (rank, _) in table.items()}
    if present and present != wanted:
        raise ValueError(
            f"A model takes the adapters of one file. Received a model with {len(present)} adapters, and a file with {len(wanted)}, of "
            "other layers or ranks. Call merge_lora() to keep those, remove_lora() to drop them, or pass merge=True"
        )


def _matrices(pair):
    """A (in, r) and B (r, out)."""
    down = pair.down.transpose(2, 3, 1, 0) if pair.down.ndim == 4 else pair.down.T
    return down.reshape(-1, down.shape[-1]), pair.up.reshape(pair.up.shape[:2]).T


def _by_kernel(chosen, places):
    """For each kernel, the places in it and their pairs."""
    groups = {}
    for module, pair in chosen.items():
        groups.setdefault(id(places[module].link.variable), []).append((places[module], pair))
    return groups.values()


def _sums(chosen, places, scale):
    """Pairs of kernel and its value with the adapters added."""
    sums = []
    for group in _by_kernel(chosen, places):
        link = group[0][0].link
        value = ops.convert_to_numpy(ops.cast(link.variable, "float32")).astype("float64")
        parts = np.split(value, len(link.names), axis=-1)  # views of it
        for place, pair in group:
            a, b = _matrices(pair)
            parts[place.index] += scale * pair.strength * (a.astype("float64") @ b).reshape(parts[place.index].shape)
        sums.append((link.variable, value.astype("float32")))
    return sums


def _layers(chosen, places, scale):
    """Dict from paths of layers to (rank, alpha, A, B)."""
    layers = {}
    for group in _by_kernel(chosen, places):
        place, first = group[0]
        matrices = {p.index: (*_matrices(pair), pair.strength) for p, pair in group}
        a, count = matrices[place.index][0], len(place.link.names)
        shared = len(group) == count and all(np.array_equal(other, a) for other, _, _ in matrices.values())
        if shared:
            rank, alpha = a.shape[1], first.alpha
            b = np.concatenate([matrices[i][1] * np.float32(scale * matrices[i][2] * rank / alpha) for i in range(count)], axis=1)
        else:
            # Queries, keys and values have an A each, and one kernel here: side by side, each before its own part of the output.
            a = np.concatenate([matrices[i][0] for i in sorted(matrices)], axis=1)
            rank = alpha = a.shape[1]
            b, row, width = np.zeros((rank, place.layer.units), "float32"), 0, place.layer.units // count
            for i in sorted(matrices):
                part, strength = matrices[i][1:]
                b[row : row + len(part), i * width : (i + 1) * width] = part * np.float32(scale * strength)
                row += len(part)
        layers[place.path] = (rank, alpha, a, b)
    return layers
