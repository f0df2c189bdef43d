"""Data that comes in batches is looked at like arrays: bad values are an error that names the batch, whatever brings
them.
"""

import warnings

import keras
import numpy as np
import pytest
from keras import ops

import keras_diffusion as kd

pytestmark = pytest.mark.filterwarnings("ignore:.*shuffle=True.*", "ignore:Your input ran out of data")


@pytest.fixture(scope="module")
def model():
    """A model of vectors with three classes and a context."""
    keras.utils.set_random_seed(0)
    network = kd.networks.SimpleDiT(
        (2, 2, 1), patch_size=1, emb_features=8, num_layers=1, num_heads=1, num_classes=3, context_dim=2
    )
    model = kd.DiffusionModel(network, seed=0)
    model.compile(keras.optimizers.SGD(1e-3))
    return model


def batches(fault=None, value=None, number=3, size=4):
    """`number` batches as dicts; in sample 1 of the second one there is `value` in what `fault` names."""
    rng = np.random.default_rng(0)
    made = []
    for i in range(number):
        batch = {
            "images": rng.uniform(-1, 1, (size, 2, 2, 1)).astype("float32"),
            "labels": rng.integers(0, 3, size).astype("float32" if isinstance(value, float) else "int32"),
            "context": rng.standard_normal((size, 3, 2)).astype("float32"),
            "sample_weight": np.ones(size, "float32"),
        }
        if i == 1 and fault == "scale":
            batch["images"] = 100 * (batch["images"] + 1)
        elif i == 1 and fault is not None:
            batch[fault][1] = value
        made.append(batch)
    return made


def as_generator(made):
    return (batch for batch in made)


def as_tuples(made):
    return (({k: v for k, v in batch.items() if k != "sample_weight"}, None, batch["sample_weight"]) for batch in made)


def as_py_dataset(made):
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return len(made)

        def __getitem__(self, i):
            return made[i]

    return Batches()


def rows_of(made):
    return [{key: value[i] for key, value in batch.items()} for batch in made for i in range(len(batch["images"]))]


def as_tf_data(made):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices({key: np.concatenate([b[key] for b in made]) for key in made[0]}).batch(
        len(made[0]["images"])
    )


def as_loader(made):
    torch = pytest.importorskip("torch")
    return torch.utils.data.DataLoader(rows_of(made), batch_size=len(made[0]["images"]))


def as_iterator(made):
    return iter(made)


def as_map(made):
    return map(dict, made)


def as_grain(made):
    grain = pytest.importorskip("grain")
    return grain.MapDataset.source(rows_of(made)).batch(len(made[0]["images"]))


KINDS = [as_generator, as_tuples, as_iterator, as_map, as_py_dataset, as_tf_data, as_loader, as_grain]
FAULTS = {
    "too high": ("labels", 3, "integers from 0 to 2. Received: label 3 in sample 1 of batch 2 of "),
    "negative": ("labels", -1, "Received: label -1 in sample 1 of batch 2 of "),
    "no integer": ("labels", 0.5, r"Received: label 0\.5 in sample 1 of batch 2 of "),
    "no number": ("images", np.nan, "images with NaN or infinite values, first in sample 1 of batch 2 of "),
    "infinite": ("context", np.inf, "a condition with NaN or infinite values, first in sample 1 of batch 2 of "),
    "unscaled": ("scale", None, r"lie in \[-1, 1\]. Received: nothing below 0 and a value of 1\d\d.* of batch 2 of "),
    "weight": ("sample_weight", -2.0, "Sample weights are numbers ≥ 0. Received: -2 for sample 1 of batch 2 of "),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FAULTS)
def test_evaluate_and_validation_name_the_bad_batch(model, kind, name):
    fault, value, message = FAULTS[name]
    with pytest.raises(ValueError, match=message + "the data evaluated"):
        model.evaluate(kind(batches(fault, value)), verbose=0)


@pytest.mark.parametrize("kind", KINDS)
def test_fit_stops_before_the_weights_are_spoiled(model, kind):
    before = [ops.convert_to_numpy(w) for w in model.network.weights]
    for name in ("too high", "no number", "infinite"):
        fault, value, message = FAULTS[name]
        with pytest.raises(ValueError, match=message + "epoch 1"):
            model.fit(kind(batches(fault, value)), epochs=2, shuffle=False, verbose=0)
    for old, new in zip(before, model.network.weights, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(new), old, atol=1.0)  # NaN is close to nothing
    model.fit(kind(batches()), shuffle=False, verbose=0)


@pytest.mark.parametrize("kind", [as_generator, as_py_dataset])
def test_fit_reads_long_epochs_in_between(model, kind):
    made = batches("labels", 7)
    seen = []
    count = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(batch))
    with pytest.raises(ValueError, match="label 7 in sample 1 of batch 2 of epoch 1"):
        model.fit(kind([*made, *batches(number=200)]), shuffle=False, verbose=0, callbacks=[count])
    assert len(seen) < 4


def test_a_callback_list_of_keras_will_do(model):
    history = keras.callbacks.History()
    callbacks = keras.callbacks.CallbackList([history], model=model)
    model.fit(as_py_dataset(batches()), verbose=0, callbacks=callbacks)
    assert len(history.history["loss"]) == 1
    with pytest.raises(ValueError, match="label 7 in sample 1 of batch"):
        model.fit(as_py_dataset(batches("labels", 7)), verbose=0, callbacks=callbacks)
    assert callbacks.callbacks == [history]


