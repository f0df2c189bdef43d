"""Data: random-access sources and batches whose content depends on (seed, epoch, index) only."""

from keras_diffusion.data.array_record import ArrayRecordSource
from keras_diffusion.data.batches import Batches
from keras_diffusion.data.clips import ClipFolder
from keras_diffusion.data.hugging_face import HuggingFaceSource
from keras_diffusion.data.image_folder import ImageFolder
from keras_diffusion.data.inspection import Inspection, inspect
from keras_diffusion.data.latent_manifest import LatentManifest
from keras_diffusion.data.latent_shards import LatentShards
from keras_diffusion.data.loading import load, names
from keras_diffusion.data.non_leaking import NonLeaking
from keras_diffusion.data.packing import Packed, pack
from keras_diffusion.data.parquet import ParquetSource
from keras_diffusion.data.shapes import Shapes
from keras_diffusion.data.shapes_reader import check_shapes, read_shapes
from keras_diffusion.data.sources import ArraySource, Source, Subset
from keras_diffusion.data.streams import StreamBatches, StreamSource
from keras_diffusion.data.tar_shards import TarShards
from keras_diffusion.data.tfds import TFDSSource
from keras_diffusion.data.unlabelled import without_labels
from keras_diffusion.data.url_list import UrlList

__all__ = [
    "ArrayRecordSource",
    "ArraySource",
    "Batches",
    "ClipFolder",
    "HuggingFaceSource",
    "ImageFolder",
    "Inspection",
    "LatentManifest",
    "LatentShards",
    "NonLeaking",
    "Packed",
    "ParquetSource",
    "Shapes",
    "Source",
    "StreamBatches",
    "StreamSource",
    "Subset",
    "TFDSSource",
    "TarShards",
    "UrlList",
    "check_shapes",
    "inspect",
    "load",
    "names",
    "pack",
    "read_shapes",
    "without_labels",
]
__dir__ = __all__.copy
