"""How far one backend is from another.

    loss      max over the steps   |l − r| / |r|
    samples   max over all values  |x − r|                  samples of images lie in [−1, 1]
    layer     max over its values  |y − r| / max |r|

Values that are not finite, or missing, differ by infinity.
"""

import math

import numpy as np

#: A layer with a larger difference, relative to the largest of its outputs, computes something else.
LAYER_LIMIT = 1e-4


def losses(found, reference):
    """The largest relative difference of two lists of losses, and that of each step: (float, list)."""
    found, reference = np.asarray(found, "float64"), np.asarray(reference, "float64")
    steps = [_relative(a, b) for a, b in zip(found, reference, strict=True)]
    return max(steps), steps


def samples(found, reference):
    """The largest absolute difference of two arrays."""
    return _largest(np.abs(found.astype("float64") - reference))


def layers(found, reference):
    """Relative differences of the outputs of layers.

    Args:
        found, reference: dicts path → array, in the order of the forward pass.

    Returns:
        list of (path, float), in the reference's order. A layer that only one of the two has differs by infinity.
    """
    names = [*reference, *(name for name in found if name not in reference)]
    both = {name: name in found and name in reference and found[name].shape == reference[name].shape for name in names}
    return [(name, _relative(found[name], reference[name]) if both[name] else math.inf) for name in names]


def largest(differences):
    """The (path, float) with the largest difference; the first of equal ones."""
    return max(differences, key=lambda pair: pair[1])


def first_above(differences, limit=LAYER_LIMIT):
    """The first (path, float) above `limit`, or None."""
    return next((pair for pair in differences if pair[1] > limit), None)


def _relative(found, reference):
    found, reference = np.asarray(found, "float64"), np.asarray(reference, "float64")
    scale = np.abs(reference).max(initial=0.0)
    difference = _largest(np.abs(found - reference))
    if difference > 0:
        return difference / scale if scale > 0 else math.inf
    return difference


def _largest(values):
    largest = float(np.max(values, initial=0.0))
    return largest if math.isfinite(largest) else math.inf
