"""Sums over all pairs of samples, block by block: no matrix of all pairs is ever held.

Every block is at most `ROWS × ROWS`, so that memory does not depend on the number of samples; time does, by its square.
"""

import numpy as np

from keras_diffusion.metrics.features import row_blocks


def squared_distances(x, y):
    """|x_i − y_j|² for all pairs, block by block.

    Args:
        x: `(N, width)`.
        y: `(M, width)`.

    Yields:
        (rows, columns, float64 block): two slices, and the squared distances of these samples, ≥ 0.
    """
    middle = y.mean(axis=0, dtype="float64")  # |x|² − 2x·y + |y|² loses fewer digits near the origin
    for rows in row_blocks(len(x)):
        own = x[rows] - middle
        squares = np.sum(own**2, axis=1)
        for columns in row_blocks(len(y)):
            other = y[columns] - middle
            block = own @ other.T
            block *= -2.0
            block += squares[:, None]
            block += np.sum(other**2, axis=1)
            yield rows, columns, np.maximum(block, 0.0, out=block)


def own_kernel_sums(x, kernel):
    """Σ_{j ≠ i} k(x_i, x_j) for every i.

    Args:
        x: `(N, width)`.
        kernel: function from two float64 blocks `(n, width)`, `(m, width)` to an array `(n, m)` of its own; symmetric.

    Returns:
        float64 `(N,)`.
    """
    sums = np.zeros(len(x))
    for rows in row_blocks(len(x)):
        first = x[rows].astype("float64")
        block = kernel(first, first)
        np.fill_diagonal(block, 0.0)
        sums[rows] += block.sum(axis=1)
        for later in row_blocks(len(x) - rows.stop):
            columns = slice(rows.stop + later.start, rows.stop + later.stop)
            block = kernel(first, x[columns].astype("float64"))
            sums[rows] += block.sum(axis=1)
            sums[columns] += block.sum(axis=0)
    return sums


def cross_kernel_sums(x, y, kernel):
    """(Σ_j k(x_i, y_j) for every i, Σ_i k(x_i, y_j) for every j).

    Args:
        x: `(N, width)`.
        y: `(M, width)`.
        kernel: as in `own_kernel_sums`.

    Returns:
        float64 `(N,)` and `(M,)`.
    """
    of_x, of_y = np.zeros(len(x)), np.zeros(len(y))
    for rows in row_blocks(len(x)):
        first = x[rows].astype("float64")
        for columns in row_blocks(len(y)):
            block = kernel(first, y[columns].astype("float64"))
            of_x[rows] += block.sum(axis=1)
            of_y[columns] += block.sum(axis=0)
    return of_x, of_y
