"""Progress of long work: a bar for who watches a terminal, a line now and then for who does not."""

import sys
import time

import keras


def progress_bar(verbose, total):
    """A function of the steps done that draws a bar, or None. "auto": only where a person watches a terminal."""
    if verbose == "auto":
        verbose = sys.stderr.isatty() and total > 1
    if not verbose:
        return None
    bar = keras.utils.Progbar(total, unit_name="step")
    return lambda done: bar.update(min(total, int(done)))


def progress_lines(total, what, every=30.0, clock=time.monotonic):
    """A function of the steps done that writes a line to standard error now and then: for long work that nobody watches
    on a terminal.

    Args:
        total: number of steps.
        what: what is done, the first word of the lines.
        every: seconds before the first line, and between two.
        clock: function that gives seconds.
    """
    began = reported = clock()

    def report(done):
        nonlocal reported
        now = clock()
        if now - reported >= every and done < total:
            reported = now
            sys.stderr.write(
                f"{what}: step {int(done)} of {total}, about {round((now - began) * (total - done) / done)} s left\n"
            )
            sys.stderr.flush()

    return report
