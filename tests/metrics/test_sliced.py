import numpy as np
import pytest
import scipy.stats

from keras_diffusion import metrics
from keras_diffusion.metrics.sliced import random_directions

RNG = np.random.default_rng(0)
GENERATED, REAL = RNG.normal(0.4, 1.0, (150, 5)), RNG.normal(0.0, 2.0, (150, 5))


def test_is_the_mean_over_directions_of_sorted_differences():
    directions = random_directions(100, 5)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1.0)
    squares = [np.mean((np.sort(GENERATED @ u) - np.sort(REAL @ u)) ** 2) for u in directions]
    expected = 3 * 5 * np.mean(squares)
    assert metrics.mind(GENERATED, REAL, directions).value == pytest.approx(expected, rel=1e-12)
    assert metrics.get("mind", projections=100)(GENERATED, REAL).value == pytest.approx(expected, rel=1e-12)


def test_a_shift_costs_its_square():
    shift = np.array([1.0, -2.0, 0.0, 0.0, 0.5])
    estimate = metrics.mind(REAL + shift, REAL, np.eye(5))
    assert estimate.value == pytest.approx(3 * np.sum(shift**2), rel=1e-12)


def test_one_direction_is_scipys_distance_squared_for_a_spread():
    x = RNG.exponential(size=(80, 1))
    y = x + 3.0
    assert metrics.mind(x, y, np.ones((1, 1))).value == pytest.approx(
        3 * scipy.stats.wasserstein_distance(x[:, 0], y[:, 0]) ** 2, rel=1e-9
    )


def test_of_the_larger_side_a_part_is_used():
    metric = metrics.get("mind", projections=50)
    part = metric(GENERATED[:70], REAL)
    assert np.isfinite(part.value) and part == metric(GENERATED[:70], REAL)
    assert part != metrics.get("mind", projections=50, seed=3)(GENERATED[:70], REAL)
    assert metric(REAL[:70], REAL[:70]).value == 0.0


def test_works_with_fewer_samples_than_features():
    wide = RNG.standard_normal((2, 40, 100))
    assert metrics.get("mind", projections=50)(*wide).value > 0
    with pytest.raises(ValueError, match=r"at least 2 samples"):
        metrics.get("mind")(wide[0, :1], wide[1])


def test_directions_must_fit():
    with pytest.raises(ValueError, match=r"as many generated as real.*\(70, 5\), \(150, 5\)"):
        metrics.mind(GENERATED[:70], REAL, np.eye(5))
    with pytest.raises(ValueError, match=r"directions of shape \(4, 4\)"):
        metrics.mind(GENERATED, REAL, np.eye(4))
