"""The one error of this room: what is wrong with which file, and where in it."""


class CheckpointError(ValueError):
    """A checkpoint that is damaged, of an unknown kind, or that does not fit.

    Args:
        message: what is wrong and what helps.
        path: the file, or None.
        offset: byte in the file where the fault is, or None where there is no such byte.
    """

    def __init__(self, message, path=None, offset=None):
        self.path, self.offset = path, offset
        where = "" if path is None else f" File: {str(path)!r}" + ("" if offset is None else f", at byte {offset}") + "."
        super().__init__(message + where)
