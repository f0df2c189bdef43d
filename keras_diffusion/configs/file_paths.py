"""Paths in files: they must point to a file in the same folder or below it."""

from pathlib import Path

from keras_diffusion.configs.checks import shown


class FilePath(str):
    """A path from a file, checked to be beside it: the only paths that `from_config` of a class may read."""


def inside(folder, name, what):
    """The path of a file that another file names, in `folder` or below it.

    Args:
        folder: path, or None if no file may be named.
        name: the path as written in the file, relative to `folder`.
        what: where in the config it is, for errors.

    Returns:
        `FilePath`.

    Raises:
        ValueError: it points elsewhere, or to no file.
    """
    if folder is None or not isinstance(name, str) or not name or "\0" in name:
        raise ValueError(f"A config in a file holds no paths. Received: {what[-120:]}={shown(name)}")
    try:
        base = Path(folder).resolve()
        path = (base / name).resolve()
        if not Path(name).is_absolute() and path.is_relative_to(base) and path.is_file():
            return FilePath(path)
    except (OSError, RuntimeError):  # too long, or a link to itself
        pass
    raise ValueError(
        f"A path in a file leads to a file beside it. Received: {what[-120:]}={shown(name)}, which does not"
    )
