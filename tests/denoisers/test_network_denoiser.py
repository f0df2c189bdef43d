"""A network seen through its predictor: scaling, noise condition, conditions, other weights, one evaluation for two."""

import keras
import numpy as np
import pytest
from golden_data import array, tensor
from keras import ops

from keras_diffusion import predictors
from keras_diffusion.core.levels import Levels
from keras_diffusion.denoisers import Denoiser, NetworkDenoiser
from keras_diffusion.denoisers.denoiser import with_x0
from keras_diffusion.predictors.predictor import PREDICTORS

X = np.random.default_rng(0).standard_normal((4, 2))
LEVEL = Levels(0.5, 0.6, 0.8)


class Linear(keras.Model):
    """y = x·kernel + 0.1·noise_level + labels; remembers what it was called with."""

    def __init__(self):
        super().__init__()
        self.kernel = self.add_weight(shape=(2, 2), initializer=keras.initializers.RandomNormal(seed=3), name="kernel")
        self.calls = []
        self.built = True

    def call(self, inputs, training=None):
        self.calls.append((dict(inputs), training))
        y = ops.matmul(inputs["x"], self.kernel) + 0.1 * inputs["noise_level"][:, None]
        return y + ops.cast(inputs["labels"], y.dtype)[:, None] if "labels" in inputs else y


@pytest.mark.parametrize("name", PREDICTORS.names())
def test_is_the_predictors_split_of_the_networks_output(name):
    network, predictor = Linear(), predictors.get(name)
    found = NetworkDenoiser(network, predictor)(X, LEVEL)
    alpha, sigma = tensor(0.6), tensor(0.8)
    scale, condition = (
        array(predictor.input_scale(alpha, sigma)),
        array(predictor.noise_condition(Levels(tensor(0.5), alpha, sigma))),
    )
    output = scale * X @ array(network.kernel) + 0.1 * condition
    expected = predictor.split(output, X, 0.6, 0.8)
    np.testing.assert_allclose(array(found.x0), array(expected.x0), atol=1e-5)
    np.testing.assert_allclose(array(found.eps), array(expected.eps), atol=1e-5)
    inputs, training = network.calls[0]
    assert training is False and tuple(inputs["noise_level"].shape) == (4,)


def test_levels_per_sample_and_bound_conditions():
    network, predictor = Linear(), predictors.get("v")
    labels = tensor([1.0, 2.0, 3.0, 4.0])
    each = Levels(np.full(4, 0.5), np.full(4, 0.6), np.full(4, 0.8))
    one = NetworkDenoiser(network, predictor, {"labels": labels})(X, LEVEL)
    other = NetworkDenoiser(network, predictor, {"labels": labels})(X, each)
    np.testing.assert_allclose(array(one.x0), array(other.x0), atol=1e-6)
    without = NetworkDenoiser(network, predictor)(X, LEVEL)
    # v is larger by the label, so x0 = α·x − σ·v is smaller by σ times it.
    np.testing.assert_allclose(array(one.x0), array(without.x0) - 0.8 * np.arange(1, 5)[:, None], atol=1e-5)


def test_a_single_row_of_conditions_serves_all_samples():
    network, predictor = Linear(), predictors.get("v")
    one = NetworkDenoiser(network, predictor, {"labels": tensor([2.0])})(X, LEVEL)
    all_rows = NetworkDenoiser(network, predictor, {"labels": tensor([2.0] * 4)})(X, LEVEL)
    np.testing.assert_array_equal(array(one.x0), array(all_rows.x0))


def test_other_values_replace_the_weights_for_the_call_only():
    network, predictor = Linear(), predictors.get("x0")
    before = array(network.kernel)
    found = NetworkDenoiser(network, predictor, values=[tensor(2 * np.eye(2))])(X, LEVEL)
    plain = NetworkDenoiser(network, predictor)(X, LEVEL)
    condition = 0.1 * array(predictor.noise_condition(Levels(tensor(0.5), tensor(0.6), tensor(0.8))))
    np.testing.assert_allclose(array(found.x0), 2 * X + condition, atol=1e-5)
    np.testing.assert_allclose(array(plain.x0), X @ before + condition, atol=1e-5)


def test_together_is_one_evaluation_of_a_doubled_batch():
    network, predictor = Linear(), predictors.get("v")
    one = NetworkDenoiser(network, predictor, {"labels": tensor([1.0, 2.0, 3.0, 4.0])})
    other = NetworkDenoiser(network, predictor, {"labels": tensor([0.0])})
    apart = [array(denoise(X, LEVEL)) for denoise in (one, other)]
    network.calls.clear()
    level = LEVEL.map(tensor)
    both = one.together(other, tensor(X), level)
    assert len(network.calls) == 1 and tuple(network.calls[0][0]["x"].shape) == (8, 2)
    for found, expected in zip(both, apart, strict=True):
        np.testing.assert_allclose(array(found), expected, atol=1e-6)
    per_sample = one.together(other, tensor(X), level.map(lambda v: ops.broadcast_to(v, (4,))))
    np.testing.assert_allclose(array(per_sample[1]), apart[1], atol=1e-6)


def test_together_with_another_network_is_two_evaluations():
    predictor = predictors.get("v")
    one, other = NetworkDenoiser(Linear(), predictor), NetworkDenoiser(Linear(), predictor)
    first, second = one.together(other, tensor(X), LEVEL.map(tensor))
    assert len(one.network.calls) == len(other.network.calls) == 1
    np.testing.assert_allclose(array(first.x0), array(second.x0), atol=1e-6)


def test_with_x0_makes_epsilon_follow():
    level = Levels(*(tensor(np.full(4, v)) for v in (0.5, 0.6, 0.8)))
    prediction = with_x0(tensor(X), tensor(0.5 * X), level)
    np.testing.assert_allclose(0.6 * array(prediction.x0) + 0.8 * array(prediction.eps), X, atol=1e-6)


def test_base_class_names_what_is_missing():
    with pytest.raises(NotImplementedError, match=r"Denoiser must implement __call__\(x, level\)"):
        Denoiser()(X, LEVEL)
