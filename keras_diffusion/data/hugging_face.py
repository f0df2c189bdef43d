"""Hugging Face data sets with random access: from the Hub, from a folder of `save_to_disk`, or made by one's own code.

hf://user/name            a data set on the Hub, which the package `datasets` downloads and keeps
hf://user/name:config     one of its configurations
folder                    what `Dataset.save_to_disk` or `DatasetDict.save_to_disk` has written
object                    a `datasets.Dataset` or `DatasetDict`

Pictures stay encoded in the table and are decoded here, by the rules of image folders. No code of a data set is run:
versions of `datasets` that could are not supported.
"""

import re
import sys
from pathlib import Path

from keras_diffusion.configs.checks import clip, shown
from keras_diffusion.data.records import TableSource, find_columns, texts_of
from keras_diffusion.runtime import limits
from keras_diffusion.runtime.files import read_json
from keras_diffusion.runtime.optional import import_optional

_PREFIX = "hf://"
_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?(:[\w.-]+)?")
_STATE, _SPLITS = "state.json", "dataset_dict.json"
_HELD_OUT = ("validation", "val", "test")


class HuggingFaceSource(TableSource):
    """A `datasets.Dataset`, read by number.

    Args:
        dataset: `datasets.Dataset`.
        image_key: column of pictures. Default "image", or another usual name ("img", "png" …).
        label_key: column of class ids; None for no labels. Default "label".
        caption_key: column of texts, or of lists of them. Default None: "text", "caption", "captions", "prompt" or
            "txt", if there is one.
        channels, background: as for `ImageFolder`.
        folders: below which files that the table only names are read, a sequence of paths. Default (): none.

    Returns (of indexing):
        {"images": uint8 `(H, W, channels)`}, with "labels" where there are some.

    Raises:
        ImportError: `datasets` is not installed.
        ValueError: no such column, labels that are no integers or, when reading, a damaged picture.

    Reference: https://huggingface.co/docs/datasets
    """

    def __init__(
        self,
        dataset,
        image_key="image",
        label_key="label",
        caption_key=None,
        channels=3,
        background="white",
        folders=(),
    ):
        datasets = _datasets()
        if dataset.format["type"] == "custom":
            raise ValueError(
                "The columns of a Hugging Face data set are read as they are stored. Received: one with a transform of "
                "its own, which would not be applied. Take it off, dataset.with_format(None), and augment by augment=, "
                "or pass an object that indexes the data set"
            )
        what = f"the Hugging Face data set {dataset.info.dataset_name or 'given'!r}"
        columns = find_columns(dataset.column_names, (image_key, label_key, caption_key), what)
        super().__init__(columns, channels, background)
        self._folders = [Path(folder).resolve() for folder in folders]
        dataset = dataset.with_format(None)
        if columns.label is not None:
            self.take_labels(dataset[columns.label][:], getattr(dataset.features[columns.label], "names", None))
        pictures = dataset.select_columns([columns.image, *columns.conditions])
        if isinstance(pictures.features[columns.image], datasets.Image):
            pictures = pictures.cast_column(columns.image, datasets.Image(decode=False))
        self._pictures = pictures
        self._texts = None if columns.caption is None else dataset.select_columns([columns.caption])

    def __len__(self):
        return len(self._pictures)

    def record(self, index):
        record = dict(self._pictures[index])
        record[self.columns.image] = vouched(record[self.columns.image], self._folders)
        return record if self.labels is None else {**record, self.columns.label: self.labels[index]}

    def texts(self, indices):
        if self._texts is None:
            return None
        rows = self._texts[[int(i) for i in indices]][self.columns.caption]
        return [texts_of(value, self.name_of(i)) for i, value in zip(indices, rows)]


def folders_of(source):
    """Where the files may lie that a data set names.

    Args:
        source: a name, a folder or an object, for which `is_hugging_face`.

    Returns:
        list of paths: for a name what `datasets` has downloaded, for a folder of others none, for an object of one's
        own all.
    """
    if not isinstance(source, str | Path):
        return [Path("/").resolve()]
    if not str(source).startswith(_PREFIX):
        return []
    hub = import_optional("huggingface_hub.constants", extra="hf", purpose="data sets of the Hub")
    return [hub.HF_HUB_CACHE, _datasets().config.DOWNLOADED_DATASETS_PATH]


def address_of(source):
    """Where the files of a data set on the Hub lie, as a prefix of their addresses; None for other sources."""
    if not isinstance(source, str | Path) or not str(source).startswith(_PREFIX):
        return None
    return f"{_PREFIX}datasets/{_of_prefix(str(source)).partition(':')[0]}@"


def vouched(value, folders, address=None):
    """The value of a column of pictures, in which a file that may be read stands for its name.

    Args:
        value: bytes, a struct {bytes, path} …
        folders: files below these may be read, a list of resolved paths.
        address: files whose addresses begin so may be, too; None for none.

    Returns:
        `Path`, `RemoteFile`, or `value` itself.
    """
    path = value.get("path") if isinstance(value, dict) and value.get("bytes") is None else None
    if not isinstance(path, str) or "\0" in path:
        return value
    if address is not None and path.startswith(address) and ".." not in path:
        return RemoteFile(path)
    path = Path(path).resolve()
    return path if any(path.is_relative_to(folder) for folder in folders) else value


