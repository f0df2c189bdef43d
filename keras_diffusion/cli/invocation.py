"""What all commands share: choosing the backend, and turning errors into one message and an exit code."""

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
    # Created when needed, since a test or a pipe may replace stdout. Without markup: names of files and tensors may
    # have brackets.
    return Console(highlight=False, markup=False)


@contextlib.contextmanager
def errors(debug):
    """Prints errors of the user as one message, and exits.

    Exit codes: 2 for a wrong command or configuration, 1 for anything else, 130 for Ctrl-C, 143 for SIGTERM.
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
        # Not as rich markup: [viz] and [data] are text here.
        Console(stderr=True, highlight=False).print(
            f"Error: {_message(error)}", style="red", markup=False, soft_wrap=True
        )
        code = 2 if isinstance(error, ConfigError) else 1
        leave_processes(code)
        raise typer.Exit(code) from None
    except Exception:
        if joined():
            traceback.print_exc()
            leave_processes(1)
        raise


def _message(error):
    """The message of an error, in the words of the command line."""
    # Before Keras is imported, errors come from the command line itself.
    return in_command_words(str(error), **words_of_command()) if "keras" in sys.modules else str(error)


def end_process(code):
    """Ends the process with an exit code, or with a message and 1, as `sys.exit` does.

    Once Keras is imported, this skips the interpreter's shutdown, which crashes after an interruption while JAX traces
    or compiles, and after HDF5 could not complete a file (signal 11, with the message above it lost in a pipe). Nothing
    is lost: files are complete and closed by then, and the system releases locks.
    """
    if "keras" not in sys.modules:
        sys.exit(code)
    if code is not None and not isinstance(code, int):
        sys.stderr.write(f"{code}\n")
        code = 1
    if "multiprocessing.process" in sys.modules:
        for child in sys.modules["multiprocessing.process"].active_children():  # data workers
            child.terminate()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # a pipe that nobody reads, a closed file
            stream.flush()
    os._exit(code or 0)


def read_early(config, sets):
    """Reports typing errors in a configuration before Keras is imported."""
    with_defaults(apply_sets(read_config(config), sets))


def choose_backend(backend, run=None):
    """Sets Keras's backend: the requested one, else that of the run to be resumed."""
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
        keras = sys.modules.get("keras")
        if keras is not None and keras.backend.backend() != backend:
            raise ConfigError(
                f"Keras is already imported, on {keras.backend.backend()}. Received: --backend {backend}. Start "
                "keras-diffusion as a command, or set the environment variable KERAS_BACKEND."
            )
        os.environ["KERAS_BACKEND"] = backend
    check()
    # If TensorFlow is installed, Keras imports it for saving, on any backend; without this, it prints about oneDNN.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
