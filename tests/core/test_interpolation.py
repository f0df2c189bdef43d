"""Great circles between noises."""

import numpy as np
import pytest

from keras_diffusion.core.interpolation import interpolate_noise, slerp
from keras_diffusion.core.noise import initial_noise

A, B = np.random.default_rng(0).standard_normal((2, 3, 4))


def test_the_formula():
    theta = np.arccos(np.sum(A * B) / np.linalg.norm(A) / np.linalg.norm(B))
    unit = slerp(A / np.linalg.norm(A), B / np.linalg.norm(B), 0.3)
    expected = (np.sin(0.7 * theta) * A / np.linalg.norm(A) + np.sin(0.3 * theta) * B / np.linalg.norm(B)) / np.sin(
        theta
    )
    np.testing.assert_allclose(unit, expected, atol=1e-12)


def test_ends_are_exact_and_the_norm_goes_linearly():
    points = slerp(A.astype("float32"), B.astype("float32"), np.linspace(0, 1, 5))
    assert points.shape == (5, 3, 4) and points.dtype == np.float32
    np.testing.assert_array_equal(points[0], A.astype("float32"))
    np.testing.assert_array_equal(points[-1], B.astype("float32"))
    norms = np.linalg.norm(points.reshape(5, -1), axis=1)
    np.testing.assert_allclose(norms, np.linspace(norms[0], norms[-1], 5), rtol=1e-6)


def test_parallel_arrays_change_their_norm_alone():
    np.testing.assert_allclose(slerp(A, 3 * A, 0.5), 2 * A, atol=1e-9)
    np.testing.assert_allclose(slerp(A, A, [0.2, 0.9]), [A, A], atol=1e-9)


def test_antipodal_arrays_go_around():
    points = slerp(A, -A, np.linspace(0, 1, 5))
    np.testing.assert_allclose(np.linalg.norm(points.reshape(5, -1), axis=1), np.linalg.norm(A), rtol=1e-9)
    assert abs(np.sum(points[2] * A)) < 1e-9
    np.testing.assert_array_equal(points, slerp(A, -A, np.linspace(0, 1, 5)))


def test_noises_between_two_seeds_stay_standard_normal():
    noise = interpolate_noise(1, 2, 5, (64, 64, 3))
    assert noise.shape == (5, 64, 64, 3) and noise.dtype == np.float32
    np.testing.assert_array_equal(noise[[0, -1]], [initial_noise(s, [0], (64, 64, 3))[0] for s in (1, 2)])
    np.testing.assert_allclose(noise.std(axis=(1, 2, 3)), 1.0, atol=0.02)
    assert np.mean([noise[0], noise[-1]], axis=0).std() < 0.75  # what the straight line would give
    np.testing.assert_array_equal(interpolate_noise(1, 2, 2, (3,), index=7)[0], initial_noise(1, [7], (3,))[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((A, B[:2], 0.5), "Arrays of one shape that are not all 0 have a great circle. Received: shapes"),
        ((A, 0 * B, 0.5), "Arrays of one shape that are not all 0"),
        (([1.0], [-2.0], 0.5), "Between x and −x of one element there is no circle"),
    ],
)
def test_arrays_without_a_great_circle(arguments, message):
    with pytest.raises(ValueError, match=message):
        slerp(*arguments)


def test_fewer_than_two_noises():
    with pytest.raises(
        ValueError,
        match="`num` counts noises, both ends included, and must be an integer of at least 2. Received: num=1",
    ):
        interpolate_noise(0, 1, 1, (2,))