class HuggingFaceStream:
    """A `datasets.IterableDataset` whose pictures stay encoded, for `StreamSource`.

    Args:
        dataset: `datasets.IterableDataset`.
        keys: as for `StreamSource`.
        folders, address: of files that the data set may name, see `vouched`.

    Attributes:
        features: the data set's, or None.
    """

    def __init__(self, dataset, keys, folders=(), address=None):
        datasets, self.features = _datasets(), dataset.features
        self._column, self._address = None, address
        self._folders = [Path(folder).resolve() for folder in folders]
        if self.features is not None:
            columns = find_columns(self.features, keys, "the Hugging Face data set")
            if isinstance(self.features[columns.image], datasets.Image):
                self._column = columns.image
                dataset = dataset.cast_column(columns.image, datasets.Image(decode=False))
            dataset = dataset.select_columns(columns.names)
        self._dataset = dataset

    def __iter__(self):
        for record in self._dataset:
            if self._column is not None:
                record = {**record, self._column: vouched(record[self._column], self._folders, self._address)}
            yield record

    def set_epoch(self, epoch):
        """Tells the data set, which may shuffle by it.

        Args:
            epoch: int.
        """
        self._dataset.set_epoch(epoch)


class RemoteFile:
    """A picture that a stream names by its address, fetched when it is read and not before.

    Args:
        address: of the file, in the words of `fsspec`.
    """

    def __init__(self, address):
        self.address = address

    def read_bytes(self):
        """The content of the file.

        Raises:
            ValueError: too large a file.
            OSError: it cannot be fetched.
        """
        fsspec = import_optional("fsspec", extra="hf", purpose="pictures on the Hub")
        most = limits.current().packed_bytes
        with fsspec.open(self.address, "rb") as file:
            content = file.read(most + 1)
        limits.check(len(content), "packed_bytes", f"The size of {clip(self.address)}")
        return content


def is_hugging_face(source):
    """Whether `source` is a name, a folder or an object of Hugging Face."""
    if not isinstance(source, str | Path):
        module = sys.modules.get("datasets")
        kinds = ("Dataset", "DatasetDict", "IterableDataset", "IterableDatasetDict")
        return module is not None and isinstance(source, tuple(getattr(module, kind) for kind in kinds))
    return str(source).startswith(_PREFIX) or _saved_folder(source) is not None


def open_hugging_face(source, split, whole, streaming=False):
    """The `datasets` object that a source means.

    Args:
        source: name, folder or object, for which `is_hugging_face`.
        split: the part to read: for names whatever `datasets` understands, such as `"train[:80%]"`.
        whole: whether a part will be held out of it, so that "validation" is not a split of its own, and `split` means
            the training data.
        streaming: whether to read a name as a stream, without downloading it first.

    Returns:
        (dataset, whether `split` is applied).

    Raises:
        ImportError: `datasets` is not installed.
        ValueError: no such data set or split, or a damaged folder.
    """
    datasets = _datasets()
    wanted = "train" if whole and split in _HELD_OUT else split
    if isinstance(source, str | Path) and str(source).startswith(_PREFIX):
        return _of_hub(datasets, str(source), wanted, streaming), not whole
    if isinstance(source, str | Path):
        source = _of_folder(datasets, source)
    if not isinstance(source, dict):  # a part by itself
        return source, False
    if wanted == "all" and not whole:
        return datasets.concatenate_datasets(list(source.values())), True
    if wanted not in source:
        raise ValueError(
            f"The Hugging Face data set has the splits {', '.join(source)}. Received: split={split!r}. "
            "validation_fraction holds out a part of 'train'"
        )
    return source[wanted], not whole


def _of_hub(datasets, source, split, streaming):
    name = _of_prefix(source)
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"A data set on the Hub is named hf://user/name, or hf://user/name:config. Received: source={shown(source)}"
        )
    name, _, config = name.partition(":")
    try:
        return datasets.load_dataset(name, config or None, split=split, streaming=streaming)
    except Exception as error:  # of the network, of the Hub, or a ValueError about splits and configurations
        if isinstance(error, KeyboardInterrupt):
            raise
        kind = OSError if isinstance(error, OSError) else ValueError
        raise kind(clip(f"Cannot load {source!r} with split={split!r}: {type(error).__name__}: {error}")) from error


def _of_prefix(source):
    return source.removeprefix(_PREFIX).removeprefix("datasets/")


def _saved_folder(path):
    """The folders of data sets that `save_to_disk` has written here, by split; None if it has not."""
    path = Path(path).expanduser()
    if (path / _STATE).is_file() and (path / "dataset_info.json").is_file():
        return {None: path}
    if not (path / _SPLITS).is_file():
        return None
    names = read_json(path / _SPLITS).get("splits")
    if not isinstance(names, list) or not all(isinstance(name, str) and _is_plain(name) for name in names):
        raise ValueError(f"The splits of {str(path)!r} are names of folders in it. Received: {shown(names)}")
    return {name: path / name for name in names}


def _of_folder(datasets, path):
    found = {}
    for name, folder in _saved_folder(path).items():
        _check_folder(folder)
        try:
            found[name] = datasets.load_from_disk(str(folder))
        except Exception as error:  # of Arrow, of JSON or of `datasets`: the folder is damaged
            raise ValueError(clip(f"Cannot read {str(folder)!r}: {type(error).__name__}: {error}")) from error
    return found[None] if None in found else found


def _check_folder(folder):
    """Raises a ValueError if the data set in a folder lies in files elsewhere."""
    state = read_json(folder / _STATE)
    files = [entry for key in ("_data_files", "_indices_data_files") for entry in state.get(key) or ()]
    names = [entry.get("filename") if isinstance(entry, dict) else None for entry in files]
    wrong = next((name for name in names if not isinstance(name, str) or not _is_plain(name)), None)
    if wrong is not None or None in names:
        raise ValueError(
            "The files of a saved data set lie in its folder. Received: "
            f"filename={shown(wrong)} in {str(folder / _STATE)!r}"
        )


def _is_plain(name):
    return not any(sign in name for sign in "/\\\0:") and name not in ("", ".", "..")


def _datasets():
    return import_optional("datasets", extra="hf", purpose="Hugging Face data sets")
