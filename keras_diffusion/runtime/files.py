"""Files that are either whole or not there."""

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

# Names of what is not whole yet, or about to be deleted; the last are those of earlier versions.
_LEFT_OVER = re.compile(
    r"\.tmp-\d+-.+|\.model-[a-z0-9_]{8}|\.\d+-(state|config|environment|epoch|loss|metrics|results)[-.].+"
)
_FULL = {getattr(errno, name, None) for name in ("ENOSPC", "EDQUOT", "EFBIG", "EIO")} - {None}
_unfinished: list[BaseException] = []  # errors of HDF5


class NotWritten(OSError):
    """A file could not be written to its end: what it was to replace is still there."""


@contextlib.contextmanager
def atomic_path(path):
    """A path to write to that becomes `path` at the end of the `with` block, by renaming; after an error nothing is
    left of it.

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
    """A new folder to write into that becomes `path` at the end of the `with` block, by renaming; after an error nothing
    is left of it.

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
    """A context for what writes `path`: what libraries raise when the disk is full becomes a `NotWritten` that says so.

    HDF5 raises errors of several types, and crashes when a file that could not be written is closed: such an error, and
    with it the file, is kept. `check_room` sees to it that it hardly comes to that.
    """
    try:
        yield
    except NotWritten:
        raise
    except (OSError, RuntimeError) as error:
        full = getattr(error, "errno", None) in _FULL
        if not (
            full
            or (
                isinstance(error, RuntimeError)
                and re.search(r"extend file|file write failed|unable to flush", str(error))
            )
        ):
            raise
        _unfinished.append(error)
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].partition(" (file write failed")[0]
        raise NotWritten(f"Could not write {str(path)!r}: is the disk full, or a quota reached? {reason}.") from None


def check_room(path, size):
    """Raises a `NotWritten` if the disk, a quota or a limit of the process has no room for a file.

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
    except OSError as error:  # others say that there is no such folder, or that the file system cannot reserve
        if error.errno in _FULL:
            path = path.with_name(re.sub(r"^\.tmp-\d+-", "", path.name))  # what is to be, not the temporary file
            raise NotWritten(
                f"Could not write {str(path)!r}: the disk or a quota is full ({error.strerror})."
            ) from None
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)


def remove_leftovers(folder):
    """Deletes what killed processes left half written or half deleted in a folder; no other process may be writing
    there.

    Args:
        folder: path; what lies in its sub-folders stays.
    """
    for path in Path(folder).glob(".*"):
        if is_leftover(path):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def is_leftover(path):
    """Whether a file or folder is the temporary one of a writer."""
    return _LEFT_OVER.fullmatch(Path(path).name) is not None


def remove_folder(path):
    """Deletes a folder, if it is there: for others it is gone at once, by renaming it first."""
    path = Path(path)
    if path.exists():
        removed = path.with_name(f".tmp-{os.getpid()}-removed-{path.name}")
        os.replace(path, removed)
        shutil.rmtree(removed)


def write_whole(path, content):
    """Writes bytes so that no reader sees half a file and a killed run leaves none.

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
        kind: type that the value must have; `object` for any. Default: dict.

    Returns:
        the value.

    Raises:
        FileNotFoundError: no such file.
        `error`: no file but a folder or a device, no JSON, not of `kind`, a key twice in an object, or beyond the
            limits `text_bytes`, `text_values`, `text_depth`.

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
        `error`: no file but a folder or a device, or larger than the limit.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise error(f"A file is needed. Received: {str(path)!r}, which is a folder or a device.")
    with path.open("rb") as file:
        limits.check(os.fstat(file.fileno()).st_size, limit, f"The length of the file {str(path)!r}", error)
        return file.read(getattr(limits.current(), limit))


def unused_path(stem, suffix=""):
    """The path `stem` + `suffix`, with -2, -3 … between them where there is such a file or folder already.

    Args:
        stem: path without its ending.
        suffix: ending, such as ".png"; none for a folder.
    """
    number, path = 1, Path(f"{stem}{suffix}")
    while path.exists():
        number += 1
        path = Path(f"{stem}-{number}{suffix}")
    return path
