"""Interpolation between noises.

Halfway between two noises z_a and z_b, (z_a + z_b)/2 has a variance of ½. A model trained on variance 1 turns that into
flat images. On the great circle through both,

    z = sin((1 − w)·θ)/sin θ·z_a + sin(w·θ)/sin θ·z_b,      cos θ = ⟨z_a, z_b⟩/(|z_a|·|z_b|)

the norm is kept: in many dimensions, two noises are nearly orthogonal, and the squares of the weights add up to 1.

Reference: Shoemake 1985, "Animating rotation with quaternion curves"; for latent spaces: White 2016, arXiv:1609.04468.
"""

import numpy as np

from keras_diffusion.configs.checks import check_whole
from keras_diffusion.core.noise import initial_noise


def slerp(start, end, weights):
    """Spherical linear interpolation between two arrays.

    The direction follows the great circle, the norm changes linearly. For parallel arrays only the norm changes; for
    antipodal ones, which have no shortest great circle, the same one is always chosen.

    Args:
        start, end: arrays of one shape.
        weights: number or array `(n,)`: 0 is `start`, 1 is `end`, both exactly.

    Returns:
        array shaped like `start`, or `(n, *start.shape)`, of `start`'s type.

    Raises:
        ValueError: different shapes, an array of zeros, or antipodal arrays of one element, which have no circle.

    Example:

    >>> slerp(a, b, np.linspace(0, 1, 9))     # 9 arrays from a to b
    """
    a, b, w = (np.asarray(v, "float64") for v in (start, end, weights))
    norms = np.linalg.norm(a), np.linalg.norm(b)
    if a.shape != b.shape or not all(norms):
        raise ValueError(
            "Arrays of one shape that are not all 0 have a great circle. Received: "
            f"shapes {a.shape}, {b.shape}, norms {norms}"
        )
    u, v = a.ravel() / norms[0], b.ravel() / norms[1]
    across = v - (u @ v) * u
    if np.linalg.norm(across) < 1e-9 and u @ v < 0:
        if u.size == 1:
            raise ValueError(f"Between x and −x of one element there is no circle. Received: start={a}, end={b}")
        axis = np.zeros_like(u)
        axis[np.argmin(np.abs(u))] = 1.0
        across = axis - (u @ axis) * u
    angle = np.arctan2(np.linalg.norm(v - (u @ v) * u), u @ v)
    across = across / max(np.linalg.norm(across), 1e-300)
    w = w.reshape(-1, 1)
    points = ((1 - w) * norms[0] + w * norms[1]) * (np.cos(w * angle) * u + np.sin(w * angle) * across)
    points = np.where(w == 0, a.ravel(), np.where(w == 1, b.ravel(), points))
    return points.reshape(*np.shape(weights), *a.shape).astype(np.asarray(start).dtype)


def interpolate_noise(seed, other_seed, num, sample_shape, index=0):
    """Noises from one seed's to another's, for `generate(latents=...)`.

    Args:
        seed, other_seed: ints ≥ 0.
        num: number of noises n ≥ 2, the two ends included.
        sample_shape: shape of one sample, such as `model.sample_shape`.
        index: which sample of the seeds. Default 0, the first.

    Returns:
        float32 array `(n, *sample_shape)`. Its first and last rows are what `generate(seed=...)` starts sample `index`
        from.

    Raises:
        ValueError: fewer than two noises.

    Example:

    >>> latents = interpolate_noise(1, 2, 9, model.sample_shape)
    >>> images = model.generate(latents=latents, sampler="ddim")
    """
    rule = "`num` counts noises, both ends included, and must be an integer of at least 2"
    num = check_whole("num", num, 2, rule=rule)
    ends = (initial_noise(s, [index], sample_shape)[0] for s in (seed, other_seed))
    return slerp(*ends, np.linspace(0.0, 1.0, num))
