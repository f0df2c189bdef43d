"""Protocol buffers, as far as they are needed to read TensorFlow's files: the wire format without any schema.

A message is a row of fields. Each begins with a varint, number·8 + wire type:

    0  varint           7 bits per byte, the lowest first; the top bit says that more bytes follow
    1  8 bytes
    2  length (varint), then so many bytes: text, bytes, or a message
    5  4 bytes

A field that is 0 or empty is not written; one that repeats is written several times.
"""

from keras_diffusion.containers.errors import CheckpointError, error_at
from keras_diffusion.runtime import limits

_LIMIT = 10  # bytes of a 64-bit varint


def varint(data, position, path=None, offset=0):
    """Reads a varint.

    Args:
        data: bytes.
        position: where it begins.
        path, offset: the file and the place of `data` in it, for the error.

    Returns:
        value and the position behind it.

    Raises:
        CheckpointError: it does not end.
    """
    value = 0
    for index, byte in enumerate(data[position : position + _LIMIT]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, position + index + 1
    raise CheckpointError("A number does not end: the file is cut off or damaged.", path, offset + position)


class Message:
    """A parsed message.

    Args:
        data: its bytes.
        path, offset: the file and the place of `data` in it, for errors.

    Raises:
        CheckpointError: a field that does not fit into `data`, or has no known wire type.
    """

    def __init__(self, data, path=None, offset=0):
        self._path = path
        self._fields: dict[int, list] = {}
        position, count, most = 0, 0, limits.current().fields
        while position < len(data):
            start = position
            key, position = varint(data, position, path, offset)
            number, wire = key >> 3, key & 7
            if wire == 0:
                value, position = varint(data, position, path, offset)
            elif wire in (1, 2, 5):
                if wire == 2:
                    size, position = varint(data, position, path, offset)
                else:
                    size = 8 if wire == 1 else 4
                if size > len(data) - position:
                    raise CheckpointError(
                        "A field is longer than its message: the file is damaged.", path, offset + start
                    )
                value = data[position : position + size]
                value = (value, offset + position) if wire == 2 else int.from_bytes(value, "little")
                position += size
            else:
                raise CheckpointError(
                    f"A field has the wire type {wire}, which does not exist: the file is damaged.",
                    path,
                    offset + start,
                )
            self._fields.setdefault(number, []).append(value)
            count += 1
            if count > most:
                raise error_at(path, offset)(limits.beyond("The number of fields of a message", count, "fields"))

    def __contains__(self, number):
        return number in self._fields

    def integer(self, number, default=0):
        """The integer in field `number`, unsigned; the last one counts."""
        value = self._fields.get(number, [default])[-1]
        if isinstance(value, tuple):
            raise CheckpointError(f"Field {number} should be a number: the file is damaged.", self._path, value[1])
        return value

    def messages(self, number):
        """All messages in field `number`."""
        return [Message(data, self._path, offset) for data, offset in self._chunks(number)]

    def bytes(self, number):
        """The bytes in field `number`; empty where there is none."""
        return next((data for data, _ in self._chunks(number)), b"")

    def values(self, number):
        """All values in field `number`, a list: bytes, or unsigned integers of any width."""
        return [value[0] if isinstance(value, tuple) else value for value in self._fields.get(number, [])]

    def text(self, number):
        """The text in field `number`."""
        try:
            return self.bytes(number).decode()
        except UnicodeDecodeError as error:
            raise CheckpointError(
                f"A text is not UTF-8: the file is damaged ({error}).", self._path, self._chunks(number)[0][1]
            ) from error

    def _chunks(self, number):
        chunks = self._fields.get(number, [])
        if not all(isinstance(chunk, tuple) for chunk in chunks):
            raise CheckpointError(
                f"Field {number} should be a message or a text, not a number: the file is damaged.", self._path
            )
        return chunks
