"""`state.json`: how far a training run has come, and which file beside it holds the weights."""

import math
import re
from pathlib import Path

from keras_diffusion.configs.checks import shown
from keras_diffusion.runtime.files import read_json

STATE, ENVIRONMENT = "state.json", "environment.json"
#: The kind that `environment.json` states in the run folders of `keras-diffusion train`.
RUN_MARK = "keras_diffusion run"
_WEIGHTS = re.compile(r"state-\d{1,12}(-\d{1,12})?\.weights\.h5")


def is_marked(folder):
    """Whether `environment.json` marks a folder as that of a run, started or finished."""
    try:
        environment = read_json(Path(folder) / ENVIRONMENT)
    except (OSError, ValueError):
        return False
    return environment.get("kind") == RUN_MARK


def read_state(directory, error=ValueError):
    """The content of a folder's `state.json`.

    The folder may come from anyone, so this checks that numbers are counts, and that the weights are in the folder
    itself, under a name such as `Resume` gives.

    Args:
        directory: the folder.
        error: function from a message to the exception that is raised. Default: `ValueError`.

    Returns:
        dict: "epoch" (epochs done), "weights" (name of a file in the folder), "data_epoch" (an int or None), and
            further entries.

    Raises:
        FileNotFoundError: no `state.json`.
        `error`: it is damaged, or does not name such a file.
    """
    directory = Path(directory)
    path = directory / STATE
    state = read_json(path, error)
    for key in ("epoch", "data_epoch", "step"):
        if not _is_count(state.get(key)) and not (key != "epoch" and state.get(key) is None):
            raise error(f"The state counts epochs and steps. Received: {key}={shown(state.get(key))} in {str(path)!r}")
    if not _is_sound(state.get("metrics")):
        raise error(f"The state's metrics are numbers. Received: metrics={shown(state['metrics'])} in {str(path)!r}")
    name = state.get("weights")
    if (
        not isinstance(name, str)
        or not _WEIGHTS.fullmatch(name)
        or (directory / name).resolve().parent != directory.resolve()
    ):
        raise error(
            "The state's weights are a file beside it, state-….weights.h5. Received: "
            f"weights={shown(name)} in {str(path)!r}"
        )
    return state


def _is_count(value):
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _is_sound(value):
    """Whether a value is None, a finite number, or lists of them."""
    if isinstance(value, list):
        return all(child is not None and _is_sound(child) for child in value)
    return value is None or (isinstance(value, (int, float)) and math.isfinite(value))
