"""A folder of image files; its sub-folders, if any, are the classes.

    flowers/daisy/001.jpg        class 0, "daisy"          pictures/001.png        no classes
    flowers/rose/a.png           class 1, "rose"           pictures/002.png

Classes are numbered in the natural order of their names: 2 before 10. A folder whose sub-folders are called train,
validation, val or test holds splits, each a folder as above. Hidden files and folders, such as .ipynb_checkpoints and
__MACOSX, are ignored at every depth. Captions stand in a .txt beside each picture, in metadata.jsonl or in metadata.csv
(captions.py). The constructor only lists names; a file is decoded when its sample is read.
"""

import warnings
from pathlib import Path

import numpy as np

from keras_diffusion.configs.checks import check_choice
from keras_diffusion.data.captions import TABLES, FolderCaptions
from keras_diffusion.data.image_file import MODES, colour_of, read_image, read_size
from keras_diffusion.data.sources import Source
from keras_diffusion.runtime.natural_order import natural

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"})
SPLITS = frozenset({"train", "validation", "val", "test"})
_UNREAD = frozenset(
    {".heic", ".heif", ".avif", ".jfif", ".jp2", ".svg", ".psd", ".tga", ".ppm", ".exr", ".dng", ".cr2", ".nef", ".npy"}
)
_TABLES = frozenset({".csv", ".tsv", ".json", ".jsonl", ".parquet"})
_CAPTIONS = frozenset({"captions", "labels", "metadata", "prompts"})  # names of text files for the whole folder


class ImageFolder(Source):
    """Image files of a folder, decoded on demand.

    Args:
        path: the folder.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA); every file is converted.
        background: colour behind transparent pixels: a name such as "white" (default) or "#808080", or three ints from
            0 to 255.

    Returns (of indexing):
        {"images": uint8 `(H, W, channels)`, "labels": int} — "labels" only if the folder has class folders; captions
        are given by `texts`.

    Raises:
        ValueError: no such folder, no images in it, images beside class folders, or, when reading, a damaged file.
    """

    def __init__(self, path, channels=3, background="white"):
        self.channels = check_choice(
            "channels", channels, tuple(MODES), "channels must be 1 (grey), 3 (RGB) or 4 (RGBA)"
        )
        self.path, self.background = Path(path).expanduser(), colour_of(background)
        if not self.path.is_dir():
            raise ValueError(f"An image folder must exist. Received: path={str(path)!r}")
        folders = sub_folders(self.path)
        self.files = [f for f in sorted(self.path.iterdir()) if _is_image(f)]
        classes = {folder.name: sorted(f for f in _visible(folder) if _is_image(f)) for folder in folders}
        if self.files and any(classes.values()):
            raise ValueError(
                "An image folder holds either images or one sub-folder per class. "
                f"Received: both in {str(self.path)!r}: {self.files[0].name} beside {', '.join(sorted(classes)[:5])}"
            )
        if any(classes.values()):
            # A class folder without images keeps its number, so that train and test folders agree on class 3.
            self.class_names = sorted(classes, key=natural)
            self.num_classes = len(self.class_names)
            self.files = [f for name in self.class_names for f in classes[name]]
            self.labels = np.repeat(
                np.arange(self.num_classes, dtype="int32"), [len(classes[name]) for name in self.class_names]
            )
        if not self.files:
            raise ValueError(
                f"An image folder must hold images ({', '.join(sorted(SUFFIXES))}). "
                f"Received: none in {str(self.path)!r}. For videos, pass frames=16, or another number."
            )
        self._texts = FolderCaptions(self.path, self.files)
        self._warn_of_ignored_files(folders)

    @property
    def captions(self):
        """For each picture its caption, or a tuple of several, "" for none; None if no picture has one."""
        if not self._texts.exist:
            return None
        found = [self._texts[i] for i in range(len(self))]
        return [texts[0] if len(texts) == 1 else texts for texts in found]

    def texts(self, indices):
        return [self._texts[int(i)] for i in indices] if self._texts.exist else None

    def _warn_of_ignored_files(self, folders):
        """Warns of pictures in formats that are not read, and of tables and texts that may be captions."""
        beside = [f for folder in (self.path, *folders) for f in folder.iterdir() if not _is_hidden(f) and f.is_file()]
        stems = {file.with_suffix("") for file in self.files}
        texts = [f for f in beside if f.suffix.lower() == ".txt" and f.with_suffix("") not in stems]
        tables = [f for f in beside if f.suffix.lower() in _TABLES and f.name not in TABLES]
        tables += [f for f in texts if f.stem.lower() in _CAPTIONS]
        pictures = [f for f in beside if f.suffix.lower() in _UNREAD]
        if tables:
            warnings.warn(
                "Captions of an image folder are read from a .txt beside each picture, metadata.jsonl and metadata.csv "
                f"(file_name, text). Received: {len(tables)} other tables in {str(self.path)!r}, the first "
                f"{tables[0].name!r}, which are not read. Rename or convert them.",
                stacklevel=4,
            )
        if pictures:
            warnings.warn(
                f"These pictures are ignored, since only {', '.join(sorted(SUFFIXES))} are read. "
                f"Received: {len(pictures)} files in {str(self.path)!r}, the first {pictures[0].name!r}. Convert them.",
                stacklevel=4,
            )

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        sample = {"images": read_image(self.files[index], self.channels, self.background)}
        return sample if self.labels is None else {**sample, "labels": self.labels[index]}

    def size_of(self, index):
        return read_size(self.files[index])


def sub_folders(path):
    """Sub-folders that are not hidden, in natural order."""
    return sorted((f for f in Path(path).iterdir() if f.is_dir() and not _is_hidden(f)), key=lambda f: natural(f.name))


def _visible(folder):
    """Everything below a folder that is not hidden, nor in a hidden folder."""
    for path in folder.iterdir():
        if not _is_hidden(path):
            yield path
            if path.is_dir() and not path.is_symlink():
                yield from _visible(path)


def _is_hidden(path):
    return path.name.startswith((".", "__"))


def _is_image(path):
    return path.suffix.lower() in SUFFIXES and not _is_hidden(path) and path.is_file()
