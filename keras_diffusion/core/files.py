"""Files that are either whole or not there."""

import contextlib
import os
from pathlib import Path


@contextlib.contextmanager
def atomic_path(path):
    """A path to write to that becomes `path` at the end of the `with` block, by renaming; after an error nothing is left of it.

    Args:
        path: the file; missing folders are made, an existing file is replaced.

    Yields:
        `pathlib.Path` of a temporary file in the same folder, with the same endings.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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
