"""How far one backend is from another, on arrays made up."""

import math

import numpy as np

from keras_diffusion.comparison import differences


def test_losses_are_compared_step_by_step():
    largest, steps = differences.losses([1.0, 2.2, 3.0], [1.0, 2.0, 3.0])
    np.testing.assert_allclose(steps, [0.0, 0.1, 0.0])
    assert largest == max(steps)
    assert differences.losses([1.0, math.nan], [1.0, 2.0]) == (math.inf, [0.0, math.inf])


def test_layers_relative_to_the_largest_output():
    reference = {"a": np.array([0.0, 10.0]), "b": np.array([1.0, 1.0]), "c": np.zeros(2)}
    found = {"a": np.array([1e-5, 10.0]), "b": np.array([1.0, 1.5]), "c": np.zeros(2)}
    layers = differences.layers(found, reference)
    assert [name for name, _ in layers] == ["a", "b", "c"]
    np.testing.assert_allclose([value for _, value in layers], [1e-6, 0.5, 0.0])
    assert differences.largest(layers) == layers[1] == differences.first_above(layers)
    assert differences.first_above(layers, limit=0.6) is None


def test_what_is_missing_or_not_finite_differs_by_infinity():
    reference = {"a": np.ones(2), "b": np.zeros(2), "c": np.ones(2)}
    found = {"a": np.ones(3), "b": np.ones(2), "c": np.array([1.0, np.nan]), "d": np.ones(1)}
    assert differences.layers(found, reference) == [(name, math.inf) for name in "abcd"]
    assert differences.samples(np.array([np.nan]), np.array([1.0])) == math.inf
    assert differences.samples(np.array([1.25, 0.0]), np.array([1.0, 0.0])) == 0.25
