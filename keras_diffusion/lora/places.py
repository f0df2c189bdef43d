"""Which kernels of a model the adapters of a file are for.

Files name diffusers' modules, whose counterparts here checkpoints/families/diffusers/ knows, as for whole models. kohya
writes "_" in the place of "."; such a name is found by writing those of the model that way too.
"""

import math
from typing import Any, NamedTuple

from keras_diffusion.checkpoints.families.diffusers import Link, component_of_network
from keras_diffusion.checkpoints.transfer import some
from keras_diffusion.containers.errors import CheckpointError
from keras_diffusion.lora.network import LoRAMixin, dense_layers
from keras_diffusion.lora.pairs import split_name
from keras_diffusion.models.diffusion_model import DiffusionModel


class Place(NamedTuple):
    """The kernel that a module of a file means.

    Attributes:
        link: the `Link` of the kernel.
        number: of the modules that lie side by side in it, which one.
        path, layer: of the dense layer here; None for a convolution.
    """

    link: Link
    number: int
    path: str | None
    layer: Any


def parts_of(model):
    """The networks of a model that may take adapters.

    Args:
        model: `DiffusionModel`, network or text encoder.

    Returns:
        dict from parts, by diffusers' names ("unet", "text_encoder", else "network"), to lists of networks: one, or one
        and its average.

    Raises:
        ValueError: nothing that takes adapters.
    """
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
        raise ValueError(
            f"Adapters are for networks of this library, and models with one. Received: a {type(model).__name__}"
        )
    return parts


def places_of(network):
    """Where the adapters of a file belong in a network.

    Args:
        network: built network.

    Returns:
        dict from modules, by their names in files, to `Place`s.
    """
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


def assign_names(pairs, parts, alone, path):
    """Which pairs of a file are for which part of a model.

    Args:
        pairs: list of `Pair`.
        parts: as `parts_of` returns them.
        alone: whether adapters for parts that the model does not have may be left out.
        path: of the file, for messages.

    Returns:
        dict from parts to dicts from modules to `Pair`s.

    Raises:
        CheckpointError: modules or parts that the model does not have, or two adapters for a layer.
    """
    modules = {part: set(places_of(networks[0])) for part, networks in parts.items()}
    flat = {part: {name.replace(".", "_"): name for name in known} for part, known in modules.items()}
    names, unknown, others = {part: {} for part in parts}, [], set()
    for pair in pairs:
        told, module = split_name(pair.name)
        part = next(iter(parts)) if told is None else told
        if part not in parts:
            others.add(part)
            continue
        aliases = (module, f"{module}.0", f"text_model.{module}")  # old names of outputs, new ones of text encoders
        known = next((name for name in aliases if name in modules[part]), flat[part].get(module))
        if known is None:
            unknown.append(pair.name)
        elif known in names[part]:
            raise CheckpointError(
                f"A layer takes one adapter. Received two for {known}: {names[part][known].name}, {pair.name}.", path
            )
        else:
            names[part][known] = pair
    if unknown:
        raise CheckpointError(
            f"The file has adapters for {len(unknown)} modules (of {len(pairs)}) that this model does not have: "
            f"{some(unknown, 4)}. It was made for another network",
            path,
        )
    if others and not (alone and any(names.values())):
        raise CheckpointError(
            f"The file has adapters for parts that this model does not have: {', '.join(sorted(others))}. Received a "
            "model of: "
            f"{', '.join(parts)}. load_lora(model.network, …) takes the network's alone",
            path,
        )
    return names


def check_fits(pair, place, merge, path):
    """Checks that an adapter fits the kernel that it is for.

    Args:
        pair: `Pair` of the file.
        place: its `Place`.
        merge: whether it will be added to the kernel, which alone can be a convolution's.
        path: of the file, for messages.

    Raises:
        CheckpointError: matrices of other sizes, or a convolution that is not merged into.
    """
    if place.layer is None and not merge:
        raise CheckpointError(
            f"Adapters are for dense layers; this one is for a convolution: {pair.name}. "
            "Pass merge=True to add it to the kernel",
            path,
        )
    shape = tuple(place.link.variable.shape)
    kernel = place.link.kernel or (shape if len(shape) == 4 else (1, 1, *shape))
    inputs, outputs = math.prod(shape[:-1]), shape[-1] // len(place.link.names)
    window = pair.down.shape[2:] or (1, 1)
    if window != tuple(kernel[:2]) or math.prod(pair.down.shape[1:]) != inputs or pair.up.shape[0] != outputs:
        raise CheckpointError(
            f"The matrices of an adapter are (r, {inputs}) and ({outputs}, r) for "
            f"{place.link.variable.path}. Received: {tuple(pair.down.shape)} and {tuple(pair.up.shape)} for "
            f"{pair.name}. The file was made for another network",
            path,
        )
