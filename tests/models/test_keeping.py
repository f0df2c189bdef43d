"""A call that fails takes nothing from the model; what another thread cannot have is an error that says so."""

import threading

import keras
import numpy as np
import pytest
from keras import ops

BAD = {"images": np.zeros((4, 2), "float32")}  # labels are missing
GOOD = {"images": np.zeros((4, 2), "float32"), "labels": np.zeros(4, "int32")}
on_jax = pytest.mark.skipif(keras.backend.backend() != "jax", reason="other backends use nothing up")


@pytest.fixture
def model(make_model):
    return make_model(ema=0.9)


def state_of(model):
    return [ops.convert_to_numpy(v) for v in (*model.weights, *model.optimizer.variables)]


@pytest.mark.slow
@pytest.mark.parametrize("trained", [False, True])
def test_failing_calls_leave_the_model_as_it_was(model, trained):
    model.optimizer.build(model.trainable_variables)
    if trained:
        model.train_on_batch(GOOD)
    before = state_of(model)
    calls = {
        "predict": lambda: model.predict(BAD, verbose=0),
        "predict_on_batch": lambda: model.predict_on_batch(BAD),
        "train_on_batch": lambda: model.train_on_batch(BAD),
        "test_on_batch": lambda: model.test_on_batch(BAD),
        "evaluate": lambda: model.evaluate(BAD, verbose=0),
        "__call__": lambda: model(BAD),
        "generate": lambda: model.generate(2, num_steps=0),
    }
    for name, call in calls.items():
        with pytest.raises(ValueError):
            call()
        for old, new in zip(before, state_of(model), strict=True):
            np.testing.assert_array_equal(old, new, err_msg=name)
    assert np.isfinite(model.predict(GOOD, verbose=0)["output"]).all()
    assert np.isfinite(model.train_on_batch(GOOD, return_dict=True)["loss"])
    assert np.isfinite(model.generate(2, num_steps=2, seed=0)).all()


def test_callbacks_may_generate_evaluate_and_call(model, blobs):
    seen = []

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(
            self, batch, logs=None
        ):  # by a reference of one's own: Keras's `self.model` would put the weights back
            if batch == 1:
                seen.append(model.generate(2, num_steps=2, seed=0, verbose=0))
                seen.append(ops.convert_to_numpy(model(GOOD)["output"]))

        def on_epoch_end(self, epoch, logs=None):
            seen.append(model.generate(2, num_steps=2, seed=0, verbose=0))
            with pytest.raises(ValueError):
                model.predict(BAD, verbose=0)

    model.fit(blobs, batch_size=32, epochs=2, verbose=0, callbacks=[Look()])
    assert len(seen) == 6 and all(np.isfinite(samples).all() for samples in seen)
    assert int(ops.convert_to_numpy(model.optimizer.iterations)) == 6


@on_jax
def test_another_thread_is_told_during_fit(model, blobs, tmp_path):
    messages = []

    def call(function, *args, **options):
        try:
            function(*args, **options)
        except RuntimeError as error:
            messages.append(str(error))

    class Meanwhile(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            for function, args in (
                (model.generate, (2,)),
                (model.predict, (GOOD,)),
                (model, (GOOD,)),
                (model.save_weights, ("a.weights.h5",)),
            ):
                thread = threading.Thread(target=call, args=(function, *args))
                thread.start()
                thread.join()

    model.fit(blobs, batch_size=96, verbose=0, callbacks=[Meanwhile()])
    assert len(messages) == 4
    for name, message in zip(("generate", "predict", "__call__", "save_weights"), messages, strict=True):
        assert f"Received: {name}(...) during fit in another thread" in message
    assert np.isfinite(model.generate(2, num_steps=2)).all()


@on_jax
def test_a_fit_that_begins_during_generate_explains_the_error(model, blobs):
    model.fit(blobs, batch_size=96, verbose=0)

    def train(info):
        if info.step == 0:
            thread = threading.Thread(target=lambda: model.fit(blobs, batch_size=96, verbose=0))
            thread.start()
            thread.join()

    with pytest.raises(RuntimeError, match=r"Received: generate\(...\) during fit"):
        model.generate(2, num_steps=3, on_step=train)


@on_jax
def test_lost_weights_are_an_error_with_a_remedy(model, tmp_path):
    model.optimizer.build(model.trainable_variables)
    model.save_weights(tmp_path / "good.weights.h5")
    for variable in model.trainable_variables:
        variable.value.delete()  # as after a step that failed while it ran
    for call in (lambda: model.generate(2), lambda: model.predict(GOOD), lambda: model.fit(GOOD), lambda: model(GOOD)):
        with pytest.raises(RuntimeError, match="Load them again with load_weights"):
            call()
    model.load_weights(tmp_path / "good.weights.h5")
    assert np.isfinite(model.generate(2, num_steps=2)).all()
