"""Exact resuming: 2N epochs equal N epochs, a new process, and N more; so do 2N epochs interrupted at any step.

What a training step depends on, and where it is saved:

    weights, their average, optimizer, step    state-<epoch>[-<step>].weights.h5
    random state of noise and dropout          the same file (`DiffusionModel` adds it)
    epoch, and with it the order of the data   state.json
    step of a begun epoch, and the running     state.json
    means of its metrics

`state.json` names the weights file. It is written last and put in place by renaming, so a run that is killed at any
moment leaves a state to resume from. On one backend and machine, the continued run equals an uninterrupted one bit for
bit, and its metrics are those of whole epochs.

The state is complete, however the weights are spread over devices and processes, so training can continue on another
number of them. Of several processes, the first one writes, and all must be able to read its folder.
"""

import json
import time
import warnings
from pathlib import Path

import keras
from keras import ops

from keras_diffusion.configs.checks import check_number, check_path, check_whole
from keras_diffusion.models.presets import check_weights_file
from keras_diffusion.runtime.devices import is_writer, several_processes, values_of_all, writing
from keras_diffusion.runtime.files import atomic_path, remove_leftovers
from keras_diffusion.runtime.finite import check_finite
from keras_diffusion.runtime.locks import FolderLock
from keras_diffusion.runtime.training_state import read_state

_STEPS_BETWEEN_CLOCKS = 50  # how often several processes agree on the time, which takes a message


