"""Timing functions in turns, so that whatever else the machine does slows all of them down alike."""

import time

import numpy as np
from keras import ops


def in_turns(functions, rounds):
    """The seconds of each function in each round.

    Args:
        functions: name → function without arguments, which returns when its work is done; called before, so that it is
            compiled.
        rounds: how often each is called.

    Returns:
        dict name → array `(rounds,)`.
    """
    times = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    return {name: np.array(spent) for name, spent in times.items()}


def here_and_there(here, there, rounds):
    """Medians of two functions in ms, and the median of their ratio: a dict for a line of JSON."""
    times = in_turns({"here": here, "there": there}, rounds)
    row = {name: round(1e3 * float(np.median(spent)), 3) for name, spent in times.items()}
    return {**row, "ratio": round(float(np.median(times["here"] / times["there"])), 2)}


def computed(function, *args):
    """What a function of tensors returns, as an array: to wait for it."""
    return ops.convert_to_numpy(function(*args))
