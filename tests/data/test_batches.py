import keras
import numpy as np
import pytest

from keras_diffusion.data import Batches, load


def numbered(n=20, features=3):
    """Vectors whose first entry is the sample's number."""
    points = np.zeros((n, features), "float32")
    points[:, 0] = np.arange(n)
    return points


def numbers(batch):
    return batch["images"][:, 0].astype(int).tolist()


class TinyModel(keras.Model):
    """The least model that `fit` accepts with dict batches."""

    def __init__(self, build=True):
        super().__init__()
        self.dense = keras.layers.Dense(1)
        if build:
            self.dense.build((None, 3))
            self.built = True

    def call(self, data, training=False):
        return self.dense(data["images"])

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return keras.ops.mean(keras.ops.square(y_pred))


def compiled(**kwargs):
    model = TinyModel(**kwargs)
    model.compile("sgd")
    return model


class EpochNumbers(keras.callbacks.Callback):
    """Records the data set's epoch after each epoch of fit."""

    def __init__(self, batches):
        super().__init__()
        self.batches, self.seen = batches, []

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(self.batches.epoch)


def test_batch_content():
    images = np.array([0, 255, 51, 204], "uint8").reshape(4, 1, 1, 1)
    batches = Batches(
        {"images": images, "labels": np.arange(4), "context": np.arange(8.0).reshape(4, 2)}, 2, shuffle=False
    )
    batch = batches[1]
    np.testing.assert_allclose(batch["images"].ravel(), [-0.6, 0.6], atol=1e-6)
    assert batch["images"].dtype == np.float32 and batch["labels"].dtype == np.int32
    assert batch["labels"].tolist() == [2, 3]
    assert batch["context"].tolist() == [[4.0, 5.0], [6.0, 7.0]]
    assert batches.num_classes == 4 and batches.image_shape == (1, 1, 1) and len(batches) == 2


def test_an_epoch_visits_each_sample_once_in_its_own_order():
    batches = Batches(numbered(), 5, seed=3)
    first = [i for b in batches for i in numbers(b)]
    batches.epoch = 1
    second = [i for b in batches for i in numbers(b)]
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second


def test_content_is_a_function_of_seed_epoch_and_index():
    flips = np.random.default_rng(0).uniform(-1, 1, (20, 4, 4, 1)).astype("float32")
    forward, backward = (Batches(flips, 5, seed=3, horizontal_flip=True) for _ in range(2))
    forward.epoch = backward.epoch = 7
    one = [forward[i]["images"] for i in range(4)]
    other = [backward[i]["images"] for i in reversed(range(4))][::-1]
    np.testing.assert_array_equal(one, other)
    assert not np.array_equal(one[0], Batches(flips, 5, seed=4, horizontal_flip=True)[0]["images"])


def test_frozen_order():
    # NumPy promises that Philox streams do not change; a run can be resumed with a later version of the library.
    assert (
        numbers(Batches(numbered(8), 8, seed=5)[0])
        == np.random.Generator(np.random.Philox(key=[5, 0])).permutation(8).tolist()
    )


def test_remainder():
    assert [len(numbers(b)) for b in Batches(numbered(7), 3)] == [3, 3]
    assert [len(numbers(b)) for b in Batches(numbered(7), 3, drop_remainder=False)] == [3, 3, 1]


def test_no_shuffle_keeps_the_order():
    batches = Batches(numbered(6), 3, shuffle=False)
    batches.epoch = 4
    assert [numbers(b) for b in batches] == [[0, 1, 2], [3, 4, 5]]


def test_batches_per_epoch_goes_on_where_the_last_epoch_stopped():
    batches = Batches(numbered(10), 4, batches_per_epoch=2)
    seen = []
    for epoch in range(5):  # 5 epochs of 8 samples are 4 passes
        batches.epoch = epoch
        seen += [i for b in batches for i in numbers(b)]
    assert len(seen) == 40
    for start in range(0, 40, 10):
        assert sorted(seen[start : start + 10]) == list(range(10))


def test_flip_mirrors_about_half_of_the_images():
    images = np.zeros((200, 2, 2, 1), "float32")
    images[:, :, 0] = 1.0
    left = Batches(images, 200, horizontal_flip=True)[0]["images"][:, 0, 0, 0]
    assert 70 < left.sum() < 130  # 4 standard deviations


def test_augment_gets_images_and_a_generator_of_its_own():
    def noise(images, rng):
        return images + 0.1 * rng.standard_normal(images.shape)

    one, other = (Batches(np.zeros((8, 2, 2, 1), "float32"), 4, augment=noise) for _ in range(2))
    np.testing.assert_array_equal(one[1]["images"], other[1]["images"])
    assert not np.array_equal(one[0]["images"], one[1]["images"])
    assert one[0]["images"].dtype == np.float32


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("validation", [False, True])
def test_fit_counts_epochs(workers, validation):
    batches = Batches(numbered(), 4, workers=workers)
    record = EpochNumbers(batches)
    held_out = Batches(numbered(), 4, shuffle=False) if validation else None
    model = compiled()
    model.fit(batches, epochs=3, shuffle=False, verbose=0, validation_data=held_out, callbacks=[record])
    model.fit(batches, epochs=2, shuffle=False, verbose=0, callbacks=[record])
    assert record.seen == [1, 2, 3, 4, 5]


def test_building_the_model_is_no_epoch():
    batches = Batches(numbered(), 4)
    compiled(build=False).fit(batches, epochs=2, shuffle=False, verbose=0)
    assert batches.epoch == 2


