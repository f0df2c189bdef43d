"""Tar files in the WebDataset layout: the members of a sample follow each other and share a name up to its first dot.

    shard-000.tar:  0001.jpg 0001.txt  0002.jpg 0002.txt …      also .png, .webp, .json, .cls

A tar file is a list of headers, each followed by its file. The headers say where every picture starts, so that
sample i is read by one seek: shuffling, held-out parts and resumption are exact, as with a folder, where the
`webdataset` package reads in order and shuffles a buffer. Compressed tar files have no such places and are refused.

Nothing is unpacked: names of members are keys and never paths.
"""

import io
import re
import tarfile
import warnings
from pathlib import Path

import numpy as np

from keras_diffusion.configs.checks import check_choice, clip, shown
from keras_diffusion.data.captions import texts_of_lines, texts_of_record
from keras_diffusion.data.image_file import MODES, colour_of, read_image, read_size
from keras_diffusion.data.image_folder import SUFFIXES
from keras_diffusion.data.sources import Source
from keras_diffusion.runtime import limits
from keras_diffusion.runtime.documents import parse_json
from keras_diffusion.runtime.natural_order import natural

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_TEXT, RECORD, _CLASS = ".txt", ".json", ".cls"


class TarShards(Source):
    """Pictures in tar files, read by their place.

    Args:
        path: a tar file; several as `"shards-{000..127}.tar"`; a folder of them; or a list of paths.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA); every picture is converted.
        background: colour behind transparent pixels, as for `ImageFolder`.

    Returns (of indexing):
        {"images": uint8 `(H, W, channels)`}, with "labels" if every sample has a .cls file or a "label" in its .json,
        perhaps with the class's name beside it under "class_name".

    Raises:
        ValueError: no such file, a compressed or damaged one, two members of one name, no pictures, or, when reading, a
            damaged picture.

    Reference: https://github.com/webdataset/webdataset (the layout; the reader is our own).
    """

    def __init__(self, path, channels=3, background="white"):
        self.channels = check_choice(
            "channels", channels, tuple(MODES), "channels must be 1 (grey), 3 (RGB) or 4 (RGBA)"
        )
        self.background, self.paths = colour_of(background), shard_paths(path)
        groups = self._groups()
        pictured = [group for group in groups if SUFFIXES & group[2].keys()]
        if not pictured:
            latents = any(".npy" in members for _, _, members in groups)
            why = ", but arrays, as of latents whose latents.json is missing: were they packed to the end?"
            raise ValueError(
                f"Tar shards hold pictures ({', '.join(sorted(SUFFIXES))}). Received: none in {len(self.paths)} files, "
                f"the first {str(self.paths[0])!r}{why if latents else ''}"
            )
        if len(pictured) < len(groups):
            warnings.warn(
                f"{len(groups) - len(pictured)} of {len(groups)} samples have no picture, and are ignored.",
                stacklevel=2,
            )
        self._picture = places_of(pictured, SUFFIXES)
        self._index(pictured)

    def _groups(self):
        """(number of the file, key, members) of all samples."""
        return [(shard, key, members) for shard, path in enumerate(self.paths) for key, members in _groups(path)]

    def _index(self, groups):
        """Notes where the members of samples lie, and reads the classes."""
        self.keys = [key for _, key, _ in groups]
        self._shard = np.array([shard for shard, _, _ in groups], "int32")
        self._text, self._record, self._class = (places_of(groups, {kind}) for kind in (_TEXT, RECORD, _CLASS))
        self._read_labels()

    def __len__(self):
        return len(self.keys)

    def __getitem__(self, index):
        data = self._read(index, self._picture)
        sample = {"images": read_image(data, self.channels, self.background, name=self._name(index))}
        return sample if self.labels is None else {**sample, "labels": self.labels[index]}

    def size_of(self, index):
        start, size = (int(number) for number in self._picture[index])
        with self.paths[self._shard[index]].open("rb") as file:
            return read_size(io.BufferedReader(_Member(file, start, size)), self._name(index))

    def texts(self, indices):
        return [self._texts_of(int(i)) for i in indices] if self._has_captions() else None

    @property
    def captions(self):
        """For each picture its caption, or a tuple of several, "" for none; None if no picture has one."""
        texts = self.texts(range(len(self)))
        return texts and [several[0] if len(several) == 1 else several for several in texts]

    def _has_captions(self):
        if (self._text[:, 0] >= 0).any():
            return True
        first = int(np.argmax(self._record[:, 0] >= 0))
        return self._record[first, 0] >= 0 and texts_of_record(self._json(first), self._name(first)) is not None

    def _texts_of(self, index):
        if self._text[index, 0] >= 0:
            return texts_of_lines(self._read(index, self._text), self._name(index) + _TEXT)
        record = self._json(index) if self._record[index, 0] >= 0 else {}
        return texts_of_record(record, self._name(index)) or ("",)

    def _read_labels(self):
        """Classes, if every sample has one: they are few bytes each, and parts are held out by them."""
        if (self._class[:, 0] >= 0).all():
            labels = [self._read(i, self._class).decode("ascii", "replace").strip() for i in range(len(self))]
            names = {}
        elif (self._record[:, 0] >= 0).all() and "label" in self._json(0):
            records = [self._json(i) for i in range(len(self))]
            labels = [record.get("label") for record in records]
            names = {str(record.get("label")): record.get("class_name") for record in records}
        else:
            return
        for index, label in enumerate(labels):
            if not re.fullmatch(r"\d{1,9}", str(label)):
                raise ValueError(f"A class is a number from 0. Received: {shown(label)} in {self._name(index)}")
        self.labels = np.array(labels, "int32")
        self.num_classes = int(self.labels.max()) + 1
        if any(isinstance(name, str) for name in names.values()):
            limits.check(self.num_classes, "tensors", "The number of classes")
            self.class_names = [str(names.get(str(number)) or number) for number in range(self.num_classes)]

    def _json(self, index):
        limits.check(self._record[index, 1], "text_bytes", f"The length of {self._name(index)}{RECORD}")
        return parse_json(self._read(index, self._record), self._name(index) + RECORD)

    def _name(self, index):
        return f"{self.paths[self._shard[index]]}: {self.keys[index]}"

    def _read(self, index, places):
        """The bytes of a member."""
        start, size = (int(number) for number in places[index])
        with self.paths[self._shard[index]].open("rb") as file:
            file.seek(start)
            data = file.read(size)
        if len(data) < size:
            raise ValueError(f"The tar file ends within {self._name(index)}. Copy it again.")
        return data


