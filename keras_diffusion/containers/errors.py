"""The one error of this room: what is wrong with which file, and where in it."""

import contextlib
import struct

from keras_diffusion.configs.checks import clip

# What code raises that met something it did not expect, which in a file is damage.
_UNEXPECTED = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, RecursionError, TypeError, ValueError),
    struct.error,
)


class CheckpointError(ValueError):
    """A checkpoint that is damaged, of an unknown kind, or that does not fit.

    Args:
        message: what is wrong and what helps.
        path: the file, or None.
        offset: byte in the file where the fault is, or None where there is no such byte.
    """

    def __init__(self, message, path=None, offset=None):
        self.path, self.offset = path, offset
        where = (
            "" if path is None else f" File: {str(path)!r}" + ("" if offset is None else f", at byte {offset}") + "."
        )
        super().__init__(clip(str(message)) + where)


def error_at(path, offset=None):
    """A function from a message to a `CheckpointError` about a file: what checks take that know nothing
    of checkpoints.
    """

    def error(message, offset=offset):
        return CheckpointError(message if message.endswith((".", "…")) else f"{message}.", path, offset)

    return error


@contextlib.contextmanager
def only_checkpoint_errors(path, words="The file is damaged, or not what it seems to be"):
    """A block in which a file is read: what is raised there besides `CheckpointError` becomes one.

    Args:
        path: the file.
        words: what the error says before its cause.
    """
    try:
        yield
    except CheckpointError:
        raise
    except _UNEXPECTED as error:
        raise CheckpointError(f"{words}: {type(error).__name__}: {clip(str(error), 600)}.", path) from error
    except OSError as error:
        # A name in a file may be no name of a file at all; what is missing stays what it is.
        if isinstance(error, FileNotFoundError | PermissionError):
            raise
        raise CheckpointError(f"{words}: {error.strerror}.", path) from error
