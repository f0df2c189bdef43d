"""Containers: what tensors a file holds and how they are called, whoever wrote it and whatever network it is of.

A module per kind of file; importing it here puts it on the list that `open_container` tries.
"""

from keras_diffusion.containers.container import CONTAINERS, Container, SavedLayer, TensorInfo, open_container
from keras_diffusion.containers.diffusers_folder import DiffusersFolder
from keras_diffusion.containers.flax_msgpack import FlaxMsgpack
from keras_diffusion.containers.keras_archive import KerasArchive
from keras_diffusion.containers.keras_weights import KerasWeights
from keras_diffusion.containers.legacy_h5 import LegacyH5
from keras_diffusion.containers.nvlabs_pickle import NVlabsPickle
from keras_diffusion.containers.orbax_ocdbt import OrbaxOCDBT
from keras_diffusion.containers.safetensors import Safetensors
from keras_diffusion.containers.saved_model import SavedModel
from keras_diffusion.containers.sharded_weights import ShardedWeights
from keras_diffusion.containers.tensorflow_checkpoint import TensorFlowCheckpoint
from keras_diffusion.containers.torch_pickle import TorchPickle

__all__ = [
    "CONTAINERS",
    "Container",
    "DiffusersFolder",
    "FlaxMsgpack",
    "KerasArchive",
    "KerasWeights",
    "LegacyH5",
    "NVlabsPickle",
    "OrbaxOCDBT",
    "Safetensors",
    "SavedLayer",
    "SavedModel",
    "ShardedWeights",
    "TensorFlowCheckpoint",
    "TensorInfo",
    "TorchPickle",
    "open_container",
]
__dir__ = __all__.copy
