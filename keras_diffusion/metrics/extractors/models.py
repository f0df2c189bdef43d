"""Any Keras model and any function as a feature extractor."""

import os

import keras
import numpy as np

from keras_diffusion.configs.checks import check_text, shown
from keras_diffusion.metrics.extractors.extractor import EXTRACTORS, Extractor, config_of
from keras_diffusion.metrics.extractors.preprocessing import Preprocessing, to_floats


class PreparedExtractor(Extractor):
    """Base class of extractors whose pictures are resized only where `preprocessing` says so."""

    def prepare(self, images):
        return to_floats(images) if self._prepared is None else self._prepared(images)

    def _set_preprocessing(self, preprocessing):
        """`preprocessing` as the constructor got it, and its name."""
        if not (preprocessing is None or callable(preprocessing)):
            raise ValueError(
                "`preprocessing` is a function from pictures to what the network sees, such as "
                "Preprocessing('clean', 224, 'imagenet'), or None for float32 pictures in [-1, 1] as they are. "
                f"Received: preprocessing={shown(preprocessing)}"
            )
        self._prepared = preprocessing
        own = preprocessing is None or isinstance(preprocessing, Preprocessing)
        name = getattr(preprocessing, "name", "none") if own else getattr(preprocessing, "__name__", "own")
        self.preprocessing = name

    def description(self):
        config = self._prepared.get_config() if isinstance(self._prepared, Preprocessing) else None
        return {**super().description(), "config": config}


@EXTRACTORS.register("keras")
class KerasExtractor(PreparedExtractor):
    """A Keras model, or one of its layers.

    Feature maps `(B, H, W, C)` become their means `(B, C)`.

    Args:
        model: Keras model that takes pictures.
        layer: name of the layer whose output is taken; None (default) for the model's own output.
        classes: whether the model's own output are scores of classes, the logits. Default False. Layers and classes
            need a functional or a sequential model.
        preprocessing: None (default) for float32 pictures in [−1, 1] as they are, a `Preprocessing`, or a function of
            the batch.
        name: what it is called in tables; None (default) for the model's name.
        batch_size: pictures at a time. Default 128.

    Raises:
        ValueError: a layer that the model does not have; an output that is no vector and no feature map.

    Example:

    >>> model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(5, name="five")])
    >>> extractor = kd.metrics.get_extractor(model)
    >>> extractor(np.zeros((3, 8, 8, 1))).shape
    (3, 5)
    """

    def __init__(self, model, layer=None, classes=False, preprocessing=None, name=None, batch_size=128):
        self._set_preprocessing(preprocessing)
        self.name = check_text("name", name, optional=True) or model.name
        outputs = _outputs_of(model, needed=layer is not None or classes)
        if outputs is None:  # a class of its own, without a graph: vectors or maps are seen when it is called
            self.network, self.width = model, None
            return
        features = outputs if layer is None else _layer(model, layer).output
        self.network = keras.Model(model.inputs[0], _named(features, outputs if classes else None))
        self.width = int(self.network.output["features"].shape[-1])
        self.num_classes = int(outputs.shape[-1]) if classes else None

    def run(self, batch):
        found = super().run(batch)
        features = found["features"]
        features = features.mean(axis=(1, 2)) if features.ndim == 4 else features
        self.width = int(features.shape[-1])
        return {**found, "features": features}

    def description(self):
        return {**super().description(), **config_of(self, "layer")}


@EXTRACTORS.register("function")
class FunctionExtractor(PreparedExtractor):
    """A function from pictures to vectors.

    Args:
        function: from a batch `(B, H, W, C)`, float32 in [−1, 1], to `(B, width)`, arrays or tensors. It runs as it
            is, uncompiled.
        width: length of the vectors; None (default): it is learnt from the first call.
        name: what it is called in tables; None (default) for the function's name.
        version: text that changes whenever the function does. Stored features are found again by it; None (default)
            for features that are not found again by another process.
        preprocessing: as in `KerasExtractor`.
        batch_size: pictures at a time. Default 128.

    Example:

    >>> def mean_colour(images):
    ...     return images.mean(axis=(1, 2))
    >>> kd.metrics.get_extractor(mean_colour)(np.zeros((3, 8, 8, 3))).shape
    (3, 3)
    """

    def __init__(self, function, width=None, name=None, version=None, preprocessing=None, batch_size=128):
        if not callable(function):
            raise ValueError(f"A function of pictures is needed. Received: function={shown(function)}")
        self._set_preprocessing(preprocessing)
        self.name = check_text("name", name, optional=True) or getattr(function, "__name__", "function")
        self._own = check_text("version", version, optional=True) or os.urandom(8).hex()

    def run(self, batch):
        features = keras.ops.convert_to_numpy(self.function(batch))
        self.width = int(np.shape(features)[-1]) if self.width is None else self.width
        return {"features": features}

    def description(self):
        return {**super().description(), "version": self._own}

    def weight_arrays(self):
        return ()


def _layer(model, name):
    try:
        return model.get_layer(name)
    except ValueError:
        names = ", ".join(layer.name for layer in model.layers[-8:])
        raise ValueError(f"The model has no layer {shown(name)}. Its last ones: {names}") from None


def _outputs_of(model, needed):
    """The output of a model's graph; None for a model without a graph, where none is `needed`."""
    outputs = getattr(model, "outputs", None)
    if not outputs:
        if needed:
            raise ValueError(
                "Layers and classes are found in functional and sequential models that are built. Received: "
                f"{type(model).__name__}. Pass a function of pictures instead"
            )
        return None
    if len(outputs) > 1 or len(model.inputs) > 1:
        raise ValueError(
            f"A model with one input and one output is needed. Received: {len(model.inputs)} inputs, {len(outputs)} "
            "outputs. Make a model of one of each: keras.Model(model.inputs[0], model.outputs[0])"
        )
    return outputs[0]


def _named(features, logits):
    """The outputs of the network, feature maps averaged."""
    if isinstance(features, (list, tuple, dict)) or len(features.shape) not in (2, 4):
        shape = getattr(features, "shape", type(features).__name__)
        raise ValueError(
            f"Features are vectors (B, C) or maps (B, H, W, C). Received: {shape}. Name another layer: layer=…"
        )
    if len(features.shape) == 4:
        features = keras.layers.GlobalAveragePooling2D(name="mean_of_features", data_format="channels_last")(features)
    return {"features": features} if logits is None else {"features": features, "logits": logits}
