"""Training that stops within an epoch goes on as if it had not: the same weights, the same metrics."""

import json
import os
import signal
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import ops

import keras_diffusion as kd
from keras_diffusion.runtime.interrupts import Interrupted

VALIDATION = {"images": np.zeros((32, 2), "float32"), "labels": np.zeros(32, "int32")}


class Killed(BaseException):
    """A process that is gone: nothing is done after it."""


class At(keras.callbacks.Callback):
    """Does something once, at the end of a batch of an epoch; `test` for one of its validation."""

    def __init__(self, epoch, batch, action, test=False):
        super().__init__()
        self.place, self.action, self.test = (epoch, batch), action, test

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if not self.test and (self.now, batch) == self.place:
            self.action()

    def on_test_batch_end(self, batch, logs=None):
        if self.test and (self.now, batch) == self.place:
            self.action()


def press_ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


def die():
    raise Killed


@pytest.fixture
def fit(make_model, blobs):
    """A function that trains for three epochs of six batches: (model, data, history, Resume)."""

    def train(folder=None, stop=None, **options):
        model = make_model(ema=0.9)
        data = kd.data.Batches(blobs, batch_size=16, seed=5)
        resume = kd.callbacks.Resume(folder, data=data, **options) if folder else None
        callbacks = [callback for callback in (resume, stop) if callback]
        history = keras.callbacks.History()
        try:
            model.fit(
                data,
                validation_data=VALIDATION,
                validation_batch_size=16,
                epochs=3,
                verbose=0,
                callbacks=[history, *callbacks],
            )
        except (KeyboardInterrupt, Killed) as error:
            return model, data, error, resume
        return model, data, history, resume

    return train


@pytest.fixture
def assert_equal(difference):
    def check(continued, whole):
        model, data, history, resume = continued
        assert difference(model, whole[0]) == 0
        for a, b in zip(model.optimizer.variables, whole[0].optimizer.variables, strict=True):
            np.testing.assert_array_equal(ops.convert_to_numpy(a), ops.convert_to_numpy(b))
        assert data.epoch == whole[1].epoch == 3 and data.start == 0
        for name, values in whole[2].history.items():
            assert history.history[name] == values[resume.epoch :], name

    return check


@pytest.mark.parametrize(
    ("epoch", "batch", "test", "place"),
    [
        pytest.param(1, 2, False, (1, 3), id="step"),
        pytest.param(0, 0, True, (0, 6), id="validation", marks=pytest.mark.slow),
    ],
)
def test_ctrl_c_saves_the_last_step(fit, assert_equal, tmp_path, epoch, batch, test, place):
    _, _, error, _ = fit(tmp_path, At(epoch, batch, press_ctrl_c, test))
    assert isinstance(error, Interrupted) and error.between_steps and error.number == signal.SIGINT
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    state = json.loads((tmp_path / "state.json").read_text())
    assert (state["epoch"], state.get("step", 0)) == place
    continued = fit(tmp_path)
    assert (continued[3].epoch, continued[3].step) == place
    assert_equal(continued, fit())


@pytest.mark.slow
@pytest.mark.parametrize(("epoch", "batch", "place"), [(0, 1, (0, 0)), (0, 4, (0, 4)), (2, 5, (2, 4))])
def test_a_kill_loses_no_more_than_the_steps_between_saves(fit, assert_equal, tmp_path, epoch, batch, place):
    fit(tmp_path, At(epoch, batch, die), save_every_steps=4)
    found = tmp_path / "state.json"
    state = json.loads(found.read_text()) if found.exists() else {"epoch": 0}
    assert (state["epoch"], state.get("step", 0)) == place
    assert_equal(fit(tmp_path), fit())


@pytest.mark.slow
def test_ctrl_c_while_steps_pass_by_leaves_the_state_as_it_is(fit, tmp_path):
    fit(tmp_path, At(1, 3, press_ctrl_c))
    state = (tmp_path / "state.json").read_text()
    assert json.loads(state)["step"] == 4
    _, data, error, _ = fit(tmp_path, At(1, 1, press_ctrl_c))
    assert isinstance(error, Interrupted) and data.start == 0
    assert (tmp_path / "state.json").read_text() == state  # not the weights of step 4 under the name of step 2


def test_nothing_is_saved_after_a_bad_batch(make_model, blobs, tmp_path):
    """Otherwise the run could not be continued once the data are mended: the state holds the note of the batch."""

    def batches():
        for i in range(7):
            images = np.array(blobs["images"][:16])
            images[3] = np.nan if i == 4 else images[3]
            yield {"images": images, "labels": blobs["labels"][:16]}

    resume = kd.callbacks.Resume(
        tmp_path, save_every_steps=6
    )  # the notes are read after batch 4, and then after batch 8
    with pytest.raises(ValueError, match="sample 3 of batch 5 of epoch 1"):
        make_model().fit(batches(), steps_per_epoch=7, verbose=0, callbacks=[resume])
    assert not resume.exists


@pytest.mark.slow
def test_minutes_between_saves(fit, tmp_path, monkeypatch):
    seconds = iter(range(0, 10**6, 25))
    monkeypatch.setattr("keras_diffusion.callbacks.resume.time", SimpleNamespace(monotonic=lambda: next(seconds)))
    fit(tmp_path, At(0, 3, die), save_every_minutes=1)
    assert json.loads((tmp_path / "state.json").read_text())["step"] == 3


def test_other_models_are_saved_at_epoch_ends_only(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="Only a DiffusionModel can be saved within epochs"):
        model.fit(
            np.zeros((4, 2)), np.zeros((4, 1)), verbose=0, callbacks=[kd.callbacks.Resume(tmp_path, save_every_steps=1)]
        )


@pytest.mark.parametrize(
    "options",
    [
        {"save_every_steps": 0},
        {"save_every_steps": 1.5},
        {"save_every_minutes": 0},
        {"save_every_minutes": float("nan")},
    ],
)
def test_numbers_out_of_range(tmp_path, options):
    with pytest.raises(ValueError, match=f"Received: {next(iter(options))}="):
        kd.callbacks.Resume(tmp_path, **options)
