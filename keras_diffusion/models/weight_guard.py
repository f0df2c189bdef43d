"""Keeps a model's weights available while steps run, and after one has failed.

On JAX a step uses up the buffers of the old weights, and `fit`, `evaluate` and `predict` take the values out of the
model's variables while they run. Left alone, that means:

    after an exception (wrong shapes, missing labels, Ctrl-C)   a model without weights
    in `generate` in another thread, meanwhile                  "'NoneType' object is not callable" or
                                                                "Array has been deleted"

The guard puts the values back, also for a callback in the same thread that needs them; other threads get an error that
says why. Where a step failed after it had used up the weights, they are lost, and the error says so.
"""

import contextlib
import functools
import threading

import keras

from keras_diffusion.runtime.interrupts import between_steps, check_interrupts


class WeightGuard:
    """Knows which thread runs steps of a model, and puts the weights back.

    Args:
        model: `ResumableModel`.

    Attributes:
        turns: number of calls that ran steps, the present one included.
        steps_done: number of steps that have ended well.
    """

    def __init__(self, model):
        self.model = model
        self.turns = self.steps_done = 0
        self._owner = None  # (thread, name of the method) that runs steps
        self._in_step = False

    @contextlib.contextmanager
    def running(self, name):
        """A context for the method `name`, which runs steps: puts the weights back after an exception."""
        self.require_weights(name)
        outermost = self._owner is None
        if outermost:
            self._owner = (threading.get_ident(), name)
            self._forget_jax_state()
        self.turns += 1
        try:
            with between_steps():
                yield
        except BaseException:
            self._in_step = False
            if on_jax():
                # Where a step had already given the old buffers away and failed, there is nothing to put back.
                with contextlib.suppress(RuntimeError, ValueError):
                    self.model.jax_state_sync()
            raise
        finally:
            if outermost:
                self._owner = None
                self._forget_jax_state()

    def step(self, function):
        """`function`, which runs a step, made to stop before it where a signal asks for that."""

        def guarded(*args):
            check_interrupts()
            self._in_step = True
            result = function(*args)
            self._in_step = False
            self.steps_done += 1
            return result

        return guarded

    def require_weights(self, name):
        """Brings the weights back into the variables for the method `name`, or raises a RuntimeError; JAX only."""
        if not on_jax():
            return
        if self._owner is not None and self._owner[0] != threading.get_ident():
            raise RuntimeError(_taken(name, self._owner[1]))
        if self._in_step:
            return  # within the step, values are those of the traced program
        if not getattr(self.model, "_jax_state_synced", True):
            self.model.jax_state_sync()
        if name != "load_weights" and any(_is_lost(variable._value) for variable in self.model.variables):
            raise RuntimeError(
                "The weights were lost in a step that failed while it ran, of memory for example. Received: "
                f"{name}(...) afterwards. Load them again with load_weights, from a state or a checkpoint, or make the "
                "model anew."
            )

    def _forget_jax_state(self):
        # What an earlier call left here was used up by later ones.
        if on_jax():
            self.model._jax_state, self.model._jax_state_synced = None, True


def reads_weights(method):
    """Decorates a method of a `ResumableModel`, which fails with a clear error while another thread has the weights."""

    @functools.wraps(method)
    def guarded(self, *args, **kwargs):
        guard = self.weight_guard
        guard.require_weights(method.__name__)
        turns = guard.turns
        try:
            return method(self, *args, **kwargs)
        except (RuntimeError, ValueError, TypeError) as error:
            if guard.turns != turns and on_jax():  # a call that began meanwhile has used up what was being read
                raise RuntimeError(_taken(method.__name__, "fit, evaluate or predict")) from error
            raise

    return guarded


def on_jax():
    """Whether the backend is JAX."""
    return keras.backend.backend() == "jax"


def _is_lost(value):
    return value is None or (hasattr(value, "is_deleted") and value.is_deleted())


def _taken(name, by):
    return (
        "On JAX the weights are not available while another thread trains or evaluates the model. Received: "
        f"{name}(...) during {by} in another thread. Call it in a callback of `fit`, such as callbacks.SampleGrid, or "
        "on a copy of the model: `save_to_preset` in a callback, and `from_preset`."
    )
