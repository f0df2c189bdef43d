"""Features as metrics take them: checked arrays `(N, width)`, read in blocks so that memory stays bounded."""

import keras
import numpy as np

from keras_diffusion.configs.checks import check_array

ROWS = 1024  # samples that are computed with at once


def check_features(name, value):
    """`value` as a NumPy array of features, float32 or float64.

    Args:
        name: of the argument, for messages.
        value: `(N, width)`, an array or a tensor of numbers, with N and width at least 1.

    Returns:
        array; the same one where it is float32 or float64 already.

    Raises:
        ValueError: another shape, no numbers, NaN or infinity (the message counts them).
    """
    if keras.ops.is_tensor(value):
        value = keras.ops.convert_to_numpy(value)
    array = check_array(name, value, finite=False)
    if array.ndim != 2 or not array.size:
        raise ValueError(
            f"Features are arrays (N, width), a row for each sample, with N and width at least 1. Received: {name} of "
            f"shape {array.shape}"
        )
    if array.dtype not in (np.float32, np.float64):
        array = array.astype("float64" if array.dtype.kind in "iub" else "float32")
    broken = sum(int((~np.isfinite(array[rows])).sum()) for rows in row_blocks(len(array)))
    if broken:
        raise ValueError(
            f"Features must be finite. Received: {name} of shape {array.shape} with {broken} NaN or infinite values. "
            "Look for samples that diverged, or for values beyond float16"
        )
    return array


def row_blocks(count, rows=ROWS):
    """Slices that cut `count` rows into blocks.

    Args:
        count: number of rows.
        rows: of a block; the last one may have fewer.

    Yields:
        slices.
    """
    for start in range(0, count, rows):
        yield slice(start, min(start + rows, count))


def wide_blocks(features, rows=ROWS):
    """Features in float64, block by block: arrays `(rows, width)` of their own, which may be written to."""
    for block in row_blocks(len(features), rows):
        yield features[block].astype("float64")
