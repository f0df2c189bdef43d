"""Containers: what tensors a file holds and how they are called, whoever wrote it and whatever network it is of.

A module per kind of file; importing it here puts it on the list that `open_container` tries.
"""

from keras_diffusion.checkpoints.containers.container import CONTAINERS, Container, SavedLayer, TensorInfo, open_container
from keras_diffusion.checkpoints.containers.keras_archive import KerasArchive
from keras_diffusion.checkpoints.containers.keras_weights import KerasWeights
from keras_diffusion.checkpoints.containers.legacy_h5 import LegacyH5
from keras_diffusion.checkpoints.containers.saved_model import SavedModel
from keras_diffusion.checkpoints.containers.tensorflow_checkpoint import TensorFlowCheckpoint

__all__ = [
    "CONTAINERS",
    "Container",
    "KerasArchive",
    "KerasWeights",
    "LegacyH5",
    "SavedLayer",
    "SavedModel",
    "TensorFlowCheckpoint",
    "TensorInfo",
    "open_container",
]
