"""Keeping a model alive while steps run, and after one has failed.

On JAX a step uses up the buffers of the old weights, and `fit`, `evaluate` and `predict` take the values out of the
model's variables while they run. Left alone, that means:

    an exception (a batch of another shape, missing labels, Ctrl-C)     a model without weights
    `generate` in another thread, meanwhile                             "'NoneType' object is not callable", "Array has been deleted"

Here the values are put back, whoever needs them in the same thread (a callback) gets them, and other threads are told.
Where a step failed after it had used up the weights, they are lost, and that is said.
"""

import contextlib
import functools
import threading

import keras

from keras_diffusion.runtime.interrupts import Interrupted, between_steps, check_interrupts

_GROUPS = ("trainable_variables", "non_trainable_variables", "optimizer_variables", "metrics_variables")


def reads_weights(method):
    """Makes a method of the model an error that says why, where another thread has the weights."""

    @functools.wraps(method)
    def guarded(self, *args, **kwargs):
        self._require_weights(method.__name__)
        turn = self._turn
        try:
            return method(self, *args, **kwargs)
        except (RuntimeError, ValueError, TypeError) as error:
            if self._turn != turn and _on_jax():  # one that began meanwhile has used up what was being read
                raise RuntimeError(_taken(method.__name__, "fit, evaluate or predict")) from error
            raise

    return guarded


class KeepsStateMixin:
    """Guards the weights during `fit`, `evaluate`, `predict` and their `_on_batch` forms. Goes before `keras.Model` in
    the bases.

    Attributes:
        steps_run: number of calls of training steps so far, in batches.
    """

    steps_run = 0
    _busy = None  # (thread, name of the method) that runs steps
    _turn = 0  # how often one began
    _in_step = False
    _skipping = (0, None)

    @contextlib.contextmanager
    def _steps(self, name):
        """A context for a method that runs steps: puts the weights back after an exception."""
        self._require_weights(name)
        outermost = self._busy is None
        if outermost:
            self._busy = (threading.get_ident(), name)
            self._forget_jax_state()
        self._turn += 1
        try:
            with between_steps():
                yield
        except BaseException:
            self._in_step = False
            if _on_jax():
                # Where a step had already given the old buffers away and failed, there is nothing to put back.
                with contextlib.suppress(RuntimeError, ValueError):
                    self.jax_state_sync()
            raise
        finally:
            if outermost:
                self._busy, self._skipping = None, (0, None)
                self._forget_jax_state()

    @contextlib.contextmanager
    def _telling(self, callbacks):
        """A context in which callbacks hear what Keras does not tell them.

        `on_interrupt()`: a signal has stopped training between two steps. `on_abandon()`: `fit` ends by any exception.
        """
        try:
            yield
        except BaseException as error:
            callbacks = getattr(callbacks, "callbacks", callbacks) or []
            callbacks = callbacks if isinstance(callbacks, (list, tuple)) else [callbacks]
            stopped = isinstance(error, Interrupted) and error.between_steps
            for hook in ("on_interrupt", "on_abandon") if stopped else ("on_abandon",):
                for callback in callbacks:
                    getattr(callback, hook, _nothing)()
            raise

    def _forget_jax_state(self):
        # What a former call has left here was used up by later ones.
        if _on_jax():
            self._jax_state, self._jax_state_synced = None, True

    def _require_weights(self, name):
        """Brings the weights back into the variables for `name`, or says why they are not available; JAX only."""
        if not _on_jax():
            return
        if self._busy is not None and self._busy[0] != threading.get_ident():
            raise RuntimeError(_taken(name, self._busy[1]))
        if self._in_step:
            return  # within the step, values are those of the traced program
        if not getattr(self, "_jax_state_synced", True):
            self.jax_state_sync()
        if name != "load_weights" and any(_is_lost(variable._value) for variable in self.variables):
            raise RuntimeError(
                f"The weights were lost in a step that failed while it ran, of memory for example. Received: "
                f"{name}(...) afterwards. Load "
                "them again with load_weights, from a state or a checkpoint, or make the model anew."
            )

    def _get_jax_state(self, **groups):
        state = super()._get_jax_state(**groups)
        if groups.get("purge_model_variables"):
            # Keras remembers the state from the end of the first step on; until then, this is it.
            names = [name for name in _GROUPS if groups.get(name)]
            self._jax_state = dict(zip(names, state, strict=True))
        return state

    # Keras's methods --------------------------------------------------------------------------------------------------

    def __call__(self, *args, **kwargs):
        self._require_weights("__call__")
        return super().__call__(*args, **kwargs)

    def predict(self, *args, **kwargs):
        with self._steps("predict"):
            return super().predict(*args, **kwargs)

    def predict_on_batch(self, *args, **kwargs):
        with self._steps("predict_on_batch"):
            return super().predict_on_batch(*args, **kwargs)

    def train_on_batch(self, *args, **kwargs):
        with self._steps("train_on_batch"):
            return super().train_on_batch(*args, **kwargs)

    def test_on_batch(self, *args, **kwargs):
        with self._steps("test_on_batch"):
            return super().test_on_batch(*args, **kwargs)

    def make_train_function(self, force=False):
        before = self.train_function
        super().make_train_function(force)
        if self.train_function is not before:
            self.train_function = self._watched(self._counted(self.train_function))

    def make_test_function(self, force=False):
        before = self.test_function
        super().make_test_function(force)
        if self.test_function is not before:
            self.test_function = self._watched(self.test_function)

    def make_predict_function(self, force=False):
        before = self.predict_function
        made = super().make_predict_function(force)
        if self.predict_function is not before:
            self.predict_function = self._watched(self.predict_function)
        return self.predict_function if made is not None else None

    def _watched(self, function):
        """A function that runs a step, called only where no signal asks to stop."""

        def step(*args):
            check_interrupts()
            self._in_step = True
            result = function(*args)
            self._in_step = False
            return result

        return step

    def _counted(self, function):
        def step(*args):
            left, logs = self._skipping
            if left > 0:
                self._skipping = (left - self.steps_per_execution, logs)
                result = self._passed_over(args, logs)
            else:
                result = function(*args)
            self.steps_run += self.steps_per_execution
            return result

        return step

    # Steps that lie behind already ------------------------------------------------------------------------------------

    def skip_steps(self, number, logs):
        """Makes the next training steps of the running `fit` pass by without being computed: they were, before an
        interruption.

        Args:
            number: int ≥ 0; their batches are taken from the data and thrown away.
            logs: dict of the metrics that they led to.
        """
        self._skipping = (int(number), dict(logs))

    def _passed_over(self, args, logs):
        # The arguments of Keras's train function: (state, iterator) on JAX, (iterator,) on TensorFlow, (batches,) on
        # torch.
        if keras.backend.backend() != "torch":
            for _ in range(self.steps_per_execution):
                next(args[-1], None)
        return (dict(logs), args[0]) if _on_jax() else dict(logs)


def _nothing():
    pass


def _on_jax():
    return keras.backend.backend() == "jax"


def _is_lost(value):
    return value is None or (hasattr(value, "is_deleted") and value.is_deleted())


def _taken(name, by):
    return (
        f"On JAX the weights are not available while another thread trains or evaluates the model. Received: "
        f"{name}(...) during {by} in "
        "another thread. Call it in a callback of `fit`, such as callbacks.SampleGrid, or on a copy of the model: "
        "`save_to_preset` in a "
        "callback, and `from_preset`."
    )
