import numpy as np
import pytest

from keras_diffusion.layers.patch_order import PATCH_ORDERS, inverse_order, patch_order

GRIDS = [(1, 1), (1, 7), (6, 1), (4, 4), (8, 8), (2, 4), (16, 8), (3, 5), (6, 9), (12, 12), (7, 24)]


@pytest.mark.parametrize("order", PATCH_ORDERS)
def test_each_patch_once_and_back(order):
    for grid in GRIDS:
        sequence = patch_order(order, *grid)
        count = grid[0] * grid[1]
        np.testing.assert_array_equal(np.sort(sequence), np.arange(count))
        x = np.random.RandomState(0).normal(size=count)
        np.testing.assert_array_equal(x[sequence][inverse_order(sequence)], x)


def test_small_grids():
    assert patch_order("raster", 2, 3).tolist() == [0, 1, 2, 3, 4, 5]
    assert patch_order("zigzag", 3, 3).tolist() == [0, 1, 2, 5, 4, 3, 6, 7, 8]
    assert patch_order("hilbert", 4, 4).tolist() == [0, 1, 5, 4, 8, 12, 13, 9, 10, 14, 15, 11, 7, 6, 2, 3]
    assert patch_order("hilbert_cropped", 2, 4).tolist() == [0, 1, 5, 4, 7, 6, 2, 3]


def longest_step(order, height, width):
    rows, columns = np.divmod(patch_order(order, height, width), width)
    return np.maximum(np.abs(np.diff(rows)), np.abs(np.diff(columns))).max(initial=0)


def test_neighbours_stay_neighbours():
    for height in range(1, 20):
        for width in range(1, 20):
            assert longest_step("zigzag", height, width) <= 1
            assert longest_step("hilbert", height, width) <= 1, (height, width)


def test_the_two_hilbert_orders_agree_on_squares_of_powers_of_two_only():
    for side in (1, 2, 4, 16):
        np.testing.assert_array_equal(patch_order("hilbert", side, side), patch_order("hilbert_cropped", side, side))
    assert longest_step("hilbert_cropped", 12, 12) == 7


def test_unknown_order():
    with pytest.raises(
        ValueError, match=r"Unknown patch order: 'spiral'. Known orders: raster, zigzag, hilbert, hilbert_cropped."
    ):
        patch_order("spiral", 2, 2)
