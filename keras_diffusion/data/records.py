"""Records of tables as samples: Hugging Face data sets, Parquet, ArrayRecord, streams.

    {"image": {"bytes": b"\\x89PNG…", "path": "cat.png"}, "text": "a cat", "label": 3}

A picture is an encoded file (bytes, or a struct that holds them), an opened PIL image, or an array. A path in a record
is never opened: a table that others have made could name any file of this machine.
"""

import dataclasses
import io

import numpy as np

from keras_diffusion.configs.checks import check_choice, shown
from keras_diffusion.data.captions import TEXT_KEYS, as_texts
from keras_diffusion.data.image_file import MODES, colour_of, convert_image, read_image, read_size
from keras_diffusion.data.sources import Source

IMAGE_KEYS = ("image", "images", "img", "png", "jpg", "jpeg", "webp")
CAPTION_KEYS = (*TEXT_KEYS, "txt")
LABEL_KEYS = ("label", "labels")
CONDITIONS = ("context", "concat")


@dataclasses.dataclass(frozen=True)
class Columns:
    """Which columns of a table hold what.

    Attributes:
        image: the column of pictures.
        label: the column of class ids, or None.
        caption: the column of texts, or None.
        conditions: columns of arrays that networks take, by the names that they have there.
    """

    image: str
    label: str | None = None
    caption: str | None = None
    conditions: tuple = ()

    @property
    def names(self):
        """The columns that are read, a list."""
        return [name for name in (self.image, self.label, self.caption, *self.conditions) if name is not None]


def find_columns(names, keys, what):
    """The columns of a table.

    Args:
        names: of all its columns.
        keys: (image_key, label_key, caption_key) as the user chose them. The defaults ("image", "label", None) also
            find other usual names, and a table may lack the latter two; a label_key of None leaves labels out.
        what: the table, for the error.

    Returns:
        `Columns`.

    Raises:
        ValueError: no such column.
    """
    names = list(names)
    image, label, caption = keys

    def first(known):
        return next((name for name in known if name in names), None)

    found = Columns(
        first(IMAGE_KEYS) if image == "image" else image,
        first(LABEL_KEYS) if label == "label" else label,
        first(CAPTION_KEYS) if caption is None else caption,
        tuple(name for name in CONDITIONS if name in names),
    )
    chosen = {"image_key": found.image, "label_key": found.label, "caption_key": found.caption}
    missing = next((f"{key}={name!r}" for key, name in chosen.items() if name is not None and name not in names), None)
    if found.image is None or missing:
        received = missing or f"none of {', '.join(IMAGE_KEYS)}"
        raise ValueError(
            f"A table of pictures has a column of them; image_key=, label_key= and caption_key= name columns. "
            f"Received: {received} for {what} with the columns {', '.join(map(str, names[:20]))}"
        )
    return found


class RecordReader:
    """Makes samples of records.

    Args:
        columns: `Columns`.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA): encoded pictures and PIL images are converted; arrays stay.
        background: colour behind transparent pixels, as for `ImageFolder`.
    """

    def __init__(self, columns, channels=3, background="white"):
        self.columns, self.background = columns, colour_of(background)
        self.channels = check_choice(
            "channels", channels, tuple(MODES), "channels must be 1 (grey), 3 (RGB) or 4 (RGBA)"
        )

    def sample(self, record, name):
        """The picture of a record, and its label.

        Args:
            record: dict from columns to values.
            name: the record's, for errors.

        Returns:
            {"images": array `(H, W, C)`}, with "labels" and conditions where there are such columns.

        Raises:
            ValueError: a picture that cannot be read, or none.
        """
        sample = {"images": self._pixels(record[self.columns.image], name)}
        if self.columns.label is not None:
            sample["labels"] = np.asarray(record[self.columns.label])
        return sample | {name: np.asarray(record[name]) for name in self.columns.conditions}

    def texts(self, record, name):
        """The captions of a record, a tuple of texts; ("",) for none.

        Args:
            record: dict from columns to values.
            name: the record's, for errors.

        Raises:
            ValueError: captions that are no texts.
        """
        return texts_of(record[self.columns.caption], name)

    def size(self, record, name):
        """The size of an encoded picture, (height, width), by its header; None for other pictures.

        Args:
            record: dict from columns to values.
            name: the record's, for errors.

        Raises:
            ValueError: no picture.
        """
        value = record[self.columns.image]
        value = value.get("bytes") if isinstance(value, dict) else value
        return read_size(io.BytesIO(value), name) if isinstance(value, bytes) else None

    def _pixels(self, value, name):
        if isinstance(value, dict):
            value = value.get("bytes")
        if value is None:
            raise ValueError(
                f"Pictures of a table are in it, as encoded bytes or arrays; paths in a table are not opened. "
                f"Received: {name} without them. Store the files' bytes, or load the folder of pictures itself"
            )
        if isinstance(value, bytes | bytearray | memoryview):
            return read_image(bytes(value), self.channels, self.background, name=name)
        if hasattr(value, "read_bytes"):  # a file that the source vouches for: no table holds such an object
            value = value.read_bytes()
            return read_image(value, self.channels, self.background, name=name)
        if hasattr(value, "getbands"):  # of PIL
            return convert_image(value, self.channels, self.background, name=name)
        return as_pixels(value)


