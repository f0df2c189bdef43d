"""1,892 emoji of 32×32 pixels with their names, part of this package: small, colourful and captioned.

Their origin and licences are in `emoji_files/README.md`.
"""

from pathlib import Path

import numpy as np

from keras_diffusion.data.sources import ArraySource

PATH = Path(__file__).parent / "emoji_files" / "emoji.npz"


def emoji():
    """All pictures as an `ArraySource`.

    Images are uint8 `(1892, 32, 32, 3)` on white, labels 0…8, Unicode's categories. `captions` are Unicode's names,
    such as "smiling face with open mouth". The file at `PATH` also holds short names, subcategories and code points.
    """
    with np.load(PATH) as file:
        source = ArraySource({"images": file["images"], "labels": file["labels"].astype(np.int32)}, num_classes=9)
        source.class_names, source.captions = file["class_names"].tolist(), file["captions"].tolist()
    return source
