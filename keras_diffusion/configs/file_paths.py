"""Paths that stand in files: they lead to a file beside the one that they stand in, or are refused."""

from pathlib import Path

from keras_diffusion.configs.checks import shown


class FilePath(str):
    """A path that stood in a file and was found to lie beside it.

    `from_config` of a class that reads a file takes no other.
    """


def inside(folder, name, what):
    """The path of a file that another file names, which lies in `folder` or below it.

    Args:
        folder: path, or None where no file may be named.
        name: text as the file has it, relative to `folder`.
        what: which value it is, for errors.

    Returns:
        `FilePath`.

    Raises:
        ValueError: it leads elsewhere, or to no file.
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
