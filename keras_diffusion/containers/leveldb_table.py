"""A table of LevelDB, which the `.index` of a TensorFlow checkpoint is: sorted keys and their values, in blocks.

    data block … │ metaindex block │ index block │ footer (48 bytes)

    footer   offset and size of metaindex block and index block (varints), zeros up to 40 bytes, 8 bytes of magic
    block    entries, restart points (uint32), their number (uint32) │ compression (1 byte) │ masked CRC-32C (4 bytes)
    entry    varints shared, unshared, length │ unshared bytes of the key │ value
    key      the first `shared` bytes of the last key, then the unshared ones

The index block maps a key to offset and size of the data block whose keys are not above it.

Reference: LevelDB, doc/table_format.md.
"""

from keras_diffusion.containers.crc32c import crc32c, masked
from keras_diffusion.containers.errors import CheckpointError, error_at
from keras_diffusion.containers.protobuf import varint
from keras_diffusion.runtime import limits

_FOOTER = 48
_MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
_TRAILER = 5  # compression and checksum behind a block


def is_table(path):
    """Whether the file at `path` ends like a table."""
    with path.open("rb") as file:
        file.seek(0, 2)
        size = file.tell()
        file.seek(max(size - len(_MAGIC), 0))
        return size >= _FOOTER and file.read() == _MAGIC


def read_table(source):
    """Reads all entries of a table.

    Args:
        source: `SourceFile`.

    Returns:
        list of (key, value, offset of the value in the file), bytes and an integer, in the order of keys.

    Raises:
        CheckpointError: no table, a checksum that is not right, or what does not fit into the file.
    """
    path, start = source.path, source.size - _FOOTER
    if start < 0:
        raise CheckpointError(f"The index is cut off: {source.size} bytes are less than its footer.", path, 0)
    footer = source.read(start, _FOOTER)
    if footer[-8:] != _MAGIC:
        raise CheckpointError(
            "The index does not end with the magic number of a LevelDB table: it is cut off or damaged.",
            path,
            start + 40,
        )
    numbers, position = [], 0
    for _ in range(4):
        number, position = varint(footer, position, path, start)
        numbers.append(number)
    if position > 40 or any(footer[position:40]):
        raise CheckpointError("The footer of the index is damaged.", path, start)
    if any(True for _ in _entries(source, *numbers[:2])):
        raise CheckpointError(
            "The index has a metaindex, which TensorFlow does not write: it is damaged.", path, numbers[0]
        )
    entries, last = [], None
    for _, handle, at in _entries(source, *numbers[2:]):
        offset, position = varint(handle, 0, path, at)
        size, _ = varint(handle, position, path, at)
        for key, value, where in _entries(source, offset, size):
            if last is not None and key <= last:
                raise CheckpointError("The keys of the index are not in order: it is damaged.", path, where)
            entries.append((key, value, where))
            limits.check(len(entries), "tensors", "The number of entries of the index", error_at(path))
            last = key
    return entries


def _entries(source, offset, size):
    """Entries of one block: (key, value, offset of the value in the file)."""
    source.check(offset, size + _TRAILER)
    raw = source.read(offset, size + _TRAILER)
    if masked(crc32c(raw[:-4])) != int.from_bytes(raw[-4:], "little"):
        raise CheckpointError(
            "A block of the index does not have the checksum that is stored with it.", source.path, offset
        )
    if raw[size] != 0:
        raise CheckpointError(
            "Compressed index blocks (snappy) are not supported. Write the checkpoint with "
            "TensorFlow 2, which does not compress them.",
            source.path,
            offset,
        )
    block = raw[:size]
    restarts = int.from_bytes(block[-4:], "little")
    end = size - 4 * (restarts + 1)
    if size < 4 or end < 0:
        raise CheckpointError("A block of the index is too short for its restart points.", source.path, offset)
    position, key = 0, b""
    while position < end:
        start = position
        shared, position = varint(block, position, source.path, offset)
        unshared, position = varint(block, position, source.path, offset)
        length, position = varint(block, position, source.path, offset)
        if shared > len(key) or position + unshared + length > end:
            raise CheckpointError("An entry of the index is longer than its block.", source.path, offset + start)
        limits.check(shared + unshared, "name_length", "The length of a key of the index", error_at(source.path))
        key = key[:shared] + block[position : position + unshared]
        position += unshared
        yield key, block[position : position + length], offset + position
        position += length