class _Member(io.RawIOBase):
    """A part of an open file as a file of its own, of which a reader of headers takes what it needs."""

    def __init__(self, file, start, size):
        super().__init__()
        self._file, self._start, self._size, self._at = file, start, size, 0

    def readable(self):
        return True

    def seekable(self):
        return True

    def seek(self, offset, whence=io.SEEK_SET):
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence])
        return self._at

    def tell(self):
        return self._at

    def readinto(self, buffer):
        self._file.seek(self._start + self._at)
        data = self._file.read(max(0, min(len(buffer), self._size - self._at)))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def shard_paths(path, suffixes=(".tar",)):
    """The files that a path, a pattern, a folder or a list means.

    Args:
        path: `"a.tar"`, `"a-{00..31}.tar"`, `"a-*.tar"`, a folder, or a list of paths.
        suffixes: of the files that are taken from a folder.

    Returns:
        list of `Path`.

    Raises:
        ValueError: none, or one that does not exist.
    """
    if isinstance(path, list | tuple):
        return [found for one in path for found in shard_paths(one, suffixes)]
    text, path = str(path), Path(path).expanduser()
    if path.is_dir() or "*" in path.name:
        found = path.iterdir() if path.is_dir() else path.parent.glob(path.name)
        paths = [file for file in found if file.suffix in suffixes and not file.name.startswith(".")]
        paths.sort(key=lambda file: natural(file.name))
    else:
        paths = [Path(name).expanduser() for name in _expanded(text)]
    missing = next((p for p in paths if not p.is_file()), None)
    if not paths or missing is not None:
        kind = "Tar shards" if suffixes == (".tar",) else f"Files {suffixes[0]}"
        where = f", and no {str(missing)!r}" if missing else ", where there are none"
        raise ValueError(f"{kind} must exist. Received: {shown(text)}{where}")
    return paths


def are_files(source, suffixes):
    """Whether a source is files of a kind: their path or pattern, a folder with nothing else, or a list of these.

    Args:
        source: anything.
        suffixes: of the files.
    """
    if isinstance(source, list | tuple):
        return len(source) > 0 and all(isinstance(one, str | Path) and are_files(one, suffixes) for one in source)
    if not isinstance(source, str | Path) or "://" in str(source):
        return False
    path = Path(source).expanduser()
    if not path.is_dir():
        return path.suffix in suffixes
    visible = [file for file in path.iterdir() if not file.name.startswith(".")]
    return bool(visible) and all(file.suffix in suffixes for file in visible)


def _expanded(pattern):
    """`a-{0..2}.tar` as three names; digits keep their width."""
    found = _RANGE.search(pattern)
    if not found:
        return [pattern]
    first, last = int(found[1]), int(found[2])
    limits.check(last - first, "tensors", "The number of shards")
    names = [
        pattern[: found.start()] + str(n).zfill(len(found[1])) + pattern[found.end() :] for n in range(first, last + 1)
    ]
    return [each for name in names for each in _expanded(name)]


def _groups(path):
    """(key, {suffix: (start, size)}) of each sample of a tar file, in order."""
    key, members = None, {}
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                archive.members = []  # the headers of a large file would fill the memory
                name, _, suffix = member.name.rpartition("/")[2].partition(".")
                if not member.isreg() or member.issparse() or not name or not suffix:
                    continue
                limits.check(len(member.name), "name_length", "The length of a member's name")
                own = member.name[: len(member.name) - len(suffix) - 1]
                if own != key:
                    if members:
                        yield key, members
                    key, members = own, {}
                suffix = "." + suffix.lower()
                if suffix in members:
                    raise ValueError(f"Two members of a sample have one name: {clip(member.name)} in {path}")
                members[suffix] = (member.offset_data, member.size)
    except tarfile.TarError as error:
        raise ValueError(
            f"Cannot read {str(path)!r} as a tar file: {error}. Compressed ones have no places to read from: unpack "
            "them to .tar. Copy a damaged one again."
        ) from error
    if members:
        yield key, members


def places_of(groups, suffixes):
    """Where the members of one kind lie.

    Args:
        groups: list of (number of the file, key, {suffix: (start, size)}).
        suffixes: of the kind, a set; a sample's first member with one of them counts.

    Returns:
        start and size, ints `(n, 2)`; (−1, 0) for a sample without.
    """
    found = [next((place for suffix, place in group[2].items() if suffix in suffixes), (-1, 0)) for group in groups]
    return np.array(found, "int64")
