import numpy as np
import pytest

from keras_diffusion.metrics import Memorization, get, memorization, nearest_neighbours


def test_equals_the_distance_of_all_pairs():
    rng = np.random.RandomState(0)
    samples, reference = rng.randn(1500, 4, 4, 1), rng.randn(40, 4, 4, 1)  # more samples than are compared at once
    distances, indices = nearest_neighbours(samples, reference)
    pairs = np.sqrt(((samples[:, None] - reference[None]) ** 2).sum(axis=(2, 3, 4)))
    np.testing.assert_array_equal(indices, pairs.argmin(axis=1))
    np.testing.assert_allclose(distances, pairs.min(axis=1), rtol=1e-12)


def test_a_copy_has_distance_zero_exactly():
    reference = 100.0 + np.random.RandomState(0).randn(50, 64).astype("float32")
    distances, indices = nearest_neighbours(reference[[7, 3]], reference)
    assert distances.tolist() == [0.0, 0.0] and indices.tolist() == [7, 3]


def test_memorization_tells_a_copier_from_an_honest_model():
    rng = np.random.RandomState(1)
    training, held_out, honest = rng.randn(300, 8), rng.randn(300, 8), rng.randn(300, 8)
    copier = training[:200] + 1e-3 * rng.randn(200, 8)
    assert memorization(honest, training, held_out).ratio == pytest.approx(1.0, abs=0.15)
    assert memorization(honest, training, held_out).closer_than(0.1) == pytest.approx(0.1, abs=0.06)
    assert memorization(copier, training, held_out).ratio < 0.01
    assert memorization(copier, training, held_out).closer_than(0.1) == 1.0


def test_a_share_of_copies_shows_though_the_median_does_not():
    mixed = Memorization(np.array([0.0] * 30 + [2.0] * 70), np.linspace(1.0, 3.0, 101))
    assert mixed.ratio == 1.0
    assert mixed.closer_than(0.05) == 0.3


def test_shapes_must_match():
    with pytest.raises(ValueError, match=r"of one shape.*\(2, 3\), reference of shape \(2, 4\)"):
        nearest_neighbours(np.zeros((2, 3)), np.zeros((2, 4)))


def test_empty_arrays_are_refused():
    with pytest.raises(ValueError, match=r"at least 1.*\(0, 3\)"):
        nearest_neighbours(np.zeros((0, 3)), np.zeros((2, 3)))


def test_nan_is_refused():
    with pytest.raises(ValueError, match=r"finite values. Received: reference with 1"):
        nearest_neighbours(np.zeros((2, 3)), np.array([[0.0, np.nan, 0.0]]))


def test_auth_pct_is_its_definition():
    rng = np.random.RandomState(3)
    generated, training = rng.randn(70, 3), rng.randn(1100, 3)  # more than are compared at once
    pairs = np.linalg.norm(training[:, None] - training[None], axis=2)
    np.fill_diagonal(pairs, np.inf)
    to_training = np.linalg.norm(generated[:, None] - training[None], axis=2)
    authentic = pairs.min(axis=1)[to_training.argmin(axis=1)] < to_training.min(axis=1)
    estimate = get("auth_pct")(generated, training=training)
    assert estimate.value == pytest.approx(100 * authentic.mean()) and 0 < authentic.mean() < 1


def test_auth_pct_of_copies_is_zero():
    training = 100.0 + np.random.RandomState(0).randn(50, 8).astype("float32")
    assert get("auth_pct")(training[:20], training=training).value == 0.0
    assert get("auth_pct")(training[:20] + 50.0, training=training).value == 100.0