def test_an_epoch_left_half_way_is_not_counted():
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch == 1

    batches = Batches(numbered(80), 4)  # more batches than TensorFlow has read ahead by then
    model = compiled()
    model.fit(batches, epochs=5, shuffle=False, verbose=0, callbacks=[Stop()])
    assert batches.epoch == 0
    model.fit(batches, epochs=1, shuffle=False, verbose=0)
    assert batches.epoch == 1


def test_two_epochs_and_two_more_see_the_batches_of_four():
    def train(epochs, batches):
        compiled().fit(batches, epochs=epochs, shuffle=False, verbose=0)

    class Recorded(Batches):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.order = {}

        def __getitem__(self, index):
            batch = super().__getitem__(index)
            self.order[self.epoch, index] = numbers(batch)
            return batch

    whole, first, second = (Recorded(numbered(), 4, seed=1) for _ in range(3))
    train(4, whole)
    train(2, first)
    second.epoch = first.epoch
    train(2, second)
    assert second.epoch == whole.epoch == 4
    assert {**first.order, **second.order} == whole.order
    assert set(whole.order) == {(epoch, index) for epoch in range(4) for index in range(5)}


def test_fit_learns_from_objects_with_len_and_getitem():
    class Samples:
        def __len__(self):
            return 8

        def __getitem__(self, index):
            return {"image": np.full((2, 2, 1), index * 10, "uint8"), "label": index % 2}

    batch = Batches(Samples(), 4, shuffle=False)[1]
    assert batch["labels"].tolist() == [0, 1, 0, 1]
    np.testing.assert_allclose(batch["images"][:, 0, 0, 0], np.arange(40, 80, 10) / 127.5 - 1, atol=1e-6)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"batch_size": 0}, r"batch_size must be an integer ≥ 1. Received: batch_size=0"),
        ({"batch_size": 21}, r"must not exceed the number of samples, 20.*batch_size=21"),
        ({"batches_per_epoch": 0}, r"batches_per_epoch must be an integer ≥ 1"),
        ({"seed": -1}, r"seed must be an integer"),
        ({"augment": 3}, r"augment must be a function"),
    ],
)
def test_bad_options(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Batches(numbered(), **{"batch_size": 4, **kwargs})


def test_bad_epoch():
    with pytest.raises(ValueError, match="epoch must be an integer ≥ 0. Received: epoch=-1"):
        Batches(numbered(), 4).epoch = -1


def test_index_out_of_range():
    with pytest.raises(IndexError, match=r"\[0, 5\). Received: index=5"):
        Batches(numbered(), 4)[5]


def test_flipping_vectors():
    with pytest.raises(ValueError, match="horizontal_flip=True needs images"):
        Batches(numbered(), 4, horizontal_flip=True)[0]


def test_augment_that_changes_the_shape():
    with pytest.raises(ValueError, match="augment must keep the shape"):
        Batches(numbered(), 4, augment=lambda images, rng: images[:2])[0]


def test_empty_source():
    with pytest.raises(ValueError, match="at least one sample"):
        Batches([], 4)


def test_label_out_of_range_in_a_lazy_source():
    samples = [{"image": np.zeros((2, 2, 1), "uint8"), "label": i} for i in range(4)]
    with pytest.raises(ValueError, match=r"Labels must lie in \[0, 3\). Received: label 3 of sample 3"):
        Batches(samples, 4, num_classes=3, shuffle=False)[0]


def test_nan_in_a_lazy_source_names_the_sample():
    samples = [np.zeros((2, 2, 1), "float32") for _ in range(6)]
    samples[5][0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity in sample 5"):
        Batches(samples, 3, shuffle=False)[1]


def test_all_64_bit_seeds_have_orders_and_flips_of_their_own():
    images = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 1), dtype="uint8")
    seeds = [2**63 - 1, 2**63, 2**63 + 1, 2**63 + 500, 2**64 - 1]
    orders = {Batches(images, 12, seed=seed)[0]["images"].tobytes() for seed in seeds}
    flips = {
        Batches(images, 12, seed=seed, shuffle=False, horizontal_flip=True)[0]["images"].tobytes() for seed in seeds
    }
    assert len(orders) == len(flips) == len(seeds)


def with_known_channels(**changes):
    images = np.random.default_rng(0).integers(0, 256, (8, 4, 6, 3)).astype("uint8")
    return {"images": images, "concat": images[..., :2], **changes}


def test_known_channels_are_scaled_and_mirrored_with_their_image():
    batch = Batches(with_known_channels(), batch_size=8, seed=0, horizontal_flip=True)[0]
    assert batch["concat"].dtype == np.float32
    np.testing.assert_array_equal(batch["concat"], batch["images"][..., :2])
    still = Batches(with_known_channels(), batch_size=8, seed=0)[0]
    assert np.abs(batch["concat"] - still["concat"]).max() > 0.1


def test_known_channels_are_resized_with_their_image():
    pytest.importorskip("PIL")
    batch = load(with_known_channels(), batch_size=8, image_size=4)[0]
    assert batch["concat"].shape == (8, 4, 4, 2)
    np.testing.assert_array_equal(batch["concat"], batch["images"][..., :2])


def test_known_channels_that_would_not_fit_any_more_are_refused():
    batches = Batches(with_known_channels(), batch_size=8, augment=lambda images, rng: images)
    with pytest.raises(ValueError, match="“concat”, would no longer fit.*Let the source augment both"):
        batches[0]
    nan = np.full((8, 4, 6, 2), np.nan, "float32")
    with pytest.raises(ValueError, match="Known channels, “concat”, are as images are.*NaN|not finite"):
        Batches(with_known_channels(concat=nan), batch_size=8)[0]