class Resume(keras.callbacks.Callback):
    """Saves the training state, and continues from it if there is one.

    It saves at epoch ends, within epochs if asked, and after Ctrl-C.

    Keras's `BackupAndRestore` restores the epoch and the weights; this also restores the position in the data set.

    A state that is not finite is never saved: the last good one is kept, and training stops. While training runs, no
    other process may use the folder.

    Args:
        directory: folder of the state; created if needed.
        data: the training data, whose `epoch` is restored (`data.Batches`). Default None: data in the same order every
            epoch, such as arrays with `fit(shuffle=False)`.
        every: epochs between saves, ≥ 1; the last epoch is always saved. Default 1.
        save_every_steps: steps between saves within an epoch, ≥ 1; None (default) for none. Needs a `DiffusionModel`.
        save_every_minutes: minutes between saves within an epoch, > 0; None (default) for none. Needs a
            `DiffusionModel`.

    Attributes:
        epoch: number of finished epochs in the restored state; 0 for a new run.
        step: number of finished steps of the next epoch.

    Raises:
        ValueError: numbers out of range, a state that does not fit the model, or a damaged one.
        FloatingPointError: when it would save a state that holds NaN or infinity.
        ValueError: when it would save within an epoch, after a batch that `fit` refuses.
        FolderLocked: when training starts while another process trains with this folder.

    Example:

    >>> batches = keras_diffusion.data.load("digits", batch_size=64, seed=0)
    >>> resume = keras_diffusion.callbacks.Resume("run/state", data=batches, save_every_minutes=10)
    >>> model.fit(batches, epochs=100, callbacks=[resume])
    """

    def __init__(self, directory, data=None, every=1, save_every_steps=None, save_every_minutes=None):
        super().__init__()
        rule = "`every` counts epochs between saves and must be an integer of at least 1"
        self.every = check_whole("every", every, 1, rule=rule)
        rule = "`save_every_steps` counts steps between saves and must be an integer of at least 1, or None"
        self.save_every_steps = check_whole("save_every_steps", save_every_steps, 1, rule=rule, optional=True)
        rule = "`save_every_minutes` must be a number above 0, or None"
        self.save_every_minutes = check_number(
            "save_every_minutes", save_every_minutes, above=0, rule=rule, optional=True
        )
        self.directory, self.data = Path(check_path("directory", directory)), data
        self.epoch = self.step = 0
        self._lock = FolderLock(self.directory)
        self._saved, self._data_start, self._saved_at = None, 0, 0.0
        # The current epoch, `steps_run` when it began, and its steps that an earlier run has done.
        self._now, self._first_step, self._passed = 0, 0, 0
        self._metrics = self._metrics_before_validation = None

    @property
    def exists(self):
        """Whether there is a state to continue from."""
        return (self.directory / "state.json").is_file()

    # Restoring --------------------------------------------------------------------------------------------------------

    def on_train_begin(self, logs=None):
        if (self.save_every_steps or self.save_every_minutes) and not hasattr(self.model, "skip_steps"):
            raise ValueError(
                "Only a DiffusionModel can be saved within epochs: other models cannot start in the middle of one. "
                f"Received: a model of the class {type(self.model).__name__}"
            )
        if is_writer():
            self._lock.acquire()
            remove_leftovers(self.directory)
        epochs = values_of_all(read_state(self.directory)["epoch"] if self.exists else 0)
        if len(set(epochs)) > 1:
            raise ValueError(
                "All processes continue from one state, in a folder that all of them can read. Received: "
                f"{str(self.directory)!r}, in which they find {', '.join(map(str, epochs))} epochs done."
            )
        if self.exists:
            self._restore()
        self._data_start = 0 if self.data is None else self.data.epoch - self.epoch
        self._saved_at = time.monotonic()

    def _restore(self):
        state = read_state(self.directory)
        # Keras may create the optimizer's variables only in the first step; until then it ignores their saved values.
        if self.model.optimizer is not None and not self.model.optimizer.built:
            self.model.optimizer.build(self.model.trainable_variables)
        check_weights_file(self.directory / state["weights"])
        try:
            self.model.load_weights(self.directory / state["weights"])
        except ValueError as error:
            raise ValueError(
                f"The state in {str(self.directory)!r} does not fit the model: it was saved with another network, "
                "optimizer or average. Create the model as it was, or train in another folder. Keras says: "
                f"{error}"
            ) from error
        self.epoch, self.step = state["epoch"], state.get("step") or 0
        self._saved = (self.epoch, self.step)
        self._metrics = state.get("metrics")
        self.model._initial_epoch = self.epoch  # as Keras's BackupAndRestore does: `fit` starts there
        if self.data is not None:
            if state.get("data_epoch") is None:
                raise ValueError(
                    f"The state in {str(self.directory)!r} does not say where the data were: it was saved without "
                    "`data`. Continue without."
                )
            self.data.epoch = state["data_epoch"]
            if self.step and hasattr(self.data, "start"):
                self.data.start = self.step
        if is_writer():
            self._remove_all_but(state["weights"])  # a killed process may have left an older one

    def on_epoch_begin(self, epoch, logs=None):
        self._now, self._first_step, self._passed = epoch, getattr(self.model, "steps_run", 0), 0
        self._metrics_before_validation = None
        if self.step and self._saved == (epoch, self.step) and self._metrics is not None:
            # The steps from before the interruption are skipped; the metrics continue from their saved values.
            for variable, value in zip(self.model.metrics_variables, self._metrics, strict=True):
                variable.assign(value)
            self.model.skip_steps(self.step, self.model.get_metrics_result())
            self._passed, self._metrics = self.step, None
        elif hasattr(self.model, "skip_steps"):
            self.model.skip_steps(0, {})  # the last epoch may have ended early

    # Saving -----------------------------------------------------------------------------------------------------------

    def on_train_batch_end(self, batch, logs=None):
        # Do not touch self.model here unless saving: on JAX that copies the whole state back to the model.
        steps = (self.params or {}).get("steps")
        done = batch + 1
        before = done - self._stride(batch)
        if done <= self._passed or (steps is not None and done >= steps):
            return  # this step was done before, or the end of the epoch will save it
        due = self.save_every_steps and done // self.save_every_steps > before // self.save_every_steps
        if due or (self.save_every_minutes and self._time_is_up(done, before)):
            self._save(self._now, done)

    def _stride(self, batch):
        """Steps since the last call: more than one with `steps_per_execution`."""
        last, self._last_batch = getattr(self, "_last_batch", -1), batch
        return batch - last if batch > last else batch + 1

    def _time_is_up(self, done, before):
        if several_processes() and done // _STEPS_BETWEEN_CLOCKS == before // _STEPS_BETWEEN_CLOCKS:
            return False
        return max(values_of_all(time.monotonic() - self._saved_at >= 60 * self.save_every_minutes)) == 1

    def on_test_begin(self, logs=None):
        # Validation overwrites the variables that hold the epoch's metrics.
        self._metrics_before_validation = _values(self.model.metrics_variables)

    def on_epoch_end(self, epoch, logs=None):
        self._now, self._first_step, self._passed = epoch + 1, getattr(self.model, "steps_run", 0), 0
        if (epoch + 1) % self.every == 0:
            self._save(epoch + 1)

    def on_train_end(self, logs=None):
        finished = self.params.get("epochs")
        if finished and not self.model.stop_training and self._saved != (finished, 0):
            self._save(finished)
        self.model._initial_epoch = None
        self._lock.release()

    def on_abandon(self):
        """Called by `DiffusionModel.fit` when it ends with an exception."""
        self.model._initial_epoch = None
        if hasattr(self.data, "start"):
            self.data.start = 0  # later readers want the whole epoch
        self._lock.release()

    def on_interrupt(self):
        """Called by `DiffusionModel.fit` when a signal has stopped it between two steps; saves the last step."""
        if several_processes():  # they may have stopped at different steps
            return
        steps = self.params.get("steps")
        done = self.model.steps_run - self._first_step
        done = done if steps is None else min(done, steps)
        if done < self._passed or (self._now, done) in ((0, 0), self._saved):
            return  # the saved state is as recent
        try:
            self._save(self._now, done)
        except (OSError, FloatingPointError, ValueError) as error:
            warnings.warn(f"Nothing was saved after the interruption: {error}", stacklevel=2)

    def _save(self, epochs_done, step=0):
        where = f"step {step} of epoch {epochs_done + 1}" if step else f"epoch {epochs_done}"
        check_finite(self.model, f"The state after {where}")  # by all processes
        if step and self._metrics_before_validation is None:
            self.model.check_batches()  # or the state would include the effect of a bad batch
        with writing(self.model) as writer:
            if writer:
                self._write(epochs_done, step)
        self._saved, self._saved_at = (epochs_done, step), time.monotonic()

    def _write(self, epochs_done, step):
        self.directory.mkdir(parents=True, exist_ok=True)
        name = f"state-{epochs_done:06d}{f'-{step:09d}' if step else ''}.weights.h5"
        with atomic_path(self.directory / name) as path:
            self.model.save_weights(path)
        # Whether Keras has advanced the data set already depends on how it reads it, so count from the start of both.
        data_epoch = None if self.data is None else self._data_start + epochs_done
        state = {"epoch": epochs_done, "data_epoch": data_epoch, "weights": name}
        if step:
            metrics = self._metrics_before_validation or _values(self.model.metrics_variables)
            state |= {"step": step, "metrics": metrics}
        with atomic_path(self.directory / "state.json") as path:
            path.write_text(json.dumps(state) + "\n")
        self._remove_all_but(name)

    def _remove_all_but(self, name):
        for old in self.directory.glob("state-*.weights.h5"):
            if old.name != name:
                old.unlink()


def _values(variables):
    """The variables' values as Python numbers, which JSON keeps exactly."""
    return [ops.convert_to_numpy(variable).tolist() for variable in variables]
