"""Weights of samples count in `fit` and `evaluate`, however they come."""

import keras
import numpy as np
import pytest
from test_streamed_data import as_generator, as_grain, as_loader, as_py_dataset, as_tf_data, as_tuples

pytestmark = pytest.mark.filterwarnings("ignore:.*shuffle=True.*", "ignore:Your input ran out of data")


@pytest.fixture
def weights():
    return np.random.default_rng(1).uniform(0, 2, 96).astype("float32")


def cut(data, weights):
    return [
        {**{key: value[i : i + 32] for key, value in data.items()}, "sample_weight": weights[i : i + 32]}
        for i in (0, 32, 64)
    ]


def test_weights_count_in_fit(make_model, blobs, weights, difference):
    reference, plain = make_model(optimizer="sgd"), make_model(optimizer="sgd")
    reference.fit(blobs, sample_weight=weights, batch_size=32, shuffle=False, verbose=0)
    plain.fit(blobs, batch_size=32, shuffle=False, verbose=0)
    assert difference(reference, plain) > 1e-4
    for kind in (as_tuples, as_py_dataset):  # all others below, where nothing is compiled anew
        model = make_model(optimizer="sgd")
        model.fit(kind(cut(blobs, weights)), steps_per_epoch=3, shuffle=False, verbose=0)
        assert difference(reference, model) < 1e-6, kind
    one = make_model(optimizer="sgd")
    one.fit({**blobs, "sample_weight": weights}, batch_size=32, shuffle=False, verbose=0)
    assert difference(reference, one) == 0


@pytest.mark.slow
def test_samples_of_weight_0_are_not_there(make_model, blobs, difference):
    """The gradient of a batch of which half does not count is half that of the rest alone, noise and times being
    theirs.
    """
    first, second = make_model(optimizer="sgd"), make_model(optimizer="sgd")
    half = np.repeat(np.array([1.0, 0.0], "float32"), 48)
    other = {key: value.copy() for key, value in blobs.items()}
    other["images"][48:] = 0.5
    first.fit(blobs, sample_weight=half, batch_size=96, shuffle=False, verbose=0)
    second.fit(other, sample_weight=half, batch_size=96, shuffle=False, verbose=0)
    assert difference(first, second) < 1e-7


@pytest.mark.slow
def test_weights_count_in_evaluate_and_in_its_bands(make_model, blobs, weights):
    model = make_model()
    logs = model.evaluate(blobs, sample_weight=weights, batch_size=96, verbose=0, return_dict=True)
    plain = model.evaluate(blobs, batch_size=96, verbose=0, return_dict=True)
    assert abs(logs["loss"] - plain["loss"]) > 1e-3
    twice = model.evaluate(blobs, sample_weight=np.full(96, 2.0), batch_size=96, verbose=0, return_dict=True)
    for key in plain:
        assert twice[key] == pytest.approx(2 * plain[key], rel=1e-5)
    assert np.mean([logs[f"loss_t{upper}"] for upper in (25, 50, 75, 100)]) == pytest.approx(logs["loss"], rel=1e-5)
    expected = model.evaluate(blobs, sample_weight=weights, batch_size=32, verbose=0)
    for kind in (as_generator, as_tuples, as_py_dataset, as_tf_data, as_loader, as_grain):
        assert model.evaluate(kind(cut(blobs, weights)), verbose=0) == pytest.approx(expected, rel=1e-5), kind
    history = model.fit(blobs, validation_data=(blobs, None, np.zeros(96)), batch_size=96, verbose=0).history
    assert history["val_loss"] == [0.0] and history["loss"][0] > 0


@pytest.mark.slow
def test_weights_count_in_single_batches(make_model, blobs, weights):
    model = make_model()
    loss = model.test_on_batch(blobs, return_dict=True)["loss"]
    assert model.test_on_batch(blobs, sample_weight=np.zeros(96), return_dict=True)["loss"] == 0 < loss
    assert model.train_on_batch(blobs, sample_weight=np.zeros(96), return_dict=True)["loss"] == 0


@pytest.mark.slow
def test_weights_of_classes_go_by_the_labels(make_model, blobs, difference):
    one, other = make_model(optimizer="sgd"), make_model(optimizer="sgd")
    one.fit(blobs, class_weight={0: 2.0, 2: 0.0}, batch_size=32, shuffle=False, verbose=0)
    other.fit(blobs, sample_weight=np.array([2.0, 1.0, 0.0])[blobs["labels"]], batch_size=32, shuffle=False, verbose=0)
    assert difference(one, other) == 0
    one.train_on_batch(blobs, class_weight={1: 3.0})
    other.train_on_batch(blobs, sample_weight=np.array([1.0, 3.0, 1.0])[blobs["labels"]])
    assert difference(one, other) == 0


def test_errors(make_model, blobs, weights):
    model = make_model()
    made = cut(blobs, weights)
    short = [{**batch, "sample_weight": batch["sample_weight"][:5]} for batch in made]
    for run, message in [
        (
            lambda: model.fit(blobs, sample_weight=weights[:50], verbose=0),
            r"of shape \(96,\). Received: sample_weight of shape \(50,\)",
        ),
        (
            lambda: model.fit(blobs, sample_weight=np.ones((96, 1)), verbose=0),
            r"Received: sample_weight of shape \(96, 1\)",
        ),
        (
            lambda: model.evaluate(blobs, sample_weight=weights[:50], verbose=0),
            r"Received: sample_weight of shape \(50,\)",
        ),
        (lambda: model.fit(blobs, sample_weight=-weights, verbose=0), "numbers ≥ 0. Received: -"),
        (lambda: model.evaluate(as_tuples(short), verbose=0), "sample_weight"),
        (
            lambda: model.fit({**blobs, "sample_weight": weights}, sample_weight=weights, verbose=0),
            "Weights are given once",
        ),
        (lambda: model.fit(as_generator(made), class_weight={0: 1.0}, verbose=0), "under the key 'sample_weight'"),
        (lambda: model.fit(blobs, class_weight={3: 1.0}, verbose=0), r"Received: \{3: 1.0\}"),
        (lambda: model.fit(blobs, class_weight={0: "a"}, verbose=0), r"Received: \{0: 'a'\}"),
        (
            lambda: model.fit(blobs, class_weight=[2.0, 1.0, 1.0], verbose=0),
            r"a dict from labels, 0 to 2.* Received: class_weight=\[",
        ),
        (lambda: model.fit(blobs, class_weight="balanced", verbose=0), "Received: class_weight='balanced'"),
        (lambda: model.fit(blobs, sample_weight=["a"] * 96, verbose=0), "`sample_weight` must be an array of numbers"),
        (
            lambda: model.fit(as_generator(made), sample_weight=weights, verbose=0),
            "arrays in memory. Received: sample_weight with a gen",
        ),
        (
            lambda: model.evaluate(as_py_dataset(made), sample_weight=weights, verbose=0),
            "arrays in memory. Received: sample_weight with",
        ),
        (lambda: make_model(num_classes=None).fit(blobs["images"], class_weight={0: 1.0}, verbose=0), "without labels"),
        (lambda: model.fit(as_generator([(b["images"], b["sample_weight"]) for b in made]), verbose=0), "key"),
    ]:
        with pytest.raises(Exception, match=message) as caught:
            run()
        if keras.backend.backend() == "jax":
            assert caught.type is ValueError
