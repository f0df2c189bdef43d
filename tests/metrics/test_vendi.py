import numpy as np
import pytest

from keras_diffusion import metrics

FEATURES = np.random.default_rng(0).normal(0.5, 1.0, (30, 12))


def by_hand(x):
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    eigenvalues = np.linalg.eigvalsh(unit @ unit.T / len(x))
    eigenvalues = eigenvalues[eigenvalues > 1e-12]
    return np.exp(-np.sum(eigenvalues * np.log(eigenvalues)))


@pytest.mark.parametrize("count", [30, 12, 7])  # the matrix of features is smaller, or that of samples
def test_is_the_entropy_of_the_eigenvalues(count):
    assert metrics.get("vendi")(FEATURES[:count]).value == pytest.approx(by_hand(FEATURES[:count]), rel=1e-9)


def test_counts_directions():
    assert metrics.get("vendi")(np.eye(6)).value == pytest.approx(6.0)
    assert metrics.get("vendi")(np.tile(FEATURES[:1], (9, 1))).value == pytest.approx(1.0)
    assert metrics.get("vendi")(np.eye(3)[np.arange(30) % 3]).value == pytest.approx(3.0)


@pytest.mark.parametrize("shape", [(200, 6), (40, 60)])
def test_the_standard_error_is_what_repeated_draws_show(shape):
    draws = [np.random.default_rng(seed).normal(1.0, 1.0, shape) for seed in range(100)]
    values, errors = np.array([metrics.get("vendi")(draw) for draw in draws]).T
    assert errors.mean() == pytest.approx(values.std(), rel=0.3)


def test_zeros_have_no_direction():
    with pytest.raises(ValueError, match=r"row of zeros has none. Received: generated with 2"):
        metrics.get("vendi")(np.concatenate([FEATURES, np.zeros((2, 12))]))
