"""Checkpoints of other systems: inspect, load, convert and export them.

    inspect(path)                           what a file holds
    load(path)                              network, noise schedule, predictor, normalizer
    convert(path, folder)                   writes it as a preset of this library
    export(model, folder)                   writes a model as a folder of diffusers
    save_lora, load_lora                    adapters in files of their own; see lora/
    load_text_to_image(folder, bpe_path)    Stable Diffusion from KerasCV's files: text to image

A file is opened by `containers/`, which knows formats, and understood by a family in `families/`, which knows networks.
docs/legacy.md lists both.
"""

import importlib

from keras_diffusion.checkpoints.conversion import convert
from keras_diffusion.checkpoints.export import export
from keras_diffusion.checkpoints.families import families
from keras_diffusion.checkpoints.inspection import Inspection, inspect
from keras_diffusion.checkpoints.loading import LoadedCheckpoint, load
from keras_diffusion.checkpoints.text_to_image import load_text_to_image
from keras_diffusion.containers import open_container
from keras_diffusion.containers.errors import CheckpointError

_LORA = ("load_lora", "save_lora")  # they live in lora/, which builds on this room

__all__ = [
    "CheckpointError",
    "Inspection",
    "LoadedCheckpoint",
    "convert",
    "export",
    "families",
    "inspect",
    "load",
    "load_lora",
    "load_text_to_image",
    "open_container",
    "save_lora",
]
__dir__ = __all__.copy


def __getattr__(name):
    if name in _LORA:
        return getattr(importlib.import_module("keras_diffusion.lora.files"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
