"""Batches of text: one error of the library's own, wherever they come from."""

import keras
import numpy as np
import pytest

import keras_diffusion as kd

SAMPLES, WORDS = np.zeros((4, 2), "float32"), np.array(["sea", "sky", "sea", "sky"])
GOOD = {"images": SAMPLES, "labels": np.zeros(4, "int32")}
BAD = {"images": SAMPLES, "labels": WORDS}
MESSAGE = r"Data are arrays of numbers. Received: labels=.*(sea|string).* of text. Give classes by their numbers"


@pytest.fixture(scope="module")
def model():
    model = kd.DiffusionModel(kd.networks.MLP((2,), width=8, depth=1, num_classes=3), seed=0)
    model.compile("sgd")
    return model


class Stream(keras.utils.PyDataset):
    def __init__(self, batch):
        super().__init__()
        self.batch = batch

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return self.batch


def endless(batch):
    while True:
        yield batch


@pytest.mark.parametrize("words", [WORDS, WORDS.astype("S"), WORDS.astype(object)], ids=["str", "bytes", "object"])
@pytest.mark.parametrize("as_stream", [Stream, endless])
def test_streams_of_text(model, as_stream, words):
    with pytest.raises(ValueError, match="Data are arrays of numbers. Received: labels="):
        model.fit(as_stream({**BAD, "labels": words}), steps_per_epoch=2, verbose=0)


@pytest.mark.parametrize(
    "call",
    [
        lambda model: model.predict(BAD, verbose=0),
        lambda model: model.predict_on_batch(BAD),
        lambda model: model.evaluate(Stream(BAD), verbose=0),
        lambda model: model.fit(GOOD, validation_data=Stream(BAD), verbose=0),
    ],
    ids=["predict", "predict_on_batch", "evaluate", "validation_data"],
)
def test_text_elsewhere(model, call):
    with pytest.raises(ValueError, match=MESSAGE):
        call(model)
    assert np.isfinite(model.predict(GOOD, verbose=0)["output"]).all()  # the model is as it was


def test_text_in_memory(model):
    with pytest.raises(ValueError, match="Data are arrays of numbers. Received: images="):
        model.fit({"images": WORDS, "labels": np.zeros(4, "int32")}, verbose=0)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.data is TensorFlow's")
def test_text_of_tf_data(model):
    import tensorflow as tf

    with pytest.raises(ValueError, match="Data are arrays of numbers. Received: labels="):
        model.fit(tf.data.Dataset.from_tensor_slices(BAD).batch(2), verbose=0)


def test_an_error_of_another_kind_stays_what_it_is(model):
    with pytest.raises(ValueError, match="missing: labels"):
        model.fit(Stream({"images": SAMPLES}), verbose=0)
