"""Stopping when the loss is NaN or infinite, with a report of what broke."""

import math
import warnings

import keras

from keras_diffusion.runtime.finite import describe, non_finite


class TerminateOnNonFinite(keras.callbacks.Callback):
    """Stops training when the loss is NaN or infinite, and reports what is not finite.

    Keras's `TerminateOnNaN` only says that it happened. This callback names the loss and metrics, the epoch and batch,
    and the weights that hold NaN or infinity after that batch. If all weights are still finite, the update was not
    applied (loss scaling) or had finite gradients (an infinite loss): look at the batch and the loss. If few are not
    finite, look at their layers; if none is, the previous step was too large or the batch bad.

    The logs hold running means, so a NaN stays visible until the epoch ends; with `steps_per_execution` above 1,
    `batch` is the last one of its group.

    Args:
        raise_error: False: training stops after this batch, but `fit` completes the epoch's callbacks, so those that
            save will save the broken weights. True: a FloatingPointError at once, so that nothing is saved.

    Attributes:
        reason: the report, a string; None as long as the loss is finite.

    Raises:
        FloatingPointError: with `raise_error=True`.
    """

    def __init__(self, raise_error=False):
        super().__init__()
        self.raise_error = raise_error
        self.reason = None
        self._epoch = 0

    def on_train_begin(self, logs=None):
        self.reason = None

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self._check(logs, "loss", f"epoch {self._epoch + 1}, batch {batch + 1}")

    def on_epoch_end(self, epoch, logs=None):
        if self.reason is None:
            self._check(logs, "val_loss", f"the validation of epoch {epoch + 1}")

    def _check(self, logs, key, where):
        value = (logs or {}).get(key)
        # Do not touch self.model while the loss is finite: on JAX that copies the whole state back to the model.
        if value is None or math.isfinite(value):
            return
        names = [f"{name} = {v}" for name, v in logs.items() if isinstance(v, float) and not math.isfinite(v)]
        self.reason = f"Training stopped in {where}: {', '.join(names)}. {_report_weights(self.model)}"
        self.model.stop_training = True
        if self.raise_error:
            raise FloatingPointError(self.reason)
        warnings.warn(self.reason, stacklevel=2)


def _report_weights(model):
    weights = model.weights
    broken = non_finite(weights)
    if not broken:
        return (
            f"All {len(weights)} weights are still finite: look at the batch and the loss (values out of range, a "
            "division by zero, a logarithm of zero, float16)."
        )
    return describe(broken, len(weights))
