"""What a feature extractor is: pictures go in, a vector for each of them comes out.

    images (N, H, W, C) ── batches ── preprocessing, on the host ── network ── features (N, width), logits (N, classes)

Distances between sets of pictures (`metrics.get("fd")` and others) are distances between their features: another
extractor, another preprocessing, other weights give other numbers. So an extractor has a name, and a fingerprint by
which stored features are found again.
"""

import hashlib
import json

import keras
import numpy as np
from keras import ops

from keras_diffusion.configs.arguments import ArgumentsMixin, config_value
from keras_diffusion.configs.checks import check_whole, shown
from keras_diffusion.configs.registry import Registry
from keras_diffusion.metrics.extractors.program import Program

EXTRACTORS = Registry("feature extractor", saved=False)
extractor_names = EXTRACTORS.functions(of="extractor")[1]

_SEVERAL = ("features", "logits")


@EXTRACTORS.base
class Extractor(ArgumentsMixin):
    """Base class of feature extractors. A subclass sets the attributes, and writes `prepare` and `network_of`.

    Memory is bounded by a batch, whose size never changes, so that nothing is compiled again: the last batch is filled
    up. A picture's features do not depend on the others in its batch.

    Args:
        batch_size: pictures at a time.

    Attributes:
        name: what it is called in tables.
        width: length of a feature vector.
        preprocessing: name of the convention by which pictures were resized, or "none".
        num_classes: length of the logits; None without a classifying head.

    Call arguments:
        images: `(N, H, W, C)`, uint8, or floats in [−1, 1].

    Returns:
        features, float32 `(N, width)`.

    Raises:
        ValueError: no pictures, another shape or type, NaN or infinity; features that are not finite.
    """

    name = "features"
    preprocessing = "none"
    width: int | None = None
    num_classes: int | None = None
    batch_size = 32

    def __call__(self, images):
        return self.extract(images)["features"]

    def logits(self, images):
        """Scores of the classes, without a softmax.

        Args:
            images: `(N, H, W, C)`, as in a call.

        Returns:
            float32 `(N, num_classes)`.

        Raises:
            ValueError: as a call; an extractor without classes.
        """
        return self.extract(images, ("logits",))["logits"]

    def extract(self, images, outputs=("features",)):
        """Features and logits in one pass.

        Args:
            images: `(N, H, W, C)`, as in a call.
            outputs: which of "features" and "logits".

        Returns:
            dict from these names to float32 arrays `(N, …)`.

        Raises:
            ValueError: as a call; logits of an extractor without classes.
        """
        images = check_images(images)
        if not set(outputs) <= set(_SEVERAL):
            raise ValueError(f"`outputs` are of {', '.join(_SEVERAL)}. Received: outputs={shown(outputs)}")
        if "logits" in outputs and self.num_classes is None:
            raise ValueError(
                f"Logits come from an extractor with classes. Received: {self!r}, which has features alone. Use "
                "another extractor, or a metric that needs none"
            )
        size = check_whole("batch_size", self.batch_size, 1)
        parts = [self._batch(images[start : start + size], size, outputs) for start in range(0, len(images), size)]
        return {key: np.concatenate([part[key] for part in parts]) for key in outputs}

    def fingerprint(self):
        """A hash of class, options and weights: 16 hexadecimal digits.

        Equal fingerprints mean equal features, up to rounding: stored ones are found by it.
        """
        if getattr(self, "_fingerprint", None) is None:
            digest = hashlib.sha256(json.dumps(self.description(), sort_keys=True, default=str).encode())
            for array in self.weight_arrays():
                digest.update(np.ascontiguousarray(array).tobytes())
            self._fingerprint = digest.hexdigest()[:16]
        return self._fingerprint

    def description(self):
        """What, beside the weights, the features depend on: a dict."""
        return {"class": type(self).__name__, "name": self.name, "preprocessing": self.preprocessing}

    def weight_arrays(self):
        """The weights as arrays, one after the other."""
        for variable in self.network.variables:
            yield ops.convert_to_numpy(variable)

    def prepare(self, images):
        """A batch as the network takes it; on the host, in NumPy.

        Args:
            images: checked ones, `(B, H, W, C)`.

        Returns:
            array.

        Raises:
            ValueError: pictures that the network cannot take.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement prepare(images)")

    def run(self, batch):
        """The network itself.

        Args:
            batch: what `prepare` returned.

        Returns:
            dict with the arrays "features" `(B, width)` and perhaps "logits" `(B, num_classes)`.
        """
        if getattr(self, "_program", None) is None:
            self._program = Program(self.network)
        result = self._program(batch)
        return result if isinstance(result, dict) else {"features": result}

    def _batch(self, images, size, outputs):
        count = len(images)
        if count < size:
            images = np.concatenate([images, np.repeat(images[:1], size - count, axis=0)])
        found = self.run(self.prepare(_finite(images)))
        return {key: _checked_output(key, np.asarray(found[key]), self)[:count] for key in outputs}

    def __repr__(self):
        return f"{type(self).__name__}(name={self.name!r}, width={self.width}, preprocessing={self.preprocessing!r})"


def config_of(extractor, *names):
    """A dict of some of an object's attributes, as JSON takes them; for `description`."""
    return {name: config_value(getattr(extractor, name)) for name in names}


def check_images(images):
    """`images` as an array `(N, H, W, C)` of uint8 or floats; ValueError for anything else."""
    images = ops.convert_to_numpy(images) if ops.is_tensor(images) else np.asarray(images)
    if images.ndim != 4 or not images.size or not (images.dtype == np.uint8 or images.dtype.kind == "f"):
        raise ValueError(
            "Features are of pictures (N, H, W, C), uint8 or floats in [-1, 1], of which there is at least one. "
            f"Received: shape {images.shape}, dtype {images.dtype}"
        )
    return images


def _finite(images):
    if images.dtype.kind == "f":
        bad = int((~np.isfinite(images)).sum())
        if bad:
            raise ValueError(f"Pictures must be finite. Received: {bad} NaN or infinite values in a batch")
    return images


def _checked_output(key, array, extractor):
    bad = int((~np.isfinite(array)).sum())
    if array.ndim != 2 or bad:
        received = f"{bad} NaN or infinite values" if array.ndim == 2 else f"shape {array.shape}"
        raise ValueError(
            f"{key.capitalize()} are finite and of shape (N, width). Received: {received} from {extractor!r}"
        )
    return array.astype("float32", copy=False)


def is_extractor(value):
    """Whether an object has what an extractor needs, whatever its class."""
    own = ("name", "width", "preprocessing", "fingerprint")
    return callable(value) and not isinstance(value, (type, keras.layers.Layer)) and all(hasattr(value, n) for n in own)
