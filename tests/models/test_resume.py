"""2N epochs equal N epochs, a new process, N epochs, bit for bit."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

import keras_diffusion as kd


class StopBefore(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise KeyboardInterrupt


@pytest.fixture
def batches(blobs):
    return lambda: kd.data.Batches(blobs, batch_size=32, seed=5, drop_remainder=True)


def test_interrupted_training_continues_exactly(make_model, batches, difference, tmp_path):
    reference = make_model(ema=0.9)
    whole = reference.fit(batches(), epochs=4, verbose=0).history["loss"]

    stopped, data = make_model(ema=0.9), batches()
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(data, epochs=4, verbose=0, callbacks=[kd.callbacks.Resume(tmp_path, data=data), StopBefore(2)])

    continued, data = make_model(ema=0.9, seed=99), batches()  # another seed: the saved random state must win
    callback = kd.callbacks.Resume(tmp_path, data=data)
    rest = continued.fit(data, epochs=4, verbose=0, callbacks=[callback]).history["loss"]
    assert callback.epoch == 2 and data.epoch == 4
    np.testing.assert_array_equal(whole[2:], rest)
    assert difference(reference, continued) == 0
    for a, b in zip(reference.optimizer.variables, continued.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(a), ops.convert_to_numpy(b))


@pytest.mark.slow
def test_a_longer_run_continues_a_finished_one(make_model, batches, difference, tmp_path):
    reference = make_model()
    reference.fit(batches(), epochs=3, verbose=0)
    model, data = make_model(), batches()
    model.fit(data, epochs=2, verbose=0, callbacks=[kd.callbacks.Resume(tmp_path, data=data, every=5)])
    model, data = make_model(), batches()
    model.fit(data, epochs=3, verbose=0, callbacks=[kd.callbacks.Resume(tmp_path, data=data)])
    assert difference(reference, model) == 0


def test_only_the_newest_state_is_kept_and_nothing_temporary(make_model, batches, tmp_path):
    data = batches()
    make_model().fit(data, epochs=3, verbose=0, callbacks=[kd.callbacks.Resume(tmp_path, data=data)])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["state-000003.weights.h5", "state.json"]
    assert json.loads((tmp_path / "state.json").read_text()) == {
        "epoch": 3,
        "data_epoch": 3,
        "weights": "state-000003.weights.h5",
    }


def test_a_state_of_another_network_is_refused(make_model, blobs, tmp_path):
    make_model().fit(blobs, verbose=0, callbacks=[kd.callbacks.Resume(tmp_path)])
    with pytest.raises(ValueError, match="does not fit the model"):
        make_model(num_classes=5).fit(blobs, epochs=2, verbose=0, callbacks=[kd.callbacks.Resume(tmp_path)])


def test_every_counts_epochs(tmp_path):
    with pytest.raises(ValueError, match="`every` counts epochs"):
        kd.callbacks.Resume(tmp_path, every=0)


_RUN = """
import sys, numpy as np, keras, keras_diffusion as kd

def train(out, epochs, mode):
    keras.utils.set_random_seed(0)
    network = kd.networks.UNet((8, 8, 1), widths=(8,), num_res_blocks=1, attention=False, dropout=0.1, num_classes=10)
    model = kd.DiffusionModel(network, seed=0)
    model.compile(keras.optimizers.AdamW(keras.optimizers.schedules.CosineDecay(1e-3, 40)))
    data = kd.data.load("digits", batch_size=128, seed=1, batches_per_epoch=4)
    callbacks = [kd.callbacks.Resume(out, data=data)] if mode == "resume" else []
    model.fit(data, epochs=epochs, verbose=0, callbacks=callbacks)
    variables = (*model.weights, *model.optimizer.variables)
    np.savez(f"{out}/{epochs}-{mode}.npz", *map(keras.ops.convert_to_numpy, variables))
"""


@pytest.mark.slow
def test_resuming_in_a_new_process_is_bit_equal(tmp_path):
    here = {}
    exec(_RUN, here)
    here["train"](tmp_path, 4, "whole")
    here["train"](tmp_path, 2, "resume")
    there = _RUN + "train(sys.argv[1], 4, 'resume')"
    subprocess.run([sys.executable, "-c", there, str(tmp_path)], check=True, env=os.environ)
    whole, resumed = (np.load(tmp_path / f"4-{mode}.npz") for mode in ("whole", "resume"))
    assert len(whole.files) > 40
    for name in whole.files:
        np.testing.assert_array_equal(whole[name], resumed[name])
