"""ArrayRecord files, which hold records by number: the format of grain and of TensorFlow Datasets.

A record is any bytes. Those that TensorFlow Datasets and most others write are `tf.train.Example`s; for others, pass a
function that reads one.
"""

from keras_diffusion.configs.checks import shown
from keras_diffusion.data.examples import read_example
from keras_diffusion.data.records import TableSource, find_columns
from keras_diffusion.data.tar_shards import shard_paths
from keras_diffusion.runtime.optional import import_optional

SUFFIXES = (".array_record", ".arrayrecord")


class ArrayRecordSource(TableSource):
    """Records of ArrayRecord files.

    Args:
        path: a file, several as `"part-{000..031}.array_record"`, a folder of them, or a list of paths.
        parse: function from the bytes of a record to a dict of its columns, in which pictures are encoded, or arrays.
            Default: reads a `tf.train.Example`.
        image_key, label_key, caption_key: as for `HuggingFaceSource`.
        channels, background: as for `ImageFolder`.

    Returns (of indexing):
        {"images": array `(H, W, C)`}, with "labels" where there are some.

    Raises:
        ImportError: grain or array_record is not installed.
        ValueError: no such file or column, a record that cannot be read.

    Reference: https://github.com/google/array_record
    """

    def __init__(
        self,
        path,
        parse=read_example,
        image_key="image",
        label_key="label",
        caption_key=None,
        channels=3,
        background="white",
    ):
        sources = import_optional("grain.sources", extra="data", purpose="reading ArrayRecord files")
        self.parse, self.paths = parse, shard_paths(path, SUFFIXES)
        if not callable(parse):
            raise ValueError(f"parse is a function from bytes to a dict. Received: parse={shown(parse)}")
        try:
            self._records = sources.ArrayRecordDataSource([str(path) for path in self.paths])
            first = self._parsed(0) if len(self._records) else None
        except (RuntimeError, OSError) as error:
            raise ValueError(f"Cannot read {str(self.paths[0])!r} as ArrayRecord: {error}") from error
        if first is None:
            raise ValueError(f"ArrayRecord files hold at least one record. Received: none in {str(self.paths[0])!r}")
        columns = find_columns(first, (image_key, label_key, caption_key), f"the first record of {self.paths[0]}")
        super().__init__(columns, channels, background)

    def __len__(self):
        return len(self._records)

    def record(self, index):
        record = self._parsed(index)
        missing = [name for name in (self.columns.image, self.columns.label) if name is not None and name not in record]
        if missing:
            raise ValueError(
                f"All records have the columns of the first. Received: record {index} without {missing[0]!r}"
            )
        return {name: record.get(name) for name in self.columns.names}

    def _parsed(self, index):
        record = self.parse(self._records[index])
        if not isinstance(record, dict):
            raise ValueError(f"parse makes a dict of a record. Received: {shown(record)} of record {index}")
        return record
