import tracemalloc

import numpy as np
import pytest

from keras_diffusion import metrics
from keras_diffusion.metrics import blocks
from keras_diffusion.metrics.manifold import squared_radii

RNG = np.random.default_rng(0)
GENERATED, REAL = RNG.normal(0.3, 0.8, (140, 4)), RNG.normal(0.0, 1.0, (110, 4))


def distances(x, y):
    return np.linalg.norm(x[:, None] - y[None], axis=2)


def radii(x, k):
    return np.sort(distances(x, x), axis=1)[:, k]


@pytest.fixture(params=[32, 1024])
def rows(request, monkeypatch):
    monkeypatch.setattr(blocks.row_blocks, "__defaults__", (request.param,))


def test_each_is_its_formula_in_blocks_or_not(rows):
    d = distances(GENERATED, REAL)
    expected = {
        "precision": np.mean((d <= radii(REAL, 3)).any(axis=1)),
        "recall": np.mean((d <= radii(GENERATED, 3)[:, None]).any(axis=0)),
        "density": np.mean(np.sum(d < radii(REAL, 5), axis=1) / 5),
        "coverage": np.mean(d.min(axis=0) < radii(REAL, 5)),
    }
    values = {name: metrics.get(name)(GENERATED, REAL).value for name in expected}
    assert values == pytest.approx(expected, rel=1e-12)
    assert 0 < min(expected.values())


def test_radii_are_those_of_other_samples(rows):
    np.testing.assert_allclose(squared_radii(REAL, 2), radii(REAL, 2) ** 2, rtol=1e-9)
    np.testing.assert_allclose(squared_radii(REAL[:3], 2), radii(REAL[:3], 2) ** 2, rtol=1e-9)


def test_dropping_a_mode_lowers_recall_and_noise_lowers_precision():
    two = np.concatenate([REAL, REAL + 20.0])
    for name in ("recall", "coverage"):
        assert metrics.get(name)(REAL + 0.01, two).value < 0.6 < 0.9 < metrics.get(name)(two + 0.01, two).value
    for name in ("precision", "density"):
        assert metrics.get(name)(REAL + 20.0, REAL).value == 0.0
        assert metrics.get(name)(REAL + 0.01, REAL).value > 0.9


def test_memory_does_not_grow_with_the_number_of_pairs():
    features = RNG.standard_normal((4000, 2))
    tracemalloc.start()
    metrics.get("coverage")(features, features + 0.1)
    metrics.get("precision")(features, features + 0.1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64e6  # all pairs at once are 128 MB, and that several times


def test_a_share_has_the_binomial_error():
    estimate = metrics.get("precision")(GENERATED, REAL)
    assert estimate.standard_error == pytest.approx(np.sqrt(estimate.value * (1 - estimate.value) / 140), rel=1e-12)


def test_k_needs_more_than_k_samples():
    with pytest.raises(
        ValueError, match=r"precision of 4 features needs at least 4 .*neighbour number 3.*140 gen.*3 real"
    ):
        metrics.get("precision")(GENERATED, REAL[:3])
