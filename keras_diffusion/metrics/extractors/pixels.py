"""No network at all: the values of a sample are its features.

Distances between pixels are blind to what a picture shows: a shift by one pixel counts more than a missing eye. For
vectors, and for tiny pictures, they are honest, and need no weights.
"""

import numpy as np

from keras_diffusion.metrics.extractors.extractor import EXTRACTORS, Extractor
from keras_diffusion.metrics.extractors.preprocessing import to_floats


@EXTRACTORS.register("pixels", "values")
class PixelExtractor(Extractor):
    """Samples of any shape as vectors of their values, in [−1, 1].

    Call arguments:
        images: `(N, ...)`, uint8, or floats in [−1, 1]; vectors as well.

    Example:

    >>> kd.metrics.get_extractor("pixels")(np.zeros((3, 8, 8, 1))).shape
    (3, 64)
    """

    name = "pixels"

    def extract(self, images, outputs=("features",)):
        """The values.

        Args:
            images: `(N, ...)`, uint8, or floats in [−1, 1].
            outputs: "features" alone.

        Returns:
            dict with "features", float32 `(N, width)`.

        Raises:
            ValueError: logits, which there are none of.
        """
        if tuple(outputs) != ("features",):
            return super().extract(images, outputs)  # which says that there are no logits
        images = np.asarray(images)
        features = to_floats(images).reshape(len(images), -1)
        self.width = features.shape[1]
        return {"features": features}

    def weight_arrays(self):
        """None."""
        return ()
