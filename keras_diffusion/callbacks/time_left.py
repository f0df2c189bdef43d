"""Estimates of the remaining training time, for terminals and log files."""

import sys
import time

import keras

from keras_diffusion.configs.checks import check_number
from keras_diffusion.runtime.devices import is_writer

_FIRST_LOOK = 10.0  # seconds of training before the first estimate


class TimeLeft(keras.callbacks.Callback):
    """Prints how long an epoch and the whole training take, and from time to time how much is left.

    The first step, which compiles, does not count. The first line comes after ten seconds of training, later ones at
    most every `every` seconds and every twentieth of the whole time.

    Args:
        every: minimum number of seconds between two lines, > 0. Default 60.
        write: function of a line. Default: print to standard output, as Keras does.
        advice: lines added to the first estimate if training takes longer than `long`. Default: none.
        long: seconds of the whole training. Default 3600.
        clock: function that returns seconds. Default `time.monotonic`.

    Attributes:
        seconds_per_epoch: the current estimate, or None.

    Raises:
        ValueError: `every` ≤ 0.

    Example:

    >>> model.fit(images, epochs=100, verbose=2, callbacks=[keras_diffusion.callbacks.TimeLeft()])
    """

    def __init__(self, every=60, write=None, advice=(), long=3600, clock=time.monotonic):
        super().__init__()
        rule = "`every` is the least number of seconds between two lines and must be > 0"
        self.every = check_number("every", every, above=0, rule=rule, finite=False)
        self.advice, self.long = tuple(advice), long
        self._write = _print if write is None else write
        self._clock = clock
        self.seconds_per_epoch = None

    def on_train_begin(self, logs=None):
        self.seconds_per_epoch = None
        self._epoch, self._epochs_timed = 0, []
        self._compiled = self._reported = None  # (time, steps done) after the first step; time of the last line
        self._compile_seconds = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch, self._epoch_began = epoch, self._clock()

    def on_train_batch_end(self, batch, logs=None):
        now = self._clock()
        if self._compiled is None:
            _wait(logs)
            self._compiled = (self._clock(), batch + 1)
            self._compile_seconds = self._compiled[0] - self._epoch_began
            return
        if now - (self._compiled[0] if self._reported is None else self._reported) < self._pause():
            return
        _wait(logs)  # or queued steps would count as done
        if not self._epochs_timed and self.params.get("steps"):
            began, done = self._compiled
            self.seconds_per_epoch = (self._clock() - began) / (batch + 1 - done) * self.params["steps"]
        self._report(batch + 1)

    def on_epoch_end(self, epoch, logs=None):
        _wait(logs)
        first = not self._epochs_timed
        seconds = self._clock() - self._epoch_began
        steps = self.params.get("steps")
        if first and steps and self._compiled is not None and steps > self._compiled[1]:
            # The first step compiled, so count it like the others.
            seconds = (seconds - self._compile_seconds) * steps / (steps - self._compiled[1])
        self._epochs_timed = [*self._epochs_timed[-4:], seconds]
        self.seconds_per_epoch = sum(self._epochs_timed) / len(self._epochs_timed)
        waited = None if self._reported is None else self._clock() - self._reported
        if self._left(None) and (waited is None or waited >= self._pause()):
            self._report(None)

    def _pause(self):
        if self._reported is None:
            return _FIRST_LOOK
        return max(self.every, 0.05 * (self.seconds_per_epoch or 0.0) * self.params.get("epochs", 1))

    def _left(self, steps_done):
        """Seconds to the end, or None if nothing is known yet."""
        if self.seconds_per_epoch is None:
            return None
        steps = self.params.get("steps")
        done = 1.0  # of this epoch
        if steps_done is not None:
            done = steps_done / steps if steps else 0.0
        return self.seconds_per_epoch * max(0.0, self.params.get("epochs", 1) - self._epoch - done)

    def _report(self, steps_done):
        left, epochs = self._left(steps_done), self.params.get("epochs", 1)
        if left is None:
            return
        if self._reported is None:
            per_epoch, more = duration(self.seconds_per_epoch), epochs - self._epoch
            lines = [f"About {per_epoch} per epoch, {duration(self.seconds_per_epoch * more)} in total."]
            lines += self.advice if self.seconds_per_epoch * more > self.long else ()
        else:
            lines = [f"Epoch {self._epoch + 1} of {epochs}: about {duration(left)} left."]
        self._reported = self._clock()
        if not is_writer():
            return
        if steps_done is not None and self.params.get("verbose") == 1:
            lines[0] = "\n" + lines[0]  # below the progress bar, which continues on the next line
        for line in lines:
            self._write(line)


def _print(line):
    sys.stdout.write(f"{line}\n")  # as Keras's own lines do
    sys.stdout.flush()


def duration(seconds):
    """ "45 s", "12 min", "3 h 20 min", "2.5 days"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    if seconds < 48 * 3600:
        hours, minutes = divmod(round(seconds / 60), 60)
        return f"{hours} h {minutes} min" if hours < 10 else f"{round(seconds / 3600)} h"
    return f"{seconds / 86400:.1f} days"


def _wait(logs):
    """Waits for the step that produced these logs: backends run asynchronously."""
    for value in list((logs or {}).values())[:1]:
        float(value)
