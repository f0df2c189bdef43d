"""A file that is read front to back, a few bytes at a time: what readers of msgpack and pickle stand on."""

from keras_diffusion.containers.errors import CheckpointError

_WINDOW = 1 << 16


class ByteCursor:
    """A position in a `SourceFile` that moves on as it is read.

    Args:
        source: `SourceFile`.
        start: first byte. Default 0.
        size: number of bytes, None (default) for all from `start` on. Nothing beyond them is read.

    Attributes:
        position: the next byte, counted from the begin of `source`.
        end: the byte after the last.
    """

    def __init__(self, source, start=0, size=None):
        size = source.size - start if size is None else size
        source.check(start, size)
        self._source, self.position, self.end = source, start, start + size
        self._window, self._window_start = b"", start

    @property
    def left(self):
        """Number of bytes that are left."""
        return self.end - self.position

    def take(self, size):
        """The next `size` bytes."""
        start = self.skip(size) - self._window_start
        if start + size > len(self._window):
            self._window_start, start = self._window_start + start, 0
            self._window = self._source.read(self._window_start, min(max(size, _WINDOW), self.end - self._window_start))
        return self._window[start : start + size]

    def skip(self, size):
        """Moves on by `size` bytes, and returns where they begin. They are not read."""
        if size > self.left:
            raise self.error(f"The file is cut off or damaged: {size} bytes are wanted where {self.left} are left.")
        self.position += size
        return self.position - size

    def integer(self, size, signed=False, order="big"):
        """An integer of `size` bytes."""
        return int.from_bytes(self.take(size), order, signed=signed)

    def text(self, size):
        """A text of `size` bytes of UTF-8."""
        start = self.position
        try:
            return self.take(size).decode()
        except UnicodeDecodeError as error:
            raise self.error("A text in the file is not UTF-8: it is damaged.", start) from error

    def error(self, message, position=None):
        """A `CheckpointError` with the file and the position."""
        return CheckpointError(message, self._source.path, self.position if position is None else position)
