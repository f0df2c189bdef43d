"""The networks of `keras.applications` as feature extractors."""

import keras

from keras_diffusion.configs.checks import check_whole, did_you_mean, shown
from keras_diffusion.metrics.extractors.extractor import EXTRACTORS, config_of
from keras_diffusion.metrics.extractors.models import PreparedExtractor
from keras_diffusion.metrics.extractors.preprocessing import Preprocessing, three_channels, to_bytes


@EXTRACTORS.register("applications")
class ApplicationsExtractor(PreparedExtractor):
    """A network of `keras.applications`, without its classes: the mean of its last feature maps.

    Weights of ImageNet come from Keras, which downloads them once. None of these networks is the one of FID.

    Args:
        network: name of a class of `keras.applications`, such as "ConvNeXtTiny", "EfficientNetV2B0", "MobileNetV2",
            "ResNet50".
        weights: "imagenet", which Keras downloads; the path of a `.weights.h5` of the network without its top; or None
            (default) for random weights, which tell little apart.
        convention: how pictures are resized: "clean" (default), "torch-fidelity", "tensorflow" or "pytorch".
        size: height and width of what the network sees. Default 224.
        batch_size: pictures at a time. Default 32.

    Raises:
        ValueError: an unknown network, or weights that are not there.

    Example:

    >>> extractor = kd.metrics.get_extractor("applications", network="MobileNetV2", weights="imagenet")
    >>> extractor(images).shape
    (16, 1280)

    Reference:
        https://keras.io/api/applications/
    """

    def __init__(self, network, weights=None, convention="clean", size=224, batch_size=32):
        check_whole("size", size, 1)
        make, own = _application(network)
        self._set_preprocessing(Preprocessing(convention, size))
        self._own = own
        self.network = make(weights=weights, include_top=False, pooling="avg", input_shape=(size, size, 3))
        self.network.trainable = False
        self.width, self.name = int(self.network.output_shape[-1]), network

    def prepare(self, images):
        # Rounded, resized, and then as the network's own function wants 0…255.
        return self._own(self._prepared(three_channels(to_bytes(images))), data_format="channels_last")

    def description(self):
        return {**super().description(), **config_of(self, "size")}


def _application(name):
    """The function that makes a network, and the one that prepares its pictures, from NumPy to NumPy."""
    rooms = {room: getattr(keras.applications, room) for room in dir(keras.applications) if room.islower()}
    homes = {}
    for room in rooms.values():
        makers = (key for key in dir(room) if key[0].isupper() and callable(getattr(room, key)))
        homes.update({key: room for key in makers if hasattr(room, "preprocess_input")})
    if name not in homes:
        raise ValueError(
            f"Unknown network: {shown(name)}. `keras.applications` has {', '.join(sorted(homes))}."
            f"{did_you_mean(name, homes)} Received: network={shown(name)}"
        )
    return getattr(homes[name], name), homes[name].preprocess_input
