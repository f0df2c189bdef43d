"""Resuming exactly: 2N epochs equal N epochs, a new process, N epochs; and so do 2N epochs stopped at any step.

What a training step depends on, and where it is kept:

    weights, their average, optimizer, step    state-<epoch>[-<step>].weights.h5
    random state of noise and dropout          the same file (`DiffusionModel` adds it)
    epoch, and with it the order of the data   state.json
    step of a begun epoch, and the running     state.json
    means that its metrics have come to

`state.json` names the weights file. It is written last and put in place by renaming, so a run that is killed at any
moment leaves a state to resume from. On one backend and machine the continued run is equal bit for bit to one that was
never stopped; its metrics are those of whole epochs.

The state is whole, however the weights lie on devices and processes: it can be continued on another number of them. Of
several processes the first one writes, and all have to see its folder.
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

_STEPS_BETWEEN_CLOCKS = 50  # several processes agree on the time this often: that costs them a message


class Resume(keras.callbacks.Callback):
    """Saves the training state at epoch ends, within epochs if asked, and after Ctrl-C; and continues from it where
    there is one.

    Keras's `BackupAndRestore` keeps the epoch and the weights; this also puts the data set back to its place.

    A state that is not finite is not saved: the last good one stays, and training stops. While training runs, no other
    process may use the folder.

    Args:
        directory: folder of the state; made if needed.
        data: the data set that is trained on, if its `epoch` is to be restored (`data.Batches`). Default None: data in
            the same order every epoch, such as arrays with `fit(shuffle=False)`.
        every: epochs between saves, ≥ 1; the last epoch is always saved. Default 1.
        save_every_steps: steps between saves within an epoch, ≥ 1; None (default) for none. Needs a `DiffusionModel`.
        save_every_minutes: minutes between saves within an epoch, > 0; None (default) for none. Needs a
            `DiffusionModel`.

    Attributes:
        epoch: number of epochs that the restored state had behind it; 0 for a new run.
        step: number of steps of the next epoch that it had behind it, too.

    Raises:
        ValueError: numbers out of range, a state that does not fit the model, or a damaged one.
        FloatingPointError: when it would save, a state that holds NaN or infinity.
        ValueError: when it would save within an epoch, a batch that `fit` refuses.
        FolderLocked: when training starts, another process that trains with this folder.

    Example:

    >>> batches = keras_diffusion.data.load("digits", batch_size=64, seed=0)
    >>> resume = keras_diffusion.callbacks.Resume("run/state", data=batches, save_every_minutes=10)
    >>> model.fit(batches, epochs=100, callbacks=[resume])
    """

    def __init__(self, directory, data=None, every=1, save_every_steps=None, save_every_minutes=None):
        super().__init__()
        every = check_whole(
            "every", every, 1, rule="`every` counts epochs between saves and must be an integer of at least 1"
        )
        rule = "`save_every_steps` counts steps between saves and must be an integer of at least 1, or None"
        save_every_steps = check_whole("save_every_steps", save_every_steps, 1, rule=rule, optional=True)
        rule = "`save_every_minutes` must be a number above 0, or None"
        save_every_minutes = check_number("save_every_minutes", save_every_minutes, above=0, rule=rule, optional=True)
        self.directory, self.data, self.every = Path(check_path("directory", directory)), data, every
        self.save_every_steps, self.save_every_minutes = save_every_steps, save_every_minutes
        self.epoch = self.step = 0
        self._lock = FolderLock(self.directory)
        self._saved, self._data_start, self._saved_at = None, 0, 0.0
        self._now, self._first_step, self._passed = (
            0,
            0,
            0,
        )  # the epoch that runs, `steps_run` at its beginning, steps that it had before
        self._metrics = self._metrics_before_validation = None

    @property
    def exists(self):
        """Whether there is a state to continue from."""
        return (self.directory / "state.json").is_file()

    # The beginning ----------------------------------------------------------------------------------------------------

    def on_train_begin(self, logs=None):
        if (self.save_every_steps or self.save_every_minutes) and not hasattr(self.model, "skip_steps"):
            raise ValueError(
                "Within epochs, states of a DiffusionModel are saved: other models cannot begin in the middle of one. "
                f"Received: a model of the class {type(self.model).__name__}"
            )
        if is_writer():
            self._lock.acquire()
            remove_leftovers(self.directory)
        epochs = values_of_all(read_state(self.directory)["epoch"] if self.exists else 0)
        if len(set(epochs)) > 1:
            raise ValueError(
                "All processes continue from one state, in a folder that all of them see. Received: "
                f"{str(self.directory)!r}, in which they find {', '.join(map(str, epochs))} epochs done."
            )
        if self.exists:
            self._restore()
        if self.exists and is_writer():
            self._remove_all_but(read_state(self.directory)["weights"])  # a killed process may have left the one before
        self._data_start = 0 if self.data is None else self.data.epoch - self.epoch
        self._saved_at = time.monotonic()

    def _restore(self):
        state = read_state(self.directory)
        # Keras may make the optimizer's variables in the first step only, and would skip what the file has for them.
        if self.model.optimizer is not None and not self.model.optimizer.built:
            self.model.optimizer.build(self.model.trainable_variables)
        check_weights_file(self.directory / state["weights"])
        try:
            self.model.load_weights(self.directory / state["weights"])
        except ValueError as error:
            raise ValueError(
                f"The state in {str(self.directory)!r} does not fit the model: it was saved with another network, "
                f"optimizer or average. "
                f"Make the model as it was, or train in another folder. Keras says: {error}"
            ) from error
        self.epoch, self.step = state["epoch"], state.get("step") or 0
        self._saved = (self.epoch, self.step)
        self._metrics = state.get("metrics")
        self.model._initial_epoch = self.epoch  # as Keras's BackupAndRestore does: `fit` starts there
        if self.data is not None:
            if state.get("data_epoch") is None:
                raise ValueError(
                    f"The state in {str(self.directory)!r} does not say where the data were: it was saved without "
                    f"`data`. Continue without."
                )
            self.data.epoch = state["data_epoch"]
            if self.step and hasattr(self.data, "start"):
                self.data.start = self.step

    def on_epoch_begin(self, epoch, logs=None):
        self._now, self._first_step, self._passed = epoch, getattr(self.model, "steps_run", 0), 0
        self._metrics_before_validation = None
        if self.step and self._saved == (epoch, self.step) and self._metrics is not None:
            # The steps that were taken before the interruption pass by; the metrics go on from what they had come to.
            for variable, value in zip(self.model.metrics_variables, self._metrics, strict=True):
                variable.assign(value)
            self.model.skip_steps(self.step, self.model.get_metrics_result())
            self._passed, self._metrics = self.step, None
        elif hasattr(self.model, "skip_steps"):
            self.model.skip_steps(0, {})  # the epoch before may have been shorter than it was

    # Saving -----------------------------------------------------------------------------------------------------------

    def on_train_batch_end(self, batch, logs=None):
        # Nothing here may touch self.model unless it saves: on JAX that copies the whole state back to the model.
        steps = (self.params or {}).get("steps")
        done = batch + 1
        before = done - self._stride(batch)
        if done <= self._passed or (steps is not None and done >= steps):
            return  # it lies behind, or the end of the epoch will save it
        if self.save_every_steps and done // self.save_every_steps > before // self.save_every_steps:
            self._save(self._now, done)
        elif self.save_every_minutes and self._time_is_up(done, before):
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
        # Validation counts in the variables that hold the epoch's metrics.
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
        """Called by `DiffusionModel.fit` when it ends by an exception."""
        self.model._initial_epoch = None
        if hasattr(self.data, "start"):
            self.data.start = 0  # whoever reads the data now wants all of the epoch
        self._lock.release()

    def on_interrupt(self):
        """Called by `DiffusionModel.fit` when a signal has stopped it between two steps: saves what the last
        step left.
        """
        if several_processes():  # they may have stopped at different steps
            return
        steps = self.params.get("steps")
        done = self.model.steps_run - self._first_step
        done = done if steps is None else min(done, steps)
        if done < self._passed or (self._now, done) in ((0, 0), self._saved):
            return  # the state that is there has all of it
        try:
            self._save(self._now, done)
        except (OSError, FloatingPointError, ValueError) as error:
            warnings.warn(f"Nothing was saved after the interruption: {error}", stacklevel=2)

    def _save(self, epochs_done, step=0):
        where = f"step {step} of epoch {epochs_done + 1}" if step else f"epoch {epochs_done}"
        check_finite(self.model, f"The state after {where}")  # by all processes
        if step and self._metrics_before_validation is None:
            self.model.check_batches()  # or the state would hold what a bad batch has left, and the note of it
        with writing(self.model) as writer:
            if writer:
                self._write(epochs_done, step)
        self._saved, self._saved_at = (epochs_done, step), time.monotonic()

    def _write(self, epochs_done, step):
        self.directory.mkdir(parents=True, exist_ok=True)
        name = f"state-{epochs_done:06d}{f'-{step:09d}' if step else ''}.weights.h5"
        with atomic_path(self.directory / name) as path:
            self.model.save_weights(path)
        # Whether Keras has moved the data set on by now depends on how it reads it: count from where both began.
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
    """Numbers that JSON keeps exactly."""
    return [ops.convert_to_numpy(variable).tolist() for variable in variables]
