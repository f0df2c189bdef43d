"""Batches read by grain: the same ones, from a position that it can save."""

import contextlib

import numpy as np
import pytest

import keras_diffusion as kd
from keras_diffusion import data

pytest.importorskip("grain")


def numbered(**options):
    points = np.zeros((23, 2), "float32")
    points[:, 0] = np.arange(23)
    arrays = {"images": points, "captions": [(f"a {i}", f"b {i}") for i in range(23)]}
    return data.Batches(arrays, 5, seed=3, captions=True, **options)


def contents(batches):
    return [(b["images"][:, 0].astype(int).tolist(), np.asarray(b["captions"]).tolist()) for b in batches]


def epochs(batches, *numbers):
    found = []
    for batches.epoch in numbers:
        found += contents(batches)
    return found


@pytest.mark.parametrize("options", [{}, {"batches_per_epoch": 3}])
@pytest.mark.parametrize("threads", [0, 3])
def test_the_same_batches(options, threads):
    whole = epochs(numbered(**options), 0, 1, 2)
    batches = numbered(**options)
    assert contents(batches.to_grain(threads, epochs=3)) == whole
    batches.epoch, batches.start = 1, 2
    each = len(batches)
    endless = iter(batches.to_grain(threads))
    assert contents(next(endless) for _ in range(2 * each - 2)) == whole[each + 2 :]
    assert batches.epoch == 1, "reading does not move the batches themselves"


def test_a_saved_position():
    whole = epochs(numbered(), 0, 1)
    iterator = iter(numbered().to_grain(2))
    contents(next(iterator) for _ in range(3))
    position = iterator.get_state()
    again = iter(numbered().to_grain(2))
    again.set_state(position)
    assert contents(next(again) for _ in range(5)) == whole[3:8]


def test_processes_read_their_rows():
    batches = numbered()
    batches.rows = np.array([3, 4])
    expected = [(numbers[3:], texts[3:]) for numbers, texts in epochs(numbered(), 0)]
    assert contents(batches.to_grain(epochs=1)) == expected


def test_streams():
    class Stream:
        def __iter__(self):
            return ({"image": np.full(2, i, "float32"), "text": f"{i}"} for i in range(23))

    def batches():
        return data.load(Stream(), batch_size=5, captions=True, shuffle_buffer=4)

    assert contents(batches().to_grain(3, epochs=2)) == epochs(batches(), 0, 1)
    with pytest.raises(ValueError, match="would each read the whole stream. Received: num_processes=1"):
        batches().to_grain(num_processes=1)


class Stop(kd.keras.callbacks.Callback):
    """Interrupts training after some steps."""

    def __init__(self, steps):
        super().__init__()
        self.left = steps

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def test_training(tmp_path, make_model, blobs, difference):
    """After an interruption, too, the weights are those of training on the batches themselves."""

    def train(folder=None, *callbacks):
        batches, model = data.Batches(blobs, 16, seed=1), make_model()
        if folder is not None:
            callbacks = [kd.callbacks.Resume(folder, data=batches, save_every_steps=1), *callbacks]
        with contextlib.suppress(KeyboardInterrupt):
            model.fit(batches.to_grain(), epochs=2, steps_per_epoch=len(batches), callbacks=list(callbacks), verbose=0)
        return model

    if kd.keras.backend.backend() != "jax":
        assert train().steps_run == 12
        return
    plain = make_model()
    plain.fit(data.Batches(blobs, 16, seed=1), epochs=2, verbose=0)
    train(tmp_path, Stop(8))
    assert difference(plain, train(tmp_path)) == 0


@pytest.mark.slow
def test_worker_processes():
    assert contents(numbered().to_grain(1, num_processes=1, epochs=2)) == epochs(numbered(), 0, 1)


@pytest.mark.slow
def test_captions_become_tokens():
    texts = [f"{letter} {i}" for i in range(23) for letter in "ab"]
    encoder, tokenizer = kd.text.small_encoder(texts, width=8, depth=1)
    network = kd.networks.UNet((8, 8, 1), widths=(8,), num_res_blocks=1, num_middle_res_blocks=0, context_dim=8)
    model = kd.models.TextToImage(network, encoder, tokenizer, noise_schedule="cosine", predictor="v")
    batch = next(iter(model.tokenized(numbered().to_grain())))
    assert set(batch) == {"images", "tokens"}


def test_bad_numbers():
    for options in ({"num_threads": -1}, {"num_processes": 0.5}, {"epochs": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            numbered().to_grain(**options)
