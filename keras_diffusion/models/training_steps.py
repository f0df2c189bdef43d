"""Training steps: counted, passed over after an interruption, and reported to callbacks when they end early."""

import contextlib

import keras

from keras_diffusion.models.weight_guard import on_jax
from keras_diffusion.runtime.interrupts import Interrupted


class StepCounter:
    """Counts a model's training steps, and passes over those that an earlier process has run.

    Args:
        model: Keras model.

    Attributes:
        steps_run: number of training steps so far, in batches.
    """

    def __init__(self, model):
        self.model, self.steps_run = model, 0
        self.skip(0, {})

    def skip(self, number, logs):
        """See `ResumableModel.skip_steps`."""
        self._left, self._logs = int(number), dict(logs)

    def step(self, function):
        """Keras's train function, counted."""

        def counted(*args):
            batches = self.model.steps_per_execution
            if self._left > 0:
                self._left -= batches
                result = self._passed_over(args, batches)
            else:
                result = function(*args)
            self.steps_run += batches
            return result

        return counted

    def _passed_over(self, args, batches):
        # The arguments of Keras's train function: (state, iterator) on JAX, (iterator,) on TensorFlow, (batches,) on
        # torch.
        if keras.backend.backend() != "torch":
            for _ in range(batches):
                next(args[-1], None)
        return (dict(self._logs), args[0]) if on_jax() else dict(self._logs)


@contextlib.contextmanager
def reporting_to(callbacks):
    """A context that calls hooks of callbacks which Keras does not have.

    `on_interrupt()`: a signal has stopped training between two steps. `on_abandon()`: `fit` ends by any exception.
    """
    try:
        yield
    except BaseException as error:
        callbacks = getattr(callbacks, "callbacks", callbacks) or []
        callbacks = callbacks if isinstance(callbacks, (list, tuple)) else [callbacks]
        between_steps = isinstance(error, Interrupted) and error.between_steps
        for hook in ("on_interrupt", "on_abandon") if between_steps else ("on_abandon",):
            for callback in callbacks:
                getattr(callback, hook, lambda: None)()
        raise