class TableSource(Source):
    """Base class of tables: n records, read by number. A subclass gives `record`, and `__len__`.

    Args:
        columns: `Columns`.
        channels, background: as for `RecordReader`.
    """

    def __init__(self, columns, channels=3, background="white"):
        self.columns, self._reader = columns, RecordReader(columns, channels, background)

    def record(self, index):
        """Reads a record.

        Args:
            index: its number, an int in [0, n).

        Returns:
            dict from columns to values.

        Raises:
            ValueError: a record that cannot be read.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement record(index)")

    def name_of(self, index):
        """What errors call a sample.

        Args:
            index: its number.

        Returns:
            str.
        """
        return f"sample {index}"

    def __getitem__(self, index):
        return self._reader.sample(self.record(int(index)), self.name_of(index))

    def size_of(self, index):
        size = self._reader.size(self.record(int(index)), self.name_of(index))
        return super().size_of(index) if size is None else size

    def texts(self, indices):
        if self.columns.caption is None:
            return None
        return [self._reader.texts(self.record(int(i)), self.name_of(i)) for i in indices]

    @property
    def captions(self):
        """For each picture its caption, or a tuple of several, "" for none; None without such a column."""
        texts = self.texts(range(len(self)))
        return texts and [several[0] if len(several) == 1 else several for several in texts]

    def take_labels(self, values, names=None):
        """Notes the class ids of all samples, unless there are none: all −1, as in test sets.

        Args:
            values: the column, a sequence.
            names: names of the classes, a list, or None.

        Raises:
            ValueError: values that are no integers.
        """
        self.labels = check_labels_column(values, f"column {self.columns.label!r}")
        if self.labels is None:
            self.columns = self._reader.columns = dataclasses.replace(self.columns, label=None)
        else:
            self.class_names = None if names is None else [str(name) for name in names]
            self.num_classes = len(names) if names else int(np.max(self.labels, initial=-1)) + 1 or None


def texts_of(value, name):
    """A caption, or a list of them, as a tuple of texts; ("",) for None or an empty list."""
    value = value.tolist() if isinstance(value, np.ndarray) else value
    return ("",) if value is None or value == [] else as_texts(value, f"the caption of {name}")


def as_pixels(value):
    """An array of one picture; nested lists of integers up to 255 become uint8, and greys `(H, W)` get a last axis."""
    pixels = np.asarray(value)
    if not isinstance(value, list):
        return pixels
    if pixels.dtype.kind in "iu" and pixels.size and 0 <= pixels.min() <= pixels.max() < 256:
        pixels = pixels.astype("uint8")
    return pixels[..., None] if pixels.ndim == 2 else pixels


def sample_record(sample):
    """A sample of any form as a record: a dict stays, a pair is (image, label), anything else the image.

    Raises:
        ValueError: None, where there is no sample.
    """
    if sample is None:
        raise ValueError(
            "A stream holds at least one sample: a dict, a pair (image, label) or an image. Received: None"
        )
    if isinstance(sample, dict):
        return sample
    return dict(zip(("image", "label"), sample)) if isinstance(sample, tuple) else {"image": sample}


def check_labels_column(values, what):
    """Class ids of a whole column as int32 `(n,)`; None if all are −1, as test sets without labels have them.

    Args:
        values: the column, a sequence.
        what: the table, for the error.

    Raises:
        ValueError: values that are no integers.
    """
    labels = np.asarray(values)
    if labels.dtype.kind not in "iu":
        first = next((value for value in values if not isinstance(value, int | np.integer)), None)
        raise ValueError(
            f"Labels are integers from 0. Received: {shown(first)} among those of {what}. Number the classes, or leave "
            "them out with label_key=None"
        )
    return None if len(labels) and (labels == -1).all() else labels.astype("int32")
