"""Adapters (LoRA) in files of their own: write those of a model here, read those of diffusers, PEFT and kohya too.

    save_lora(model, "style.safetensors")      a few megabytes, which diffusers reads as well where it has the network
    load_lora(model, "style.safetensors")      on the same weights; or `merge=True`: straight into the kernels

How the tensors are called is in pairs.py, which kernels they are for in places.py.
"""

import json
from pathlib import Path

import numpy as np
from keras import ops

from keras_diffusion.configs.checks import check_choice, check_number
from keras_diffusion.containers import open_container
from keras_diffusion.containers.safetensors import write_safetensors
from keras_diffusion.lora.network import dense_layers
from keras_diffusion.lora.pairs import OWN_KEY, read_pairs
from keras_diffusion.lora.places import assign_names, check_fits, parts_of, places_of
from keras_diffusion.models.diffusion_model import DiffusionModel
from keras_diffusion.runtime.finite import check_finite_arrays


def save_lora(model, path, weights="ema"):
    """Writes the adapters of a model, and nothing else, first under a temporary name.

    Networks that diffusers has get diffusers' names; B is written with α/r in it, so that every reader gets the same
    product.

    Args:
        model: `DiffusionModel`, `TextToImage` (with the text encoder's adapters, where it has some), a network or a
            text encoder.
        path: the file, `.safetensors`; an existing one is replaced.
        weights: "ema" (default), the average of a `DiffusionModel`, where there is one; or "raw".

    Returns:
        the path, as `pathlib.Path`.

    Raises:
        ValueError: a model without adapters; a path that does not end in ".safetensors"; unknown `weights`.
        FloatingPointError: adapters that are NaN or infinite; a file that is there stays.

    Example:

    >>> model.enable_lora(8)
    >>> save_lora(model, "style.safetensors")
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"Adapters are written as .safetensors. Received: path={str(path)!r}")
    check_choice("weights", weights, ("ema", "raw"), "`weights` must be 'ema' or 'raw'")
    networks = {part: found[-1 if weights == "ema" else 0] for part, found in parts_of(model).items()}
    adapted = {
        f"{part}.{module}": place
        for part, network in networks.items()
        for module, place in places_of(network).items()
        if place.layer is not None and place.layer.lora_enabled
    }
    if not adapted:
        raise ValueError(
            f"The model has no adapters to write. Received: a {type(model).__name__}. Call enable_lora(rank) first"
        )
    tensors = {name: array for module, place in adapted.items() for name, array in _tensors(module, place)}
    check_finite_arrays(tensors, f"The file {str(path)!r}")
    alphas = {module: place.layer.lora_alpha for module, place in adapted.items()}
    write_safetensors(path, tensors, {OWN_KEY: json.dumps(alphas)})
    return path


def _tensors(module, place):
    """Pairs (name, array) of one module, as files have them: B with α/r in it."""
    layer, kernel = place.layer, place.link.kernel
    a, b = (ops.convert_to_numpy(variable) for variable in (layer.lora_kernel_a, layer.lora_kernel_b))
    b = np.split(b, len(place.link.names), axis=-1)[place.number] * np.float32(layer.lora_alpha / layer.lora_rank)
    down, up = a.T, b.T
    if kernel is not None:  # a convolution there
        down, up = a.reshape(*kernel[:3], -1).transpose(3, 2, 0, 1), up[:, :, None, None]
    halves = {"lora_A": down, "lora_B": up}
    return [(f"{module}.{half}.weight", np.ascontiguousarray(array)) for half, array in halves.items()]


def load_lora(model, path, scale=1.0, merge=False):
    """Reads adapters into a model: those of `save_lora`, and those of diffusers, PEFT and kohya.

    All other weights are frozen then, as after `enable_lora`. A model that has adapters of the same layers and ranks
    gets their values. All is checked before anything is changed.

    Args:
        model: `DiffusionModel`, `TextToImage`, a network or a text encoder. A network alone takes what the file has for
            it.
        path: the file.
        scale: factor on what the adapters add. Default 1.
        merge: True adds scale·(α/r)·A·B to the kernels, so that no adapters remain, and takes convolutions as well;
            several files can be added one after another. Default False.

    Returns:
        dict from the file's names of modules to paths of layers (with `merge`, of kernels).

    Raises:
        CheckpointError: a damaged file, modules that the model does not have, matrices that do not fit, adapters of
            convolutions without `merge`, or tensors that are no adapters.
        ValueError: a model with other adapters; a `scale` that is not finite.
        FileNotFoundError: nothing there.

    Example:

    >>> load_lora(model, "pytorch_lora_weights.safetensors", scale=0.8)
    >>> images = model.text_to_image("a lighthouse in the style of sks")
    """
    check_number("scale", scale, rule="`scale` is a factor on what adapters add, a finite number")
    parts = parts_of(model)
    with open_container(path) as container:
        pairs = read_pairs(container)
    names = assign_names(pairs, parts, alone=not isinstance(model, DiffusionModel), path=path)
    matched, plans = {}, []
    for part, networks in parts.items():
        chosen = names[part]
        for network in networks if chosen else ():
            places = places_of(network)
            for module, pair in chosen.items():
                check_fits(pair, places[module], merge, path)
                matched.setdefault(pair.name, places[module].link.variable.path if merge else places[module].path)
            plans.append((network, _sums(chosen, places, scale) if merge else _layers(chosen, places, scale)))
    if merge:
        for _, sums in plans:
            for variable, value in sums:
                variable.assign(value)
        return matched
    tables = [(network, {place: layer[:2] for place, layer in layers.items()}) for network, layers in plans]
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


def _check_present(network, table):
    present = {path: rank for path, (rank, _) in network.adapters.items()}
    wanted = {path: rank for path, (rank, _) in table.items()}
    if present and present != wanted:
        raise ValueError(
            f"A model takes the adapters of one file. Received a model with {len(present)} adapters, and a "
            f"file with {len(wanted)}, of other layers or ranks. Call merge_lora() to keep those, "
            "remove_lora() to drop them, or pass merge=True"
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
            parts[place.number] += scale * pair.strength * (a.astype("float64") @ b).reshape(parts[place.number].shape)
        sums.append((link.variable, value.astype("float32")))
    return sums


def _layers(chosen, places, scale):
    """Dict from paths of layers to (rank, alpha, A, B)."""
    layers = {}
    for group in _by_kernel(chosen, places):
        place, first = group[0]
        matrices = {p.number: (*_matrices(pair), pair.strength) for p, pair in group}
        a, count = matrices[place.number][0], len(place.link.names)
        shared = len(group) == count and all(np.array_equal(other, a) for other, _, _ in matrices.values())
        if shared:
            rank, alpha = a.shape[1], first.alpha
            b = np.concatenate(
                [matrices[i][1] * np.float32(scale * matrices[i][2] * rank / alpha) for i in range(count)], axis=1
            )
        else:
            # Queries, keys and values have an A each, and one kernel here: side by side, each before its own part of
            # the output.
            a = np.concatenate([matrices[i][0] for i in sorted(matrices)], axis=1)
            rank = alpha = a.shape[1]
            b, row, width = np.zeros((rank, place.layer.units), "float32"), 0, place.layer.units // count
            for i in sorted(matrices):
                part, strength = matrices[i][1:]
                b[row : row + len(part), i * width : (i + 1) * width] = part * np.float32(scale * strength)
                row += len(part)
        layers[place.path] = (rank, alpha, a, b)
    return layers
