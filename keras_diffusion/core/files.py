"""Files that are either whole or not there."""

import contextlib
import json
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


def write_json(path, value):
    """Writes JSON, indented, in UTF-8; whole or not at all."""
    return write_whole(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode("utf-8"))


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
