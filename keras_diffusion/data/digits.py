"""1,797 handwritten digits of 8×8 pixels, included in scikit-learn: a real data set without a download.

Reference: Alpaydin & Kaynak, "Optical recognition of handwritten digits", UCI Machine Learning Repository, 1998 (its
test part).
"""

import numpy as np

from keras_diffusion.data.sources import ArraySource
from keras_diffusion.runtime.optional import import_optional


def digits():
    """All scans as an `ArraySource`.

    Images are float32 `(1797, 8, 8, 1)` in [−1, 1], from grey values 0…16, labels 0…9.
    """
    scans = import_optional("sklearn.datasets", extra="demo", purpose="the data set 'digits'").load_digits()
    images = (scans.images[..., None] / 8.0 - 1.0).astype("float32")
    source = ArraySource({"images": images, "labels": scans.target.astype(np.int32)}, num_classes=10)
    source.class_names = [str(digit) for digit in range(10)]
    return source
