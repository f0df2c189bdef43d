"""Networks that are told how a training picture was changed, and draw pictures as they were."""

import keras
import numpy as np
import pytest

import keras_diffusion as kd
from keras_diffusion.models import summary
from keras_diffusion.models.validation import unpack_batch

SMALL = {"emb_features": 16, "num_layers": 1, "num_heads": 2, "patch_size": 4}
NETWORKS = {
    "unet": {"widths": (4,), "num_res_blocks": 1, "attention": False, "num_classes": 3},
    "edm_unet": {"widths": (8,), "base_width": 8, "num_res_blocks": 1, "attention": [False], "num_classes": 3},
    "dit": SMALL,
    "mmdit": {**SMALL, "context_dim": 4},
}


def make(name, **options):
    return kd.networks.get({"name": name, "input_shape": (8, 8, 3), **NETWORKS[name], **options})


def inputs(network, n=2):
    rng = np.random.default_rng(0)
    known = {
        "labels": np.arange(n, dtype="int32"),
        "context": rng.standard_normal((n, 5, 4)).astype("float32"),
        "augmentation": rng.standard_normal((n, 9)).astype("float32"),
    }
    x = rng.standard_normal((n, 8, 8, 3)).astype("float32")
    return {"x": x, "noise_level": np.zeros(n, "float32"), **{key: known[key] for key in network.condition_keys}}


def randomize(network):
    rng = np.random.default_rng(1)
    for variable in network.weights:
        variable.assign(0.3 * rng.standard_normal(variable.shape))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_vectors_have_a_layer_of_their_own(name):
    told, other = make(name, augmentation_dim=9), make(name)
    assert told.condition_keys[-1] == "augmentation" and "augmentation" not in other.condition_keys
    assert [w.shape[0] for w in told.weights if "augmentation_embedding" in w.path] == [9]
    assert len(told.weights) == len(other.weights) + 1
    assert type(told).from_config(told.get_config()).augmentation_dim == 9


def test_at_zeros_the_output_is_that_of_a_network_that_is_not_told():
    told, other = make("dit", augmentation_dim=9), make("dit")
    randomize(told)
    shared = [w for w in told.weights if "augmentation_embedding" not in w.path]
    for weight, source in zip(other.weights, shared, strict=True):
        weight.assign(source)
    given = inputs(told)
    zeros = {**given, "augmentation": np.zeros((2, 9), "float32")}
    without = {key: value for key, value in given.items() if key != "augmentation"}
    np.testing.assert_array_equal(*(keras.ops.convert_to_numpy(o) for o in (told(zeros), other(without))))
    assert np.abs(keras.ops.convert_to_numpy(told(given) - told(zeros))).max() > 1e-3


@pytest.fixture
def model():
    network = make("dit", augmentation_dim=9, num_classes=3)
    randomize(network)
    made = kd.DiffusionModel(network, ema=None, seed=0)
    made.compile(keras.optimizers.SGD(0.1))
    return made


def batch(**further):
    given = inputs(make("dit", num_classes=3), 4)
    return {"images": np.tanh(given["x"]), "labels": given["labels"] % 3, **further}


def test_training_never_drops_the_vectors(model):
    vectors = np.ones((4, 9), "float32")
    kept = model.drop_conditions({"augmentation": vectors, "labels": np.zeros(4, "int32")}, drop=np.ones(4, bool))
    assert kept["augmentation"] is vectors and set(keras.ops.convert_to_numpy(kept["labels"])) == {3}
    assert model.dropout_shares({"augmentation": vectors}) == {}


def test_batches_without_vectors_are_of_pictures_as_they_were(model):
    _, conditions = unpack_batch(batch(), (8, 8, 3), model.condition_keys, 9)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(conditions["augmentation"]), np.zeros((4, 9)))


@pytest.mark.slow
def test_it_trains_on_non_leaking_batches_and_samples_without_a_word(model):
    pytest.importorskip("PIL.Image")
    learned = next(w for w in model.network.weights if "augmentation_embedding" in w.path)
    before = keras.ops.convert_to_numpy(learned)
    model.fit(kd.data.Batches(batch(), 4, augment=kd.data.NonLeaking(0.9)), validation_data=batch(), verbose=0)
    assert not np.array_equal(before, keras.ops.convert_to_numpy(learned))  # the vectors reach the loss
    drawn = model.generate(2, {"labels": [0, 1]}, num_steps=1, seed=0, guidance_scale=2.0)
    assert drawn.shape == (2, 8, 8, 3)
    assert "augmentation (9 numbers)" in " ".join(summary.lines(model))


def test_errors(model):
    with pytest.raises(ValueError, match="conditions are: labels. Received: augmentation"):
        model.generate(1, {"augmentation": np.zeros((1, 9))})
    with pytest.raises(ValueError, match="9 numbers.*shape \\(4, 8\\)"):
        model(batch(augmentation=np.zeros((4, 8), "float32")))
    untold = kd.DiffusionModel(make("unet"), ema=None)
    with pytest.raises(ValueError, match="made with augmentation_dim"):
        untold(batch(augmentation=np.zeros((4, 9), "float32")))
    with pytest.raises(ValueError, match="augmentation_dim"):
        make("unet", augmentation_dim=0)
