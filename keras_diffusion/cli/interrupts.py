"""Ctrl-C, and the SIGTERM that schedulers and container platforms send, as one clean stop of `fit`."""

import signal
import threading

import keras

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts(keras.callbacks.Callback):
    """Turns signals into KeyboardInterrupt while its `with` block runs; also to be given to `fit` as a callback.

    Python loses an exception that a signal raises while some object is being deleted or a C library calls back ("Exception ignored in
    …"). The signal is therefore remembered too, and the next end of a batch stops training for certain.

    Attributes:
        asked: whether a signal came.
    """

    def __init__(self):
        super().__init__()
        self.asked = False
        self._previous = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():  # elsewhere Python sets no handlers
            self._previous = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(self, *error):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number, frame):
        self.asked = True
        raise KeyboardInterrupt

    def on_train_batch_end(self, batch, logs=None):
        if self.asked:
            raise KeyboardInterrupt
