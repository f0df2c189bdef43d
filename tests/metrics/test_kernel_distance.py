import tracemalloc

import numpy as np
import pytest

from keras_diffusion import metrics
from keras_diffusion.metrics import blocks
from keras_diffusion.metrics.kernel_distance import polynomial_kernel, subset_distances, unbiased_mmd

RNG = np.random.default_rng(0)
GENERATED, REAL = RNG.normal(0.4, 1.0, (130, 3)), RNG.normal(0.0, 1.0, (90, 3))


def by_hand(x, y):
    k = [(a @ b.T / x.shape[1] + 1.0) ** 3 for a, b in ((x, x), (y, y), (x, y))]
    n, m = len(x), len(y)
    return (
        (k[0].sum() - np.trace(k[0])) / (n * (n - 1)) + (k[1].sum() - np.trace(k[1])) / (m * (m - 1)) - 2 * k[2].mean()
    )


def test_the_estimate_from_all_pairs_is_the_formula():
    estimate = metrics.kernel_distance(GENERATED, REAL, subsets=None)
    assert estimate.value == pytest.approx(by_hand(GENERATED, REAL), rel=1e-12)


def test_blocks_add_up_to_the_whole(monkeypatch):
    whole = unbiased_mmd(GENERATED, REAL, polynomial_kernel)
    monkeypatch.setattr(blocks.row_blocks, "__defaults__", (32,))
    assert unbiased_mmd(GENERATED, REAL, polynomial_kernel) == pytest.approx(whole, rel=1e-12)
    for rows, columns, block in blocks.squared_distances(1e3 + GENERATED, 1e3 + REAL):
        pairs = GENERATED[rows][:, None] - REAL[columns][None]
        np.testing.assert_allclose(block, np.sum(pairs**2, axis=2), atol=1e-9)
        assert block.shape[0] <= 32 and block.shape[1] <= 32


def test_the_mean_of_subsets_is_unbiased_too():
    values = subset_distances(GENERATED, REAL, subsets=400, subset_size=40)
    estimate = metrics.kernel_distance(GENERATED, REAL, subsets=400, subset_size=40)
    assert estimate.value == pytest.approx(values.mean(), rel=1e-12)
    assert estimate.value == pytest.approx(by_hand(GENERATED, REAL), abs=4 * values.std() / 20)
    other = metrics.kernel_distance(GENERATED, REAL, subsets=400, subset_size=40, seed=1)
    assert other != estimate and other.standard_error == pytest.approx(estimate.standard_error, rel=0.05)


def test_a_subset_of_all_samples_is_the_whole():
    estimate = metrics.kernel_distance(GENERATED[:90], REAL, subsets=1, subset_size=90)
    whole = metrics.kernel_distance(GENERATED[:90], REAL, subsets=None)
    assert tuple(estimate) == pytest.approx(tuple(whole), rel=1e-9)


def test_too_few_samples_for_a_subset():
    with pytest.raises(
        ValueError, match=r"KID of 3 features needs at least 1,000.*smaller `subset_size`, or `subsets=None`"
    ):
        metrics.kernel_distance(GENERATED, REAL)


def test_cmmd_is_its_formula():
    x, y = (values / np.linalg.norm(values, axis=1, keepdims=True) for values in (GENERATED, REAL))

    def mean(a, b):
        return np.exp(-np.sum((a[:, None] - b[None]) ** 2, axis=2) / 200.0).mean()

    assert metrics.get("cmmd")(x, y).value == pytest.approx(
        1000.0 * (mean(x, x) + mean(y, y) - 2 * mean(x, y)), rel=1e-9
    )
    assert metrics.get("cmmd")(x, x).value == pytest.approx(0.0, abs=1e-9)


def test_memory_does_not_grow_with_the_number_of_samples():
    metric = metrics.get("kid", subsets=2, subset_size=100)

    def peak(count):
        features = np.zeros((count, 8), "float32")
        tracemalloc.start()
        metric(features, features)
        fd = metrics.get("fd")
        fd(features + np.eye(count, 8, dtype="float32"), features)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(2000)
    assert peak(40_000) - peak(4_000) < 36_000 * 8 * 8  # a number for each sample, where all pairs were 12.8 GB
