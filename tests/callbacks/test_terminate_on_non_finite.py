import warnings

import keras
import numpy as np
import pytest

from keras_diffusion.callbacks import TerminateOnNonFinite


class Last(keras.callbacks.Callback):
    """Remembers the last epoch and batch that ran."""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self.batch = batch


def fit(callback, x, validation=None, learning_rate=0.01, loss="mse"):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, name="one"), keras.layers.Dense(1, name="two")])
    model.compile(keras.optimizers.SGD(learning_rate), loss, metrics=["mae"])
    last = Last()
    y = np.ones((len(x), 1), "float32")
    if validation is not None:
        validation = (validation, np.ones((len(validation), 1), "float32"))
    model.fit(
        x, y, batch_size=4, epochs=3, shuffle=False, verbose=0, validation_data=validation, callbacks=[callback, last]
    )
    return last


def data(bad_row=None):
    x = np.ones((12, 2), "float32")
    if bad_row is not None:
        x[bad_row] = np.nan
    return x


def test_says_nothing_while_all_is_well():
    callback = TerminateOnNonFinite()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        last = fit(callback, data(), validation=data())
    assert callback.reason is None and last.epoch == 2


def test_stops_at_once_and_names_batch_metrics_and_weights():
    callback = TerminateOnNonFinite()
    with pytest.warns(UserWarning, match="Training stopped in epoch 1, batch 2"):
        last = fit(callback, data(bad_row=5))
    assert (last.epoch, last.batch) == (0, 1)
    assert "loss = nan" in callback.reason and "mae = nan" in callback.reason
    assert "4 of 4 weights hold NaN or infinity" in callback.reason and "one/kernel" in callback.reason


def test_finite_weights_point_to_the_batch():
    callback = TerminateOnNonFinite()
    with pytest.warns(UserWarning, match="All 4 weights are still finite: look at the batch and the loss"):
        fit(
            callback,
            data(),
            loss=lambda y, p: keras.ops.stop_gradient(keras.ops.mean(p)) * 0.0 + float("inf") + 0.0 * keras.ops.mean(p),
        )
    assert "loss = inf" in callback.reason


def test_validation_loss_is_watched():
    callback = TerminateOnNonFinite()
    with pytest.warns(UserWarning, match="Training stopped in the validation of epoch 1: val_loss = nan"):
        last = fit(callback, data(), validation=data(bad_row=0))
    assert last.epoch == 0


def test_raise_error():
    callback = TerminateOnNonFinite(raise_error=True)
    with pytest.raises(FloatingPointError, match="epoch 1, batch 2"):
        fit(callback, data(bad_row=5))
    assert callback.reason is not None


def test_the_model_is_not_touched_while_the_loss_is_finite():
    class Untouchable(TerminateOnNonFinite):
        @property
        def model(self):
            raise AssertionError("reaching the model costs a state transfer on jax")

    Untouchable()._check({"loss": 1.0}, "loss", "here")
    with pytest.raises(AssertionError, match="state transfer"):
        Untouchable()._check({"loss": float("nan")}, "loss", "here")
