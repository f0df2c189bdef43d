"""Streams: their batches are a function of (seed, epoch), wherever one starts to read."""

import contextlib
import io

import keras
import numpy as np
import pytest
from PIL import Image

from keras_diffusion import data
from keras_diffusion.callbacks import Resume
from keras_diffusion.data.streams import StreamSource


class Numbers:
    """Vectors whose first entry is the sample's number; counts how often it was read from the start."""

    def __init__(self, n=23):
        self.n, self.passes, self.given = n, 0, 0

    def __iter__(self):
        self.passes += 1
        for i in range(self.n):
            self.given += 1
            yield {"image": np.array([i, 0], "float32"), "caption": [f"a {i}", f"b {i}"]}


def numbers(batch):
    return batch["images"][:, 0].astype(int).tolist()


def stream(n=23, batch_size=5, **options):
    return data.load(Numbers(n), batch_size=batch_size, **{"shuffle_buffer": 8, "seed": 3, **options})


def epochs(batches, first, last):
    """The numbers and captions of each batch of several epochs, in order."""
    found = []
    for batches.epoch in range(first, last):
        found += [(numbers(b), b["captions"].tolist() if "captions" in b else None) for b in batches]
    return found


@pytest.mark.parametrize("options", [{}, {"drop_remainder": False}, {"batches_per_epoch": 3}, {"shuffle": False}])
def test_batches_are_those_of_the_seed_and_the_epoch_wherever_reading_begins(options):
    options = {"captions": True, **options}
    whole = epochs(stream(**options), 0, 4)
    assert len(whole) == 4 * len(stream(**options))
    for epoch in (3, 1):
        again = stream(**options)
        each = len(again)
        assert epochs(again, epoch, epoch + 1) == whole[epoch * each : (epoch + 1) * each]
    backwards = stream(**options)
    backwards.epoch = 2
    each = len(backwards)
    assert [numbers(backwards[i]) for i in reversed(range(each))][::-1] == [n for n, _ in whole[2 * each : 3 * each]]


def test_an_epoch_is_a_pass_in_an_order_of_its_own():
    batches = stream(20)
    assert len(batches) == 4 and batches.image_shape == (2,)
    first, second = ([i for n, _ in epochs(batches, e, e + 1) for i in n] for e in (0, 1))
    assert sorted(first) == sorted(second) == list(range(20)) and first != second != list(range(20))
    assert [i for n, _ in epochs(stream(20, shuffle=False), 5, 6) for i in n] == list(range(20))
    assert epochs(stream(20, seed=4), 0, 1) != epochs(stream(20), 0, 1)


def test_batches_per_epoch_needs_no_count_and_goes_through_all_passes():
    batches = stream(10, batch_size=4, batches_per_epoch=5, shuffle=False)
    assert batches.source._length is None
    assert [i for n, _ in epochs(batches, 0, 2) for i in n] == 4 * list(range(10))
    assert batches.source._length == 10, "known from the first pass on"


def test_captions_of_a_stream_without_count(monkeypatch):
    batches = stream(10, batch_size=4, batches_per_epoch=5, captions=True, on_error="skip")
    assert batches.num_samples is None and stream(10).num_samples == 10
    monkeypatch.setattr("keras_diffusion.data.streams._CAPTIONS", 6)
    assert len(batches.all_captions()) == 12 and batches.source.source._length is None
    assert len(stream(4, batch_size=4, captions=True).all_captions()) == 8


def test_each_epoch_is_read_once():
    batches = stream(40, batch_size=4)
    assert len(batches) == 10
    passes = batches.source.stream.passes
    epochs(batches, 0, 3)
    assert batches.source.stream.passes - passes == 3
    # As Keras does on TensorFlow: two batches for their shapes, then all from the first one on.
    batches.epoch, before = 3, batches.source.stream.passes
    for i in (0, 1, *range(10)):
        batches[i]
    assert batches.source.stream.passes - before == 1


def test_processes_read_their_rows_of_the_same_batches():
    whole, flips = epochs(stream(captions=True), 1, 2), {"horizontal_flip": False}
    shares = [stream(captions=True, **flips) for _ in range(2)]
    shares[0].rows, shares[1].rows = np.array([0, 1, 2]), np.array([3, 4])
    for batches in shares:
        batches.epoch, batches.start = 1, 2
    for i in range(2, 4):
        parts = [batches[i] for batches in shares]
        assert numbers(parts[0]) + numbers(parts[1]) == whole[i][0]
        assert [text for part in parts for text in part["captions"]] == whole[i][1]


def test_resuming_decodes_no_sample_that_was_seen(monkeypatch):
    file, decoded = io.BytesIO(), []
    Image.new("L", (4, 4)).save(file, "PNG")

    class Pictures:
        def __iter__(self):
            return iter([{"png": file.getvalue(), "txt": f"{i}"} for i in range(40)])

    batches = data.load(Pictures(), batch_size=4, captions=True, channels=1, shuffle_buffer=10)
    read = StreamSource.__getitem__
    monkeypatch.setattr(StreamSource, "__getitem__", lambda self, i: decoded.append(i) or read(self, i))
    batches.epoch, batches.start = 1, 9
    assert batches[9]["images"].shape == (4, 4, 4, 1)
    assert decoded == list(range(76, 80))


def test_broken_samples_are_left_out_and_listed():
    class Broken(Numbers):
        def __iter__(self):
            for i, sample in enumerate(super().__iter__()):
                yield {**sample, "image": b"x"} if i in (3, 4, 22) else sample

    batches = data.load(Broken(), batch_size=23, shuffle=False, captions=True, on_error="skip")
    with pytest.warns(UserWarning, match="left out"):
        batch = batches[0]
    assert numbers(batch) == [0, 1, 2, 5, 5, *range(5, 22), 0] and sorted(batches.source.skipped) == [3, 4, 22]
    assert all(int(text.split()[1]) == n for text, n in zip(batch["captions"], numbers(batch)))
    with pytest.raises(ValueError, match="Cannot read the image 'sample 3 of the stream'"):
        data.load(Broken(), batch_size=23, shuffle=False)[0]


