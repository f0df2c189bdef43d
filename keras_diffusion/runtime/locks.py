"""A lock on a folder, held by one process at a time.

It is `flock` on a file in the folder, which names its holder. The system releases it when the process ends, however it
ends; the file that a killed process leaves behind locks nothing. If the system or the file system has no such locks
(Windows, some network file systems), a warning says that nothing is locked.
"""

import contextlib
import datetime
import os
import socket
import warnings
from pathlib import Path

NAME = ".lock"
_held: dict = {}  # folder → (number of holders in this process, file descriptor or None)


class FolderLocked(RuntimeError):
    """Another process holds the folder."""


class FolderLock:
    """The lock of a folder, reentrant within a process.

    Args:
        folder: path; created by `acquire` if needed.
        what: what happens in it, for the error in other processes. Default "being trained in".

    Raises (`acquire`, and entering the `with` block):
        FolderLocked: another process holds it.
    """

    def __init__(self, folder, what="being trained in"):
        self.folder, self.what = Path(folder), what
        self._key = None

    def __enter__(self):
        self.acquire()
        return self

    def __exit__(self, *error):
        self.release()

    def acquire(self):
        """Takes the lock, unless this object holds it already."""
        if self._key is not None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        key = str(self.folder.resolve())
        count, file = _held.get(key) or (0, _locked_file(self.folder / NAME, self.what))
        _held[key] = (count + 1, file)
        self._key = key

    def release(self):
        """Releases the lock and deletes its file."""
        if self._key is None:
            return
        count, file = _held.pop(self._key)
        if count > 1:
            _held[self._key] = (count - 1, file)
        elif file is not None:
            try:
                with contextlib.suppress(OSError):  # the folder may be gone
                    os.unlink(Path(self._key) / NAME)
            finally:
                os.close(file)
        self._key = None


def _locked_file(path, what):
    """The descriptor of the locked file, or None on systems without locks."""
    try:
        import fcntl
    except ImportError:
        warnings.warn(
            f"This system has no file locks: make sure that only one process trains in {str(path.parent)!r}.",
            stacklevel=4,
        )
        return None
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(file, 300).decode("utf-8", "replace").strip() or "another process"
            os.close(file)
            raise FolderLocked(
                f"One process at a time works in a folder. Received: {str(path.parent)!r}, which is {what} by "
                f"{holder}. Wait for it, stop it, or choose another folder."
            ) from None
        except OSError as error:  # a file system without locks
            os.close(file)
            warnings.warn(
                f"{str(path.parent)!r} cannot be locked ({error}): make sure that only one process uses it.",
                stacklevel=4,
            )
            return None
        if _is_at(file, path):
            break
        os.close(file)  # its holder has just removed it
    since = datetime.datetime.now().isoformat(" ", "seconds")
    os.truncate(file, 0)
    os.write(file, f"process {os.getpid()} on {socket.gethostname()} since {since}\n".encode())
    return file


def _is_at(file, path):
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(file), there)
