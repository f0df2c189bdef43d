import keras
import numpy as np
import pytest

from keras_diffusion.data import Batches
from keras_diffusion.data.augmentation import KerasAugmentation, _Seeds, names


def pictures(n=12, side=8):
    return np.random.default_rng(0).uniform(-1, 1, (n, side, side, 3)).astype("float32")


def batches(augment, **options):
    return Batches(pictures(), 4, **{"seed": 3, "augment": augment, **options})


def images(data):
    return np.concatenate([data[i]["images"] for i in range(len(data))])


LAYERS = {
    "a layer": keras.layers.RandomContrast(0.5),
    "several": [
        keras.layers.RandomFlip("horizontal"),
        {"name": "random_zoom", "height_factor": 0.3, "width_factor": 0.3},
        lambda images, rng: images * np.float32(rng.uniform(0.5, 1)),
    ],
    "a value range": "random_invert",
}


@pytest.mark.parametrize("augment", LAYERS.values(), ids=LAYERS)
def test_layers_are_a_function_of_seed_epoch_and_index(augment):
    one, other = batches(augment), batches(augment)
    whole = images(one)
    keras.utils.set_random_seed(7)  # of no effect
    np.testing.assert_array_equal(other[2]["images"], whole[8:])
    other.rows = np.array([1, 3])
    np.testing.assert_array_equal(other[1]["images"], whole[[5, 7]])
    assert not np.array_equal(whole, images(batches(augment, seed=4)))
    one.epoch = 1
    assert not np.array_equal(whole[:4], one[0]["images"]) and np.abs(whole).max() <= 1
    assert whole.dtype == np.float32 and not np.array_equal(np.sort(whole.ravel()), np.sort(pictures().ravel()))


def test_layers_with_a_value_range_get_pictures_in_it():
    invert = KerasAugmentation(keras.layers.RandomInvert(factor=(1.0, 1.0)))  # of 0 to 255
    np.testing.assert_allclose(invert(pictures(), np.random.default_rng(0)), -pictures(), atol=1e-6)


def test_what_a_layer_draws_differs_from_draw_to_draw():
    # RandomTranslation with one seed for height and width would always move along the diagonal.
    drawn = []
    for seed in (7, 7, 80):
        seeds = _Seeds(seed)
        drawn += [keras.ops.convert_to_numpy(keras.random.uniform((4,), seed=seeds)).tolist() for _ in range(2)]
    assert drawn[0] == drawn[2] and drawn[1] == drawn[3]
    assert len({tuple(numbers) for numbers in drawn}) == 4


@pytest.mark.parametrize("workers", [1, 2])
def test_fit_in_threads(workers):
    class Mean(keras.Model):
        def __init__(self):
            super().__init__()
            self.scale = self.add_weight(shape=(), initializer="ones")
            self.built = True

        def call(self, data, training=False):
            return self.scale * data["images"]

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return keras.ops.mean(y_pred)

    data, model = batches(keras.layers.RandomBrightness(0.5), workers=workers), Mean()
    model.compile(keras.optimizers.SGD(0.0))
    loss = model.fit(data, shuffle=False, verbose=0).history["loss"][0]
    assert loss == pytest.approx(images(batches(keras.layers.RandomBrightness(0.5))).mean(), abs=1e-5)
    assert abs(loss - pictures().mean()) > 1e-3


@pytest.mark.parametrize(
    ("augment", "match"),
    [
        (keras.layers.RandomCrop(4, 4), "RandomCrop, which changes the size"),
        (keras.layers.MixUp(), "MixUp, which mixes pictures"),
        (keras.layers.RandAugment(), "RandAugment, which draws from a generator of its own"),
        (keras.layers.Dense(3), "Dense, which is no layer that augments"),
        ("random_rotate", "Known names: non_leaking, .*random_rotation"),
        ({"name": "random_rotation", "angle": 1}, "random_rotation has no option 'angle'"),
        ("random_rotation", "factor"),
        ([3], "augment must be a function.*Received: augment=3"),
    ],
)
def test_errors(augment, match):
    with pytest.raises(ValueError, match=match):
        batches(augment)


def test_layers_stay_in_one_process():
    with pytest.raises(ValueError, match="threads do as well"):
        batches([keras.layers.RandomRotation(0.2)], workers=2, use_multiprocessing=True)


def test_names():
    assert "random_rotation" in names() and "non_leaking" in names()
