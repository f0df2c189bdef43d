"""Parquet files by row: a picture, its caption and its class in each.

    part-000.parquet   row group 0: rows 0 … 99      row group 1: rows 100 … 199 …

A row is read with its group, as Parquet compresses whole columns of one. Groups that fit into 256 MB together stay in
memory; beyond that, shuffling reads a group for each picture, which is fast only where groups are small
(`row_group_size=100` where they are written).
"""

import bisect
import collections
import threading

import numpy as np

from keras_diffusion.configs.checks import clip
from keras_diffusion.data.records import TableSource, find_columns
from keras_diffusion.data.tar_shards import shard_paths
from keras_diffusion.runtime.arrays import check_unpacked
from keras_diffusion.runtime.documents import parse_json
from keras_diffusion.runtime.optional import import_optional

SUFFIXES = (".parquet",)
_KEPT = 1 << 28  # bytes of row groups in memory
_AHEAD = 4096  # rows that were read in advance and not yet asked for
_ROWS = 64  # decoded at a time, so that a group that unpacks to far more than its file is noticed


class ParquetSource(TableSource):
    """Rows of Parquet files.

    Args:
        path: a file, several as `"part-{000..031}.parquet"` or `"part-*.parquet"`, a folder of them, or a list of
            paths.
        image_key, label_key, caption_key: as for `HuggingFaceSource`. The column of pictures holds bytes of encoded
            ones, structs of {bytes, path} as Hugging Face writes them, or nested lists of numbers. A path in a table
            is never opened.
        channels, background: as for `ImageFolder`.

    Returns (of indexing):
        {"images": array `(H, W, C)`}, with "labels" where there are some.

    Raises:
        ImportError: pyarrow is not installed.
        ValueError: no such file or column, files with other columns, a damaged file.

    Reference: https://parquet.apache.org
    """

    def __init__(self, path, image_key="image", label_key="label", caption_key=None, channels=3, background="white"):
        self._lock, self._groups, self._read = threading.Lock(), collections.OrderedDict(), {}
        self.paths = shard_paths(path, SUFFIXES)
        self._metadata = [self._opened(path) for path in self.paths]
        counts = [
            (number, group, data.row_group(group).num_rows)
            for number, data in enumerate(self._metadata)
            for group in range(data.num_row_groups)
        ]
        self._places = [(number, group) for number, group, _ in counts]
        self._starts = np.cumsum([0, *(rows for _, _, rows in counts)]).tolist()
        schema = self._metadata[0].schema.to_arrow_schema()
        columns = find_columns(schema.names, (image_key, label_key, caption_key), f"the table {self.paths[0]}")
        super().__init__(columns, channels, background)
        if columns.label is not None:
            self._read_labels(schema)

    def __len__(self):
        return self._starts[-1]

    def name_of(self, index):
        place = bisect.bisect_right(self._starts, int(index)) - 1
        number, group = self._places[place]
        return f"{self.paths[number]}: row {int(index) - self._starts[place]} of row group {group}"

    def record(self, index):
        with self._lock:
            if index in self._read:
                return self._read.pop(index)
            return self._row(index)

    def prefetch(self, indices):
        """Reads each row group that is needed once.

        Args:
            indices: numbers of the samples, ints `(B,)` in [0, n).
        """
        with self._lock:
            for index in sorted({int(i) for i in indices} - self._read.keys()):
                self._read[index] = self._row(index)
            while len(self._read) > max(_AHEAD, len(indices)):  # of batches that an error has ended
                self._read.pop(next(iter(self._read)))

    def texts(self, indices):
        if self.columns.caption is None:
            return None
        with self._lock:
            rows = {int(i): self._row(int(i), [self.columns.caption]) for i in sorted(int(i) for i in indices)}
        return [self._reader.texts(rows[int(i)], self.name_of(i)) for i in indices]

    def __getstate__(self):
        return {**vars(self), "_lock": None, "_groups": collections.OrderedDict(), "_read": {}}

    def __setstate__(self, state):
        vars(self).update(state)
        self._lock = threading.Lock()

    def _row(self, index, names=None):
        place = bisect.bisect_right(self._starts, index) - 1
        table = self._group(place, tuple(names or self.columns.names))
        row = index - self._starts[place]
        record = {name: table.column(name)[row].as_py() for name in table.column_names}
        if names is None and self.labels is not None:
            record[self.columns.label] = self.labels[index]
        return record

    def _group(self, place, names):
        """The columns `names` of a row group, a `pyarrow.Table`."""
        key = (place, names)
        if key not in self._groups:
            self._groups[key] = self._unpacked(place, names)
            while len(self._groups) > 1 and sum(table.nbytes for table in self._groups.values()) > _KEPT:
                self._groups.popitem(last=False)
        self._groups.move_to_end(key)
        return self._groups[key]

    def _unpacked(self, place, names):
        arrow = import_optional("pyarrow", extra="data", purpose="reading Parquet files")
        (number, group), size, parts = self._places[place], 0, []
        path = self.paths[number]
        try:
            file = arrow.parquet.ParquetFile(path, metadata=self._metadata[number])
            options = {"batch_size": _ROWS, "columns": list(names), "use_threads": False}
            for part in file.iter_batches(row_groups=[group], **options):
                size += part.nbytes
                check_unpacked(size, path.stat().st_size, f"The size of row group {group} of {str(path)!r}")
                parts.append(part)
            table = arrow.Table.from_batches(parts)
        except (arrow.ArrowException, OSError) as error:
            raise ValueError(clip(f"Cannot read row group {group} of {str(path)!r}: {error}")) from error
        rows = self._starts[place + 1] - self._starts[place]
        if table.num_rows != rows or set(table.column_names) != set(names):
            raise ValueError(
                f"Files of one table have the same columns, and as many rows as they say. Received: {table.num_rows} "
                f"of {rows} rows, with {', '.join(table.column_names)}, in row group {group} of {str(path)!r}"
            )
        return table

    def _opened(self, path):
        parquet = import_optional("pyarrow.parquet", extra="data", purpose="reading Parquet files")
        try:
            return parquet.ParquetFile(path).metadata
        except (ValueError, OSError) as error:  # those of Arrow among them
            raise ValueError(clip(f"Cannot read {str(path)!r} as Parquet: {error}. Copy it again.")) from error

    def _read_labels(self, schema):
        stored = sum(path.stat().st_size for path in self.paths)
        check_unpacked(8 * len(self), stored, "The size of all labels")
        columns = (self._unpacked(place, (self.columns.label,)).column(0) for place in range(len(self._places)))
        self.take_labels([value for column in columns for value in column.to_pylist()], self._class_names(schema))

    def _class_names(self, schema):
        """Names of the classes where Hugging Face has written the table, or None."""
        text = (schema.metadata or {}).get(b"huggingface")
        if text is None:
            return None
        found = parse_json(text, f"the description in {str(self.paths[0])!r}")
        for key in ("info", "features", self.columns.label, "names"):
            found = found.get(key) if isinstance(found, dict) else None
        return found if isinstance(found, list) and all(isinstance(name, str) for name in found) else None
