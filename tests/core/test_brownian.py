"""Brownian noise: standard normal increments of one path, whatever grid looks at it."""

import numpy as np
import pytest
from golden_data import array
from keras import ops

from keras_diffusion.core.brownian import brownian_normal, brownian_table, coupling_table
from keras_diffusion.core.noise import seed_words
from keras_diffusion.samplers.tables import to_tensors

SHAPE = (3, 5000)


def increments(edges, seed=0, shape=SHAPE):
    """W(τ_b) − W(τ_a) between neighbouring edges of u = log τ, from the normals that a sampler would receive."""
    table = to_tensors(brownian_table(np.stack([edges[:-1], edges[1:]], axis=1)[:, None]))
    normals = [
        brownian_normal(seed_words(seed), {k: v[i, 0] for k, v in table.items()}, shape) for i in range(len(edges) - 1)
    ]
    return [array(z) * np.sqrt(np.exp(b) - np.exp(a)) for z, a, b in zip(normals, edges[:-1], edges[1:], strict=True)]


@pytest.mark.slow
def test_a_step_that_is_split_receives_the_same_noise():
    (whole,) = increments(np.array([-1.0, 2.0]))
    parts = increments(np.array([-1.0, 0.3, 0.9, 2.0]))
    assert np.abs(whole).std() > 1
    np.testing.assert_allclose(sum(parts), whole, atol=1e-2 * np.abs(whole).max())


def test_increments_are_independent_standard_normals():
    edges = np.array([-np.inf, -9.0, -1.0, 0.0, 0.01, 4.0, 12.0])
    table = to_tensors(brownian_table(np.stack([edges[:-1], edges[1:]], axis=1)[:, None]))
    z = np.stack(
        [
            array(brownian_normal(seed_words(3), {k: v[i, 0] for k, v in table.items()}, SHAPE)).reshape(-1)
            for i in range(6)
        ]
    )
    n = z.shape[1]
    assert np.all(np.abs(z.mean(1)) < 3.5 / n**0.5)
    standard_errors = (1 + np.eye(6)) ** 0.5 / n**0.5
    assert np.all(np.abs(np.cov(z) - np.eye(6)) < 4 * standard_errors)
    assert np.all(np.abs((z**4).mean(1) - 3) < 4 * (96 / n) ** 0.5)


def test_weights_are_of_unit_norm_and_nodes_exact_in_float32():
    table = brownian_table(np.array([[[-3.0, -2.5], [0.0, 1e-3]], [[5.0, 9.0], [-np.inf, np.inf]]]))
    np.testing.assert_allclose((table["weight"] ** 2).sum(-1), 1, rtol=1e-6)
    assert table["node"].max() < 2**24 and np.all(table["node"] == np.float32(table["node"]))
    for weights, nodes in zip(table["weight"].reshape(4, -1), table["node"].reshape(4, -1), strict=True):
        used = nodes[weights != 0]
        assert len(set(used)) == len(used)


def test_sample_i_does_not_depend_on_the_batch():
    table = to_tensors(brownian_table(np.array([[[0.0, 1.0]]])))
    row = {k: v[0, 0] for k, v in table.items()}
    whole = array(brownian_normal(seed_words(5), row, (4, 6)))
    part = array(brownian_normal(seed_words(5), row, (2, 6), ops.convert_to_tensor(np.int32(2))))
    np.testing.assert_allclose(whole[2:], part, atol=1e-6)
    assert np.abs(whole - array(brownian_normal(seed_words(6), row, (4, 6)))).max() > 0.1


def test_spans_shorter_than_a_cell_are_drawn_by_themselves():
    table = brownian_table(np.array([[[0.0, 1e-6]], [[1e-6, 2e-6]], [[0.0, 1.0]]]))
    assert list(table["weight"][0, 0, :2]) == list(table["weight"][1, 0, :2]) == [1.0, 0.0]
    assert table["node"][0, 0, 0] != table["node"][1, 0, 0]
    assert not set(table["node"][2, 0]) & {table["node"][0, 0, 0], table["node"][1, 0, 0]}


def test_coupling_of_a_part_with_its_whole():
    """A span and its first part: correlation √(τ₁/τ), as between W(τ₁) and W(τ) from the same start.

    Spans apart have none.
    """
    spans = np.array(
        [[[0.0, np.log(2.0)], [0.0, np.log(5.0)]], [[0.0, 1.0], [2.0, 3.0]], [[-np.inf, 1.0], [-np.inf, np.inf]]]
    )
    factors = coupling_table(spans)
    correlation = factors @ np.moveaxis(factors, 1, 2)
    np.testing.assert_allclose(correlation[0], [[1, 0.5], [0.5, 1]], atol=1e-12)
    np.testing.assert_allclose(correlation[1], np.eye(2), atol=1e-12)
    assert np.all(np.isfinite(factors)) and np.all(np.triu(factors, 1) == 0)
