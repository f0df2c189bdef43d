"""Batches that a model cannot be trained on are refused with a reason."""

import keras
import numpy as np
import pytest

import keras_diffusion as kd


@pytest.fixture(scope="module")
def image_model():
    model = kd.DiffusionModel(
        kd.networks.UNet((8, 8, 3), widths=(8,), num_res_blocks=1, attention=False, num_classes=4), seed=0
    )
    model.compile("adam")
    return model


def batch(**changes):
    rng = np.random.default_rng(0)
    return {"images": rng.uniform(-1, 1, (4, 8, 8, 3)).astype("float32"), "labels": np.zeros(4, "int32"), **changes}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (batch(images=np.zeros((4, 8, 8), "float32")), "Add a channel axis"),
        (batch(images=np.zeros((4, 8, 8, 1), "float32")), "another channels"),
        (batch(images=np.zeros((4, 16, 8, 3), "float32")), "another size"),
        (batch(images=np.zeros((4, 8, 8, 3), "int32")), "Received: images of dtype int32"),
        (batch(text=np.zeros(4)), "unknown: text"),
        ({"images": np.zeros((4, 8, 8, 3), "float32")}, "missing: labels"),
        (np.zeros((4, 8, 8, 3), "float32"), "missing: labels"),
        (batch(labels=np.array([0, 1, 2, 4], "int32")), "from 0 to 3. Received: labels from 0 to 4"),
        (batch(labels=np.zeros((4, 1), "int32")), r"shape \(B,\)"),
        (
            batch(
                images=np.where(np.arange(4).reshape(4, 1, 1, 1) == 2, np.nan, np.zeros((4, 8, 8, 3))).astype("float32")
            ),
            "first in sample 2",
        ),
    ],
)
def test_bad_training_data(image_model, data, message):
    with pytest.raises(ValueError, match=message):
        image_model.fit(data, verbose=0)


def test_labels_as_y_are_refused(image_model):
    with pytest.raises(ValueError, match=r"Received: y, of shape \((4|None),\). Pass one dict"):
        image_model.fit(batch(), np.zeros(4), verbose=0)


def test_a_loss_in_compile_is_refused():
    model = kd.DiffusionModel(kd.networks.MLP((2,), width=8, depth=1), seed=0)
    model.compile("adam", loss="mse")
    with pytest.raises(ValueError, match="without `loss` and `metrics`. Received: loss='mse'"):
        model.fit(np.zeros((4, 2), "float32"), verbose=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"condition_dropout": 1.5}, "share of samples"),
        ({"ema": 1.0}, r"must lie in \[0, 1\)"),
        ({"noise_schedule": "cosin"}, "Unknown noise schedule"),
        ({"predictor": "noise2"}, "Unknown predictor"),
        ({"loss_weighting": "snr5"}, "Unknown loss weighting"),
        ({"time_distribution": "gaussian"}, "Unknown time distribution"),
        ({"seed": 1.5}, "seed must be an integer"),
    ],
)
def test_bad_constructor_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        kd.DiffusionModel(kd.networks.MLP((2,), width=8, depth=1), **options)


def test_the_model_survives_an_interrupted_fit(make_model, blobs):
    model = make_model()

    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.fit(blobs, batch_size=32, verbose=0, callbacks=[Interrupt()])
    assert int(keras.ops.convert_to_numpy(model.optimizer.iterations)) == 2
    assert np.isfinite(model.generate(2, num_steps=2, seed=0)).all()
    assert np.isfinite(model.fit(blobs, verbose=0).history["loss"]).all()


@pytest.mark.parametrize(("name", "hint"), [("adamm", "Did you mean 'adam'"), ("rms_prop", "Did you mean 'rmsprop'")])
def test_an_unknown_optimizer(make_model, name, hint):
    with pytest.raises(ValueError, match=f"`optimizer` is an object, or a name: .*sgd. Received: .*{name}'. {hint}"):
        make_model().compile(name)
