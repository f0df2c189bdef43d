"""Models come back from files as they were: config, weights, average, optimizer, random state."""

import json

import keras
import numpy as np
import pytest
from keras import ops

import keras_diffusion as kd


def losses(model, blobs, **options):
    return model.fit(blobs, batch_size=32, epochs=2, shuffle=False, verbose=0, **options).history["loss"]


def test_keras_file_round_trip_continues_training_exactly(make_model, blobs, difference, tmp_path):
    model = make_model(
        ema=0.9, noise_schedule={"name": "linear", "timesteps": 40}, predictor="epsilon", loss_weighting="min_snr"
    )
    losses(model, blobs)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert difference(model, loaded) == 0
    assert loaded.get_config() == model.get_config()
    assert (
        isinstance(loaded.noise_schedule, kd.schedulers.LinearNoiseSchedule) and loaded.noise_schedule.timesteps == 40
    )
    np.testing.assert_array_equal(losses(model, blobs), losses(loaded, blobs))  # the noise goes on where it was
    assert difference(model, loaded) == 0


@pytest.mark.slow
def test_random_state_of_dropout_is_saved(tmp_path):
    def make():
        keras.utils.set_random_seed(0)
        model = kd.DiffusionModel(
            kd.networks.UNet((8, 8, 1), widths=(8,), num_res_blocks=1, attention=False, dropout=0.3), seed=0
        )
        model.compile("adam")
        return model

    images = np.random.default_rng(0).uniform(-1, 1, (32, 8, 8, 1)).astype("float32")
    model = make()
    model.fit(images, verbose=0)
    model.save_weights(tmp_path / "model.weights.h5")
    loaded = make()
    loaded.optimizer.build(loaded.trainable_variables)
    loaded.load_weights(tmp_path / "model.weights.h5")
    for a, b in zip(model.variables, loaded.variables, strict=True):
        if "metric" not in a.path and "loss" not in a.path:
            np.testing.assert_array_equal(ops.convert_to_numpy(a), ops.convert_to_numpy(b), err_msg=a.path)


def test_preset_round_trip(make_model, blobs, tmp_path):
    model = make_model(ema=0.9)
    losses(model, blobs)
    model.save_to_preset(tmp_path / "preset")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["preset"]  # nothing temporary is left
    assert json.loads((tmp_path / "preset" / "metadata.json").read_text())["keras_diffusion"] == kd.__version__
    loaded = kd.DiffusionModel.from_preset(tmp_path / "preset")
    for weights in ("ema", "raw"):
        options = {"conditions": {"labels": [0, 1]}, "num_steps": 3, "seed": 0, "weights": weights}
        np.testing.assert_array_equal(model.generate(**options), loaded.generate(**options))
    new = kd.DiffusionModel.from_preset(tmp_path / "preset", load_weights=False)
    assert new.get_config() == model.get_config()


def test_a_preset_is_not_overwritten_unasked(make_model, tmp_path):
    model = make_model()
    model.save_to_preset(tmp_path / "preset")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        model.save_to_preset(tmp_path / "preset")
    model.save_to_preset(tmp_path / "preset", overwrite=True)


def test_a_missing_preset_says_what_lacks(tmp_path):
    with pytest.raises(FileNotFoundError, match="lacks config.json, model.weights.h5"):
        kd.DiffusionModel.from_preset(tmp_path)


def test_the_saved_optimizer_names_no_backend(make_model):
    config = make_model().get_compile_config()
    assert config["optimizer"]["module"] == "keras.optimizers" and config["jit_compile"] == "auto"


@pytest.mark.slow
def test_model_checkpoint_and_backup_callbacks_of_keras_work(make_model, blobs, difference, tmp_path):
    reference, stopped = make_model(), make_model()
    reference.fit(blobs, batch_size=32, epochs=4, shuffle=False, verbose=0)

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    callbacks = [
        keras.callbacks.BackupAndRestore(tmp_path / "backup"),
        keras.callbacks.ModelCheckpoint(tmp_path / "best.keras"),
    ]
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(blobs, batch_size=32, epochs=4, shuffle=False, verbose=0, callbacks=[*callbacks, Stop()])
    continued = make_model()
    continued.fit(blobs, batch_size=32, epochs=4, shuffle=False, verbose=0, callbacks=callbacks)
    assert difference(reference, continued) == 0
    assert (tmp_path / "best.keras").exists()
