"""What every command does before and after its work: chooses the backend, and turns errors into one message and an exit
code.
"""

import contextlib
import os
import signal
import sys
import traceback

import typer
from rich.console import Console

from keras_diffusion.cli.config import ConfigError, apply_sets, read_config, with_defaults
from keras_diffusion.cli.devices import joined, leave_processes
from keras_diffusion.cli.wording import in_command_words, words_of_command
from keras_diffusion.runtime.backend import PACKAGES, check


def console():
    """The console that commands print to."""
    # Made when needed: a test or a pipe may have put another file in the place of stdout.
    # Text is text: brackets stand in the names of files and tensors, and are no markup.
    return Console(highlight=False, markup=False)


@contextlib.contextmanager
def errors(debug):
    """Errors of the user as one message; 2: the command or the configuration is wrong, 1: anything else, 130: Ctrl-C,
    143: SIGTERM.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        code = 128 + getattr(stop, "number", signal.SIGINT)
        leave_processes(code)
        raise typer.Exit(code) from None
    except (ValueError, OSError, ImportError, FloatingPointError, RecursionError) as error:
        if debug:
            traceback.print_exc()
        # Not as rich markup: [viz] and [data] are words here.
        Console(stderr=True, highlight=False).print(f"Error: {_told(error)}", style="red", markup=False, soft_wrap=True)
        code = 2 if isinstance(error, ConfigError) else 1
        leave_processes(code)
        raise typer.Exit(code) from None
    except Exception:
        if joined():
            traceback.print_exc()
            leave_processes(1)
        raise


def _told(error):
    """The message of an error, in the words of the command line."""
    if "keras" not in sys.modules:  # from the command line itself, then
        return str(error)
    return in_command_words(str(error), **words_of_command())


def end_process(code):
    """Ends the process with an exit code, or with a message and 1, as `sys.exit` does.

    Once Keras is there, without the interpreter's own end: after an interruption while JAX was tracing or compiling,
    and after HDF5 could not write a file to the end, that crashes (signal 11, the message above it lost in a pipe).
    Nothing is lost without it. Files are written and closed by then, each put in place when it was whole; the system
    releases locks.
    """
    if "keras" not in sys.modules:
        sys.exit(code)
    if code is not None and not isinstance(code, int):
        sys.stderr.write(f"{code}\n")
        code = 1
    if "multiprocessing.process" in sys.modules:
        for child in sys.modules["multiprocessing.process"].active_children():  # workers that read data
            child.terminate()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # a pipe that nobody reads, a closed file
            stream.flush()
    os._exit(code or 0)


def read_early(config, sets):
    """Typing errors are reported before Keras is imported."""
    with_defaults(apply_sets(read_config(config), sets))


def choose_backend(backend, run=None):
    """Sets Keras's backend: the one asked for, else that of the run to be resumed."""
    if backend is not None and backend not in PACKAGES:
        raise ConfigError(f"--backend is one of {', '.join(PACKAGES)}. Received: --backend {backend}")
    if run is not None and backend is None and "keras" not in sys.modules:
        from keras_diffusion.cli.run_folder import RunFolder

        folder = RunFolder(run)
        folder.require_run()
        backend = folder.environment.get("backend")
        if backend not in PACKAGES:
            raise ConfigError(
                f"The run in {str(run)!r} was begun on no known backend. Received: "
                f"backend={backend!r:.100}. Pass --backend"
            )
    if backend is not None:
        if "keras" in sys.modules:
            import keras

            if keras.backend.backend() != backend:
                raise ConfigError(
                    f"Keras is imported already, on {keras.backend.backend()}. Received: --backend {backend}. Start "
                    "keras-diffusion as a command, or set the environment variable KERAS_BACKEND."
                )
        os.environ["KERAS_BACKEND"] = backend
    check()
    # Where TensorFlow is installed Keras imports it for saving, on any backend, and it greets with lines about oneDNN.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
