"""A folder of image files; sub-folders, if there are any, are the classes.

    flowers/daisy/001.jpg        class 0, "daisy"          pictures/001.png        no classes
    flowers/rose/a.png           class 1, "rose"           pictures/002.png

Classes are numbered in the sorted order of their names. A folder whose sub-folders are called train, validation, val or test holds
splits, each a folder as above. Only names are read at construction; a file is decoded when its sample is asked for.
"""

from pathlib import Path

import numpy as np

from keras_diffusion.core.optional import import_optional
from keras_diffusion.data.sources import Source

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"})
SPLITS = frozenset({"train", "validation", "val", "test"})
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


class ImageFolder(Source):
    """Image files of a folder, decoded on demand.

    Args:
        path: the folder.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA); every file is converted.

    Returns (of indexing):
        {"images": uint8 `(H, W, channels)`, "labels": int} — "labels" only if the folder has class folders.

    Raises:
        ValueError: no such folder, no images in it, images beside class folders, or, on reading, a damaged file.
    """

    def __init__(self, path, channels=3):
        if channels not in _MODES:
            raise ValueError(f"channels must be 1 (grey), 3 (RGB) or 4 (RGBA). Received: channels={channels!r}")
        self.path, self.channels = Path(path).expanduser(), channels
        if not self.path.is_dir():
            raise ValueError(f"An image folder must exist. Received: path={str(path)!r}")
        folders = sub_folders(self.path)
        self.files = [f for f in sorted(self.path.iterdir()) if _is_image(f)]
        classes = {folder.name: sorted(f for f in folder.rglob("*") if _is_image(f)) for folder in folders}
        if self.files and any(classes.values()):
            raise ValueError(
                "An image folder holds either images or one sub-folder per class. "
                f"Received: both in {str(self.path)!r}: {self.files[0].name} beside {', '.join(sorted(classes)[:5])}"
            )
        if any(classes.values()):
            # A class folder without images keeps its number: train and test folders then agree on what class 3 is.
            self.class_names = sorted(classes)
            self.num_classes = len(self.class_names)
            self.files = [f for name in self.class_names for f in classes[name]]
            self.labels = np.repeat(np.arange(self.num_classes, dtype="int32"), [len(classes[name]) for name in self.class_names])
        if not self.files:
            raise ValueError(f"An image folder must hold images ({', '.join(sorted(SUFFIXES))}). Received: none in {str(self.path)!r}")

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        sample = {"images": read_image(self.files[index], self.channels)}
        return sample if self.labels is None else {**sample, "labels": self.labels[index]}


def read_image(path, channels=3):
    """Decodes one image file to uint8 `(H, W, channels)`, turned upright as its EXIF data say."""
    image_module, ops = (import_optional(f"PIL.{name}", extra="viz", purpose="reading image files") for name in ("Image", "ImageOps"))
    try:
        with image_module.open(path) as file:
            image = ops.exif_transpose(file)
            if image.mode.startswith("I"):  # 16 bits per pixel: Pillow's own conversion would clip at 255 instead of scaling
                image = image_module.fromarray((np.clip(np.asarray(image), 0, 65535) / 257).round().astype("uint8"))
            pixels = np.asarray(image.convert(_MODES[channels]))
    except (OSError, SyntaxError, image_module.DecompressionBombError) as error:  # a damaged PNG raises SyntaxError
        raise ValueError(f"Cannot read the image {str(path)!r}: {error}. Remove or replace the file.") from error
    return pixels[..., None] if channels == 1 else pixels


def sub_folders(path):
    """Visible sub-folders, sorted."""
    return [f for f in sorted(Path(path).iterdir()) if f.is_dir() and not f.name.startswith((".", "__"))]


def _is_image(path):
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
