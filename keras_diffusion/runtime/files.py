"""Writing files so that they are either complete or absent, and reading them within limits."""

import contextlib
import errno
import json
import os
import re
import shutil
import tempfile
from pathlib import Path

from keras_diffusion.runtime import limits
from keras_diffusion.runtime.documents import parse_json

# Names of what is incomplete or about to be deleted; the last are those of earlier versions.
_LEFT_OVER = re.compile(
    r"\.tmp-\d+-.+|\.model-[a-z0-9_]{8}|\.\d+-(state|config|environment|epoch|loss|metrics|results)[-.].+"
)
_FULL = {getattr(errno, name, None) for name in ("ENOSPC", "EDQUOT", "EFBIG", "EIO")} - {None}
_unfinished: list[BaseException] = []  # errors of HDF5


class NotWritten(OSError):
    """A file could not be written completely. The file that it should replace is unchanged."""


@contextlib.contextmanager
def atomic_path(path):
    """A temporary path that becomes `path`, by renaming, at the end of the `with` block.

    After an error it is deleted.

    Args:
        path: the file; missing folders are made, an existing file is replaced.

    Yields:
        `pathlib.Path` of a temporary file in the same folder, with the same endings.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    try:
        with write_errors(path):
            yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path):
    """A temporary folder that becomes `path`, by renaming, at the end of the `with` block.

    After an error it is deleted.

    Args:
        path: the folder; missing parents are made, an existing folder or file is replaced.

    Yields:
        `pathlib.Path` of a temporary folder beside it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield temporary
        os.chmod(temporary, 0o755)  # mkdtemp's folders are private
        if path.is_dir():
            remove_folder(path)
        else:
            path.unlink(missing_ok=True)
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def write_errors(path):
    """A context for writing `path`: what libraries raise when the disk is full becomes a `NotWritten` that says so.

    HDF5 raises errors of several types, and crashes when an incomplete file is closed. So the error is kept, and with
    it the open file. `check_room` makes this rare.
    """
    try:
        yield
    except NotWritten:
        raise
    except (OSError, RuntimeError) as error:
        of_hdf5 = isinstance(error, RuntimeError) and re.search(
            r"extend file|file write failed|unable to flush", str(error)
        )
        if not of_hdf5 and getattr(error, "errno", None) not in _FULL:
            raise
        _unfinished.append(error)
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].partition(" (file write failed")[0]
        raise NotWritten(f"Could not write {str(path)!r}: is the disk full, or a quota reached? {reason}.") from None


def check_room(path, size):
    """Raises a `NotWritten` if the disk, a quota or a process limit leaves no room for a file.

    Args:
        path: where it will be written.
        size: bytes.
    """
    path = Path(path)
    if not hasattr(os, "posix_fallocate"):
        return
    probe = path.with_name(f".tmp-{os.getpid()}-room-{path.name}")
    try:
        with probe.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, size))
    except OSError as error:  # other errors: no such folder, or a file system that cannot reserve space
        if error.errno in _FULL:
            path = path.with_name(re.sub(r"^\.tmp-\d+-", "", path.name))  # the final name, not the temporary one
            raise NotWritten(
                f"Could not write {str(path)!r}: the disk or a quota is full ({error.strerror})."
            ) from None
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)


def remove_leftovers(folder):
    """Deletes what killed processes left incomplete in a folder. No other process may be writing there.

    Args:
        folder: path; its sub-folders are left alone.
    """
    for path in Path(folder).glob(".*"):
        if is_leftover(path):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def is_leftover(path):
    """Whether a file or folder is temporary, left by a writer that was killed."""
    return _LEFT_OVER.fullmatch(Path(path).name) is not None


def remove_folder(path):
    """Deletes a folder if it exists. It is renamed first, so that for others it vanishes at once."""
    path = Path(path)
    if path.exists():
        removed = path.with_name(f".tmp-{os.getpid()}-removed-{path.name}")
        os.replace(path, removed)
        shutil.rmtree(removed)


def write_whole(path, content):
    """Writes bytes so that no reader sees an incomplete file and a killed run leaves none.

    Args:
        path: the file; missing folders are made, an existing file is replaced.
        content: bytes.

    Returns:
        the path, as `pathlib.Path`.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return Path(path)


def write_json(path, value):
    """Writes JSON, indented, in UTF-8; whole or not at all."""
    return write_whole(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode("utf-8"))


def read_json(path, error=ValueError, kind=dict):
    """Reads JSON from a file, within the limits of runtime/limits.py.

    Args:
        path: the file.
        error: function from a message to the exception that is raised. Default: `ValueError`.
        kind: required type of the value; `object` for any. Default: dict.

    Returns:
        the value.

    Raises:
        FileNotFoundError: no such file.
        `error`: a folder or a device, invalid JSON, not of `kind`, a repeated key, or beyond the limits `text_bytes`,
            `text_values` and `text_depth`.

    Example:

    >>> config = read_json("runs/flowers/config.json")
    """
    return parse_json(read_bytes(path, error), f"file {str(path)!r}", error, kind)


def read_bytes(path, error=ValueError, limit="text_bytes"):
    """Reads a whole file that is not larger than a limit.

    Args:
        path: the file.
        error: function from a message to the exception that is raised. Default: `ValueError`.
        limit: name of the limit. Default: "text_bytes".

    Returns:
        bytes.

    Raises:
        FileNotFoundError: no such file.
        `error`: a folder or a device, or a file larger than the limit.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise error(f"A file is needed. Received: {str(path)!r}, which is a folder or a device.")
    with path.open("rb") as file:
        limits.check(os.fstat(file.fileno()).st_size, limit, f"The length of the file {str(path)!r}", error)
        return file.read(getattr(limits.current(), limit))


def unused_path(stem, suffix=""):
    """The path `stem` + `suffix`, with -2, -3 … between them if such a file or folder exists already.

    Args:
        stem: path without its ending.
        suffix: ending, such as ".png"; none for a folder.
    """
    number, path = 1, Path(f"{stem}{suffix}")
    while path.exists():
        number += 1
        path = Path(f"{stem}-{number}{suffix}")
    return path
