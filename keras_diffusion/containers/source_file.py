"""A file that is read by ranges: never beyond its end, never more than is asked for, and checked against its SHA-256
where there is one.

    model.h5
    model.h5.sha256      what `sha256sum model.h5 > model.h5.sha256` writes

HDF5 has no checksums of its own. A bit that flips inside the data of an H5 file and leaves a finite number cannot be
noticed without this second file. With it, every change is.
"""

import copy
import hashlib
import io
from pathlib import Path

from keras_diffusion.containers.errors import CheckpointError

_LONGEST_SUM = 4096  # of a `.sha256`: the sum and the name of the file


class SourceFile:
    """A file open for reading.

    Args:
        path: the file.
        verify: whether to look for a `.sha256`. Default True.

    Attributes:
        size: its length in bytes.

    Raises:
        CheckpointError: it is missing, or is not what its `.sha256` says.
    """

    def __init__(self, path, verify=True):
        self.path = Path(path)
        try:
            self._file = self.path.open("rb", buffering=0)
            self.size, self._start = self._file.seek(0, io.SEEK_END), 0
        except OSError as error:
            raise CheckpointError(f"A file of the checkpoint cannot be opened: {error.strerror}.", self.path) from error
        if verify:
            self._verify()

    def read(self, offset, size):
        """`size` bytes from `offset` on.

        Raises:
            CheckpointError: the file ends before.
        """
        data = bytearray(self.check(offset, size))
        self.read_into(data, offset)
        return bytes(data)

    def read_into(self, buffer, offset):
        """Fills a writable buffer (an array of bytes) with what lies at `offset`."""
        view = memoryview(buffer)
        self.check(offset, len(view))
        done, offset = 0, offset + self._start
        while done < len(view):
            self._file.seek(offset + done)
            count = self._file.readinto(view[done:])  # the system may stop short of the end, on Linux at 2 GiB
            if not count:
                raise CheckpointError("The file ended while it was read.", self.path, offset + done)
            done += count

    def check(self, offset, size):
        """Returns `size` if so many bytes lie at `offset`; otherwise the file was cut off, and an error says so."""
        if offset < 0 or size < 0 or offset + size > self.size:
            raise CheckpointError(
                f"The file is cut off or damaged: {size} bytes are wanted at {offset}, but there are {self.size}.",
                self.path,
                self._start + offset,
            )
        return size

    def part(self, start, size):
        """A range of the file that is read as if it were a file of its own.

        Returns:
            object with `path`, `size`, `read`, `read_into`, `check`; it closes with this file.
        """
        self.check(start, size)
        part = copy.copy(self)
        part._start, part.size = self._start + start, size
        return part

    def close(self):
        """Closes the file."""
        self._file.close()

    def _verify(self):
        beside = self.path.with_name(self.path.name + ".sha256")
        if not beside.is_file():
            return
        with beside.open("rb") as file:
            expected = file.read(_LONGEST_SUM).decode("utf-8", "replace").split(maxsplit=1)
        with self.path.open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
        if not expected or expected[0].lower() != actual:
            self.close()
            raise CheckpointError(
                f"The file is not what {beside.name} describes: SHA-256 {actual}, expected "
                f"{expected[0] if expected else 'nothing'}. "
                "Fetch it again, or delete the .sha256 if the file was changed on purpose.",
                self.path,
            )
