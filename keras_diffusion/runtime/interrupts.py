"""Ctrl-C, and the SIGTERM of schedulers and container platforms, stop training between two steps.

Python raises KeyboardInterrupt anywhere: between a step that has consumed the old weights and the line that stores the
new ones, while a program is traced, or in a destructor, where it is lost. So a first signal is only noted, and the next
step does not start; a second one stops at once.
"""

import contextlib
import os
import signal
import threading
import time

_REPEATED = (
    1.0  # seconds within which a signal counts as the same: a wrapper may pass on what the terminal sent to both
)
_current = None


class Interrupted(KeyboardInterrupt):
    """The KeyboardInterrupt of a signal that `Interrupts` handles.

    Attributes:
        number: the signal.
        between_steps: whether it is raised between two steps, so that the model is consistent.
    """

    def __init__(self, number, between_steps):
        super().__init__()
        self.number, self.between_steps = number, between_steps


class Interrupts:
    """Handles signals in its `with` block: they raise `Interrupted`, in `deferring` blocks only at `check`.

    Args:
        signals: numbers. Handlers are set in the main thread only, and never replace another program's handler;
            SIGTERM's default, which ends the process, is replaced.
        notice: text for standard error when a signal is deferred, or None.
    """

    def __init__(self, signals=(signal.SIGINT,), notice=None):
        self.signals, self.notice = signals, notice
        self._previous, self._depth, self._when = {}, 0, None
        self._pending = None

    def __enter__(self):
        global _current
        self._outer, _current = _current, self
        if threading.current_thread() is threading.main_thread():
            for number in self.signals:
                if signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL):
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error):
        global _current
        _current = self._outer
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def deferring(self):
        """A context in which a first signal waits for `check`, or for the end of the outermost such block."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
        if not self._depth:
            self.check()

    def check(self):
        """Raises `Interrupted` if a signal has arrived."""
        if self._pending is not None:
            number, self._pending = self._pending, None
            raise Interrupted(number, between_steps=True)

    def _handle(self, number, frame):
        now = time.monotonic()
        if self._when is not None and now - self._when < _REPEATED:
            return
        first, self._when = self._when is None, now
        if not (self._depth and first):
            self._pending = None
            raise Interrupted(number, between_steps=False)
        self._pending = number
        if self.notice:
            # Not with print: the signal may interrupt one, and Python's buffers are not reentrant.
            with contextlib.suppress(OSError):
                os.write(2, f"\n{self.notice}\n".encode())


@contextlib.contextmanager
def between_steps():
    """A context for a loop of steps: signals stop it only where it calls `check_interrupts`.

    In other threads than the main one it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with contextlib.ExitStack() as stack:
        stack.enter_context((_current or stack.enter_context(Interrupts())).deferring())
        yield


def check_interrupts():
    """Raises `Interrupted` if a signal has been deferred."""
    if _current is not None and threading.current_thread() is threading.main_thread():
        _current.check()
