"""What is not finite is not written over what is."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_diffusion as kd


def poison(variable, value=np.nan):
    values = ops.convert_to_numpy(variable).copy()
    values.flat[0] = value
    variable.assign(values)


class PoisonLastBatch(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.now == self.epoch and batch == self.params["steps"] - 1:
            poison(self.model.network.trainable_variables[0])


@pytest.mark.parametrize("where", ["weights", "average", "optimizer"])
def test_files_that_are_there_stay(make_model, tmp_path, where):
    model = make_model(ema=0.9)
    model.optimizer.build(model.trainable_variables)
    paths = {"preset": tmp_path / "preset", "weights": tmp_path / "m.weights.h5", "keras": tmp_path / "m.keras"}
    save = {
        "preset": lambda: model.save_to_preset(paths["preset"], overwrite=True),
        "weights": lambda: model.save_weights(paths["weights"]),
        "keras": lambda: model.save(paths["keras"]),
    }
    for function in save.values():
        function()
    before = {name: contents(path) for name, path in paths.items()}
    broken = {"weights": model.network, "average": model.average, "optimizer": model.optimizer}[where].variables
    poison(
        next(v for v in broken if keras.backend.is_float_dtype(v.dtype) and v.shape),
        np.inf if where == "average" else np.nan,
    )
    for name, function in save.items():
        with pytest.raises(
            FloatingPointError, match="is not written, and what was written before stays: 1 of .* hold NaN or infinity"
        ):
            function()
        assert contents(paths[name]) == before[name]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.keras", "m.weights.h5", "preset"]


def contents(path):
    return {file.name: file.read_bytes() for file in path.iterdir()} if path.is_dir() else path.read_bytes()


@pytest.mark.slow
def test_the_last_good_state_stays(make_model, blobs, tmp_path):
    model = make_model()
    callbacks = [kd.callbacks.Resume(tmp_path), PoisonLastBatch(1)]
    with pytest.raises(FloatingPointError, match="The state after epoch 2 is not written"):
        model.fit(blobs, batch_size=32, epochs=3, verbose=0, callbacks=callbacks[::-1])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state-000001.weights.h5", "state.json"]


def test_checkpoints_of_keras_stop_too(make_model, blobs, tmp_path):
    path = tmp_path / "m.weights.h5"
    checkpoint = keras.callbacks.ModelCheckpoint(path, save_weights_only=True)
    with pytest.raises(FloatingPointError, match="is not written"):
        make_model().fit(blobs, batch_size=32, epochs=2, verbose=0, callbacks=[PoisonLastBatch(1), checkpoint])
    model = make_model()
    model.load_weights(path)
    assert all(np.isfinite(ops.convert_to_numpy(w)).all() for w in model.weights)


@pytest.mark.slow
def test_sharded_checkpoints_too(make_model, blobs, tmp_path):
    pytest.importorskip("orbax.checkpoint")
    callback = kd.callbacks.orbax_checkpoint(tmp_path / "orbax", save_on_background=False)
    with pytest.raises(FloatingPointError, match="The checkpoint of step 1 is not written"):
        make_model().fit(blobs, batch_size=32, epochs=2, verbose=0, callbacks=[PoisonLastBatch(1), callback])
    assert [path.name for path in (tmp_path / "orbax").iterdir()] == ["0"]


def test_exports_and_adapters_too(tmp_path):
    network = kd.networks.UNet2D((8, 8, 1), widths=(8,), num_res_blocks=1, norm_groups=4)
    kd.checkpoints.export(network, tmp_path / "net")
    before = {path.name: path.read_bytes() for path in (tmp_path / "net").iterdir()}
    poison(network.trainable_variables[0])
    with pytest.raises(FloatingPointError, match="is not written"):
        kd.checkpoints.export(network, tmp_path / "net", overwrite=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "net").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["net"]


def test_what_is_measured_is_a_number(make_model):
    """As samples are: see `generate`."""
    model = make_model(num_classes=None)
    poison(model.network.trainable_variables[0])
    x = np.zeros((2, *model.sample_shape), "float32")
    with pytest.raises(
        FloatingPointError, match="Latents must be finite. Received: NaN or infinity in 2 of 2.* 1 of .* weights hold"
    ):
        model.invert(x, num_steps=2, weights="raw")
    with pytest.raises(FloatingPointError, match="Log-likelihoods must be finite. Received: NaN or infinity in 2 of 2"):
        model.log_likelihood(x, num_steps=2, weights="raw", verbose=0)