class Plain(keras.Model):
    """The least model that `fit` accepts with dict batches."""

    def build(self, shape=None):
        self.scale = self.add_weight(shape=(), name="scale")
        self.built = True

    def call(self, data, training=False):
        return data["images"] * self.scale

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return keras.ops.mean(y_pred)


def test_threads_read_the_same_batches():
    read = {}
    for workers in (1, 3):
        seen = read[workers] = set()
        batches = stream(200, workers=workers)
        batches.transform = lambda batch, seen=seen: seen.add(tuple(numbers(batch))) or batch
        model = Plain()
        model.build()
        model.compile("sgd")
        model.fit(batches, epochs=2, shuffle=False, verbose=0)
        assert batches.epoch == 2
    assert read[1] == read[3] and len(read[1]) == 80


class Stop(keras.callbacks.Callback):
    """Interrupts training after some steps."""

    def __init__(self, steps):
        super().__init__()
        self.left = steps

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_training_resumes_within_an_epoch(tmp_path, make_model):
    """Two trainings, of which the first stops after 8 steps of 10, see the batches of an uninterrupted one."""
    seen = []
    for callbacks in ([Stop(8)], []):
        batches = stream(30, batch_size=6)
        batches.transform = lambda batch: seen.append(numbers(batch)) or batch
        callbacks = [Resume(tmp_path, data=batches, save_every_steps=1), *callbacks]
        with contextlib.suppress(KeyboardInterrupt):
            make_model(num_classes=None).fit(batches, epochs=2, callbacks=callbacks, verbose=0)
    whole = [n for n, _ in epochs(stream(30, batch_size=6), 0, 2)]
    assert seen[:8] == whole[:8]
    # What stands in for the batches before is the next one, so that none of them is decoded.
    assert seen[8:] == [whole[8], *whole[8:]]


@pytest.mark.slow
def test_hugging_face_streams():
    datasets = pytest.importorskip("datasets")
    file = io.BytesIO()
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    rows = []
    for i in range(12):
        file = io.BytesIO()
        Image.new("RGB", (3, 2), (i, i, i)).save(file, "PNG")
        rows.append({"image": {"bytes": file.getvalue(), "path": None}, "text": f"{i}"})
    table = datasets.Dataset.from_list(rows, features)
    plain = data.load(table.to_iterable_dataset(), batch_size=4, shuffle=False, captions=True)
    by_number = data.load(table, batch_size=4, shuffle=False, captions=True)
    for i in range(3):
        np.testing.assert_array_equal(plain[i]["images"], by_number[i]["images"])
        assert plain[i]["captions"].tolist() == by_number[i]["captions"].tolist()
    # Its own shuffling is told the epoch.
    own = data.load(
        table.to_iterable_dataset(num_shards=3).shuffle(seed=1, buffer_size=2), batch_size=4, captions=True, seed=2
    )
    first, second = ([text for b in own for text in b["captions"]] for own.epoch in (0, 1))
    assert sorted(first) == sorted(second) and first != second
    own.epoch = 0
    assert [text for b in own for text in b["captions"]] == first


@pytest.mark.slow
def test_grain_streams():
    grain = pytest.importorskip("grain")
    samples = grain.MapDataset.source([{"image": np.full((2, 2, 1), i, "uint8"), "label": i % 2} for i in range(12)])
    batches = data.load(samples, batch_size=4, shuffle=False)
    assert type(batches) is data.Batches and batches[2]["labels"].tolist() == [0, 1, 0, 1]
    odd = samples.filter(lambda sample: sample["label"] == 1)
    with pytest.raises(ValueError, match=r"None as sample 0.*to_iter_dataset\(\)"):
        data.load(odd, batch_size=4, shuffle=False)[0]
    batches = data.load(odd.to_iter_dataset(), batch_size=3)
    assert isinstance(batches, data.StreamBatches) and len(batches) == 2
    assert {batch["labels"].sum() for batch in batches} == {3}


def test_what_is_no_stream():
    for source in (iter([1, 2]), (i for i in range(3))):
        with pytest.raises(ValueError, match=r"Streams, names and paths go into data.load\(\); iterators"):
            data.load(source)
        with pytest.raises(ValueError, match="A stream can be read again.* Pass what makes the iterator"):
            data.StreamBatches(source, 4)

    class Once:
        samples = iter([np.zeros(2, "float32")] * 8)

        def __iter__(self):
            yield from self.samples

    batches = data.load(Once(), batch_size=2, shuffle=False)
    with pytest.raises(ValueError, match="gives the same samples each time. Received: one that ended after 0 samples"):
        batches[0]
    with pytest.raises(ValueError, match="A stream holds at least one sample"):
        data.load(Numbers(0), batch_size=2)
    with pytest.raises(ValueError, match="Nothing is held out of a stream"):
        stream(validation_fraction=0.1)
    with pytest.raises(ValueError, match="Buckets need the sizes of all pictures"):
        stream(image_size=8, buckets=True)
    with pytest.raises(ValueError, match="Worker processes would each read the whole stream"):
        stream(use_multiprocessing=True, workers=2)
    with pytest.raises(ValueError, match="streaming=True is for data sets of the Hub"):
        data.load("digits", streaming=True)
    with pytest.raises(ValueError, match="shuffle_buffer"):
        stream(shuffle_buffer=0)
    with pytest.raises(ValueError, match="batch_size must not exceed the number of samples, 3"):
        stream(3)