def test_validation_data_is_looked_at(model):
    good, bad = batches(), batches("labels", 3)
    with pytest.raises(ValueError, match="label 3 in sample 1 of batch 2 of the validation data"):
        model.fit(as_py_dataset(good), validation_data=as_py_dataset(bad), shuffle=False, verbose=0)
    # A fault of the training data is named as such, though the validation begins anew.
    with pytest.raises(ValueError, match="of batch 3 of epoch 1"):
        model.fit(as_py_dataset([good[0], *bad[:2]]), validation_data=as_py_dataset(good), shuffle=False, verbose=0)
    joined = {key: np.concatenate([b[key] for b in bad]) for key in bad[0]}
    with pytest.raises(ValueError, match="Received: labels from 0 to 3"):
        model.fit(as_py_dataset(good), validation_data=joined, shuffle=False, verbose=0)
    with pytest.raises(ValueError, match="Received: labels from 0 to 3"):
        model.fit(as_py_dataset(good), validation_data=(joined,), shuffle=False, verbose=0)


@pytest.mark.parametrize("form", [np.asarray, ops.convert_to_tensor, list], ids=["array", "tensor", "list"])
def test_whatever_is_in_memory_is_looked_at_before(model, form):
    for fault, value, message in [
        ("labels", 3, "integers from 0 to 2. Received: labels from 0 to 3"),
        ("labels", -1, "Received: labels from -1 to 2"),
        ("labels", 0.5, "integers from 0 to 2"),
        ("images", np.nan, "images with NaN or infinite values, first in sample 1"),
        ("context", np.inf, "context with NaN or infinite values, first in sample 1"),
        ("scale", None, r"Float pictures lie in \[-1, 1\]. Received: images from "),
        ("sample_weight", -2.0, "Received: -2 for sample 1"),
    ]:
        bad = {key: form(array) for key, array in batches(fault, value)[1].items()}
        for method, options in (
            ("fit", {"verbose": 0}),
            ("evaluate", {"verbose": 0}),
            ("train_on_batch", {}),
            ("test_on_batch", {}),
        ):
            with pytest.raises(ValueError, match=message):
                getattr(model, method)(bad, **options)


def test_more_classes_than_the_network_has(model):
    data = kd.data.Batches({"images": np.zeros((8, 2, 2, 1), "float32"), "labels": np.arange(8)}, 4)
    for options in ({"x": data}, {"x": as_py_dataset(batches()), "validation_data": data}):
        with pytest.raises(ValueError, match="Received: data with 8 classes. Make the network with num_classes=8"):
            model.fit(**options, shuffle=False, verbose=0)


def test_pictures_without_anything_below_0_are_told_of_once(model):
    positive = [{**batch, "images": 0.5 * (batch["images"] + 1)} for batch in batches(number=10)]
    with pytest.warns(UserWarning, match=r"nothing here is below 0 in the first 8 batches.*2 \* x - 1") as told:
        model.fit(as_py_dataset(positive), epochs=2, shuffle=False, verbose=0)
    assert len([w for w in told if "below 0" in str(w.message)]) == 1
    joined = {key: np.concatenate([b[key] for b in positive]) for key in positive[0]}
    with pytest.warns(UserWarning, match="nothing here is below 0: the highest value is"):
        model.fit(joined, shuffle=False, verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", ".*shuffle=True.*")
        model.fit(as_py_dataset(batches(number=10)), shuffle=False, verbose=0)


def test_data_that_are_no_pictures(model):
    bright = batches("scale")[1]
    model.value_range = None
    try:
        model.fit(bright, shuffle=False, verbose=0)
        model.evaluate(as_generator([bright]), verbose=0)
    finally:
        del model.value_range
    free = kd.data.Batches(bright, 4, value_range=None)
    model.fit(free, validation_data=free, shuffle=False, verbose=0)
    model.evaluate(free, verbose=0)


def test_notes_are_no_part_of_files(model, tmp_path):
    import h5py

    path = tmp_path / "model.weights.h5"
    model.save_weights(path)
    names = []
    with h5py.File(path) as file:
        file.visit(names.append)
    assert names and not any("watch" in name for name in names)
    model.load_weights(path)
    assert not any("watch" in key for key in model.evaluate(as_generator(batches()), verbose=0, return_dict=True))


def test_pictures_from_0_to_255_among_others_in_memory(model):
    x = np.concatenate([made["images"] for made in batches()]).astype("float32")
    x[5] = 127.5 * (x[5] + 1.0)
    with pytest.raises(
        ValueError, match=r"Received: images with 1 pictures from 0 up to .*, the first of them sample 5\. Pass uint8"
    ):
        model.fit({"images": x, "labels": np.zeros(len(x), "int32")}, verbose=0)


def test_data_without_a_batch(model):
    with pytest.raises(ValueError, match="Data hold at least one batch. Received: a Empty of length 0"):
        model.fit(Empty(), verbose=0)


class Empty(keras.utils.PyDataset):
    def __len__(self):
        return 0
