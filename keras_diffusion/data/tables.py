"""Tables and streams of pictures as sources: which files and objects they are, and what reads them."""

from keras_diffusion.data import array_record, parquet
from keras_diffusion.data.hugging_face import (
    HuggingFaceSource,
    HuggingFaceStream,
    address_of,
    folders_of,
    is_hugging_face,
    open_hugging_face,
)
from keras_diffusion.data.streams import StreamSource, is_stream
from keras_diffusion.data.tar_shards import are_files


def is_table(source):
    """Whether `source` is a table of pictures (files, or what Hugging Face knows) or a stream."""
    return _kind_of_files(source) is not None or is_hugging_face(source) or is_stream(source)


def open_table(source, split, whole, options, streaming=False):
    """The source that a table means.

    Args:
        source: that for which `is_table`.
        split: as in `data.load`.
        whole: whether a part will be held out of the training data, so that "validation" is no split of its own.
        options: dict of the columns' names, `channels` and `background`.
        streaming: whether a data set of the Hub is read as a stream.

    Returns:
        (`Source`, whether `split` is applied).

    Raises:
        ImportError: a package is missing; the message names the extra that installs it.
        ValueError: no such table, split or column.
    """
    kind = _kind_of_files(source)
    if kind is not None:
        return kind(source, **options), False
    if not is_hugging_face(source):
        return _stream(source, options), False
    dataset, applied = open_hugging_face(source, split, whole, streaming)
    if hasattr(dataset, "num_rows"):
        return HuggingFaceSource(dataset, folders=folders_of(source), **options), applied
    keys, rest = _split_keys(options)
    # Only of a data set that is as it was opened, the description tells the number of samples.
    known = (dataset.info.splits or {}).get(split) if isinstance(source, str) else None
    length = known.num_examples or None if known else None
    stream = HuggingFaceStream(dataset, keys, folders_of(source), address_of(source))
    return StreamSource(stream, keys, **rest, length=length), applied


def _kind_of_files(source):
    kinds = {parquet.ParquetSource: parquet.SUFFIXES, array_record.ArrayRecordSource: array_record.SUFFIXES}
    return next((kind for kind, suffixes in kinds.items() if are_files(source, suffixes)), None)


def _stream(source, options):
    keys, rest = _split_keys(options)
    return StreamSource(source, keys, **rest)


def _split_keys(options):
    names = ("image_key", "label_key", "caption_key")
    keys = tuple(options.get(name, default) for name, default in zip(names, ("image", "label", None)))
    return keys, {name: value for name, value in options.items() if name not in names}
