"""The config of EDM's networks, from names, shapes and the arguments in the file."""

import re

import numpy as np

from keras_diffusion.checkpoints.families.agreement import check_known, must_agree
from keras_diffusion.checkpoints.families.openai.config import numbers, whole
from keras_diffusion.containers.errors import CheckpointError

PRECONDITIONS = ("EDMPrecond", "VPPrecond", "VEPrecond", "iDDPMPrecond")
_FIRST = re.compile(r"model\.enc\.(\d+)x\1_conv\.weight")
# What shapes do not tell, with the defaults of EDM's classes.
_FREE = {
    **{"class_name": None, "dropout": 0.0, "label_dropout": 0.0, "sigma_data": 0.5},
    **{"beta_d": 19.9, "beta_min": 0.1, "M": 1000, "C_1": 0.001, "C_2": 0.008, "sigma_min": None, "sigma_max": None},
}
_SIGMAS = {"VEPrecond": (0.02, 100.0)}
_NEEDLESS = {"use_fp16", "epsilon_t"}


def read_structure(tensors, container, root):
    """The arguments that names and shapes tell, a dict in EDM's words.

    Args:
        tensors: `Tensors` of the network.
        container: the opened checkpoint, from which the resampling filter is read.
        root: the network's root in it.

    Raises:
        CheckpointError: blocks that lie otherwise than in EDM's networks, or parts that are not known here.
    """
    sizes = [int(match[1]) for match in map(_FIRST.fullmatch, tensors) if match]
    song = f"model.dec.{sizes[0]}x{sizes[0]}_aux_norm.weight" in tensors if sizes else False
    if not sizes or not (song or "model.out_norm.weight" in tensors):
        raise CheckpointError(
            "In a network of EDM the levels go by their sizes, enc.32x32_conv. The file has no such names.",
            container.path,
        )
    if any(name.endswith(("_aux_skip.weight", "_aux_up.resample_filter")) for name in tensors):
        raise CheckpointError(
            "Of the ways in which an image joins or leaves a network of EDM, encoder_type='standard' and 'residual' "
            "and decoder_type='standard' are known here. Received: names of 'skip'.",
            container.path,
        )
    size, levels = sizes[0], []
    while (block := f"model.enc.{size >> len(levels)}x{size >> len(levels)}_block0") + ".norm0.weight" in tensors:
        levels.append(block)
    if not levels or f"model.dec.{size >> len(levels) - 1}x{size >> len(levels) - 1}_in0.qkv.weight" not in tensors:
        raise CheckpointError(
            "A network of EDM has blocks at every level, and attention in the middle (in ADM, at 64 channels or "
            "more). Received: "
            f"{len(levels)} levels and {'no ' if levels else ''}attention in the middle.",
            container.path,
        )
    widths = [tensors.shape(f"{block}.conv1.weight")[0] for block in levels]
    first, noise = f"model.enc.{size}x{size}_conv.weight", tensors.shape("model.map_layer0.weight")
    channels = tensors.shape(first)[0] if song else noise[1]
    filters = sorted(name for name in tensors if name.endswith("_down.conv0.resample_filter"))
    label, augment = tensors.shape("model.map_label.weight"), tensors.shape("model.map_augment.weight")
    return {
        "model_type": "SongUNet" if song else "DhariwalUNet",
        "img_resolution": size,
        "img_channels": tensors.shape(first)[1],
        "out_channels": tensors.shape(f"model.dec.{size}x{size}_aux_conv.weight" if song else "model.out_conv.weight")[
            0
        ],
        "label_dim": label[1] if label else 0,
        "augment_dim": augment[1] if augment else 0,
        "model_channels": channels,
        "channel_mult": [whole(width / channels) for width in widths],
        "channel_mult_emb": whole(noise[0] / channels),
        "channel_mult_noise": whole(noise[1] / channels),
        "num_blocks": tensors.count(levels[0].removesuffix("0") + "{}."),
        "attn_resolutions": [size >> i for i, block in enumerate(levels) if f"{block}.qkv.weight" in tensors],
        "embedding_type": "fourier" if "model.map_noise.freqs" in tensors else "positional",
        "encoder_type": "residual" if any("_aux_residual." in name for name in tensors) else "standard",
        "decoder_type": "standard",
        "resample_filter": _taps(container.read(tensors.names(filters[0])[0]), container.path) if filters else [1, 1],
    }


def complete_config(structure, told, given, path):
    """The whole config; "assumed" has a sentence for what neither the file nor the user says.

    Args:
        structure: from `read_structure`.
        told: the arguments in the file, a dict with the class under "_class_name", or None.
        given: the user's, which stand above them.
        path: of the checkpoint, for errors.

    Raises:
        CheckpointError: arguments that are not EDM's or that the shapes contradict, or a class that is not known here.
    """
    told = dict(told or {})
    name = given.get("class_name", told.pop("_class_name", None))
    for source, arguments in (("in the file", told), ("in `config`", given)):
        words = f"Arguments {source} that EDM's networks do not have: {{unknown}}. Known: {{known}}."
        check_known(set(arguments) - _NEEDLESS, (*structure, *_FREE), words, path)
        for key, value in arguments.items():
            if key in structure:
                _compare(key, value, structure, path)
    if name is not None and name not in PRECONDITIONS:
        raise CheckpointError(
            f"A network of EDM is of a class {', '.join(PRECONDITIONS)}. Received: class_name={name!r}.", path
        )
    free = {key: value for key, value in {**told, **given}.items() if key in _FREE}
    config = {**structure, **_FREE, **free, "class_name": name or PRECONDITIONS[0]}
    low, high = _SIGMAS.get(config["class_name"], (0.0, float("inf")))
    config["sigma_min"] = low if config["sigma_min"] is None else config["sigma_min"]
    config["sigma_max"] = high if config["sigma_max"] is None else config["sigma_max"]
    outputs = config["img_channels"] * (2 if config["class_name"] == "iDDPMPrecond" else 1)
    if config["out_channels"] != outputs:
        raise CheckpointError(
            f"A network in a {config['class_name']} with {config['img_channels']} channels has {outputs} in its "
            "output. Received: "
            f"{config['out_channels']} (another class: config={{'class_name': …}}).",
            path,
        )
    config["assumed"] = (
        () if name else ("The file does not say how the network is preconditioned; assumed: class_name='EDMPrecond'.",)
    )
    return config


def _compare(key, value, structure, path):
    if key == "attn_resolutions":
        sizes = [structure["img_resolution"] >> i for i in range(len(structure["channel_mult"]))]
        value = [size for size in sizes if size in value]  # others have no effect
    value = {"resample_filter": _scaled, "channel_mult": numbers}.get(key, lambda value: value)(value)
    must_agree(key, value, structure[key], path)


def _taps(kernel, path):
    """The taps of a filter, of which the file has the product with itself."""
    taps = kernel[0, 0].astype("float64").sum(axis=1)
    if kernel.shape[:2] != (1, 1) or not np.allclose(np.outer(taps, taps), kernel[0, 0], atol=1e-6):
        raise CheckpointError("A resampling filter should act on rows and columns alike. The file has another.", path)
    return _scaled(taps)


def _scaled(taps):
    return [whole(round(float(tap), 4)) for tap in np.asarray(taps) / np.min(taps)]
