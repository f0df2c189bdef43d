"""Resuming exactly: 2N epochs equal N epochs, a new process, N epochs.

What a training step depends on, and where it is kept:

    weights, their average, optimizer, step    state-<epoch>.weights.h5
    random state of noise and dropout          the same file (`DiffusionModel` adds it)
    epoch, and with it the order of the data   state.json

`state.json` names the weights file. It is written last and put in place by renaming, so a run that is killed at any moment leaves a
state to resume from. On one backend and machine the continued run is equal bit for bit to one that was never stopped.

The state is whole, however the weights lie on devices and processes: it can be continued on another number of them. Of several processes
the first one writes, and all have to see its folder.
"""

import json
from pathlib import Path

import keras

from keras_diffusion.core.devices import values_of_all, writing
from keras_diffusion.core.files import atomic_path
from keras_diffusion.core.training_state import read_state
from keras_diffusion.models.presets import check_weights_file


class Resume(keras.callbacks.Callback):
    """Saves the training state at epoch ends, and continues from it where there is one.

    Keras's `BackupAndRestore` keeps the epoch and the weights; this also puts the data set back to its place.

    Args:
        directory: folder of the state; made if needed.
        data: the data set that is trained on, if its `epoch` is to be restored (`data.Batches`). Default None: data in the same order
            every epoch, such as arrays with `fit(shuffle=False)`.
        every: epochs between saves, ≥ 1; the last epoch is always saved. Default 1.

    Attributes:
        epoch: number of epochs that the restored state had behind it; 0 for a new run.

    Raises:
        ValueError: `every` < 1, a state that does not fit the model, or a damaged one.

    Example:

    >>> batches = keras_diffusion.data.load("digits", batch_size=64, seed=0)
    >>> model.fit(batches, epochs=100, callbacks=[keras_diffusion.callbacks.Resume("run/state", data=batches)])
    """

    def __init__(self, directory, data=None, every=1):
        super().__init__()
        if isinstance(every, bool) or int(every) != every or every < 1:
            raise ValueError(f"`every` counts epochs between saves and must be an integer of at least 1. Received: every={every}")
        self.directory, self.data, self.every = Path(directory), data, int(every)
        self.epoch = 0
        self._saved, self._data_start = None, 0

    @property
    def exists(self):
        """Whether there is a state to continue from."""
        return (self.directory / "state.json").is_file()

    def on_train_begin(self, logs=None):
        epochs = values_of_all(read_state(self.directory)["epoch"] if self.exists else 0)
        if len(set(epochs)) > 1:
            raise ValueError(
                "All processes continue from one state, in a folder that all of them see. Received: "
                f"{str(self.directory)!r}, in which they find {', '.join(map(str, epochs))} epochs done."
            )
        if self.exists:
            self._restore()
        self._data_start = 0 if self.data is None else self.data.epoch - self.epoch

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
                f"The state in {str(self.directory)!r} does not fit the model: it was saved with another network, optimizer or average. "
                f"Make the model as it was, or train in another folder. Keras says: {error}"
            ) from error
        self.epoch = self._saved = state["epoch"]
        self.model._initial_epoch = self.epoch  # as Keras's BackupAndRestore does: `fit` starts there
        if self.data is not None:
            self.data.epoch = state["data_epoch"]

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.every == 0:
            self._save(epoch + 1)

    def on_train_end(self, logs=None):
        finished = self.params.get("epochs")
        if finished and not self.model.stop_training and self._saved != finished:
            self._save(finished)
        self.model._initial_epoch = None

    def _save(self, epochs_done):
        with writing(self.model) as writer:
            if writer:
                self._write(epochs_done)
        self._saved = epochs_done

    def _write(self, epochs_done):
        self.directory.mkdir(parents=True, exist_ok=True)
        name = f"state-{epochs_done:06d}.weights.h5"
        with atomic_path(self.directory / name) as path:
            self.model.save_weights(path)
        # Whether Keras has moved the data set on by now depends on how it reads it: count from where both began.
        data_epoch = None if self.data is None else self._data_start + epochs_done
        with atomic_path(self.directory / "state.json") as path:
            path.write_text(json.dumps({"epoch": epochs_done, "data_epoch": data_epoch, "weights": name}) + "\n")
        for old in self.directory.glob("state-*.weights.h5"):
            if old.name != name:
                old.unlink()
