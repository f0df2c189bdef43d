"""RePaint: where it jumps, what it keeps, and that it comes nearer to the true conditional distribution than
replacement does.
"""

import compiled_sampling
import numpy as np
import pytest
from golden_data import array, mixture, tensor
from keras import ops

from keras_diffusion import samplers, schedulers
from keras_diffusion.core.broadcast import expand_to_rank
from keras_diffusion.denoisers import Denoiser
from keras_diffusion.denoisers.denoiser import with_x0
from keras_diffusion.guidance import ReplaceKnown, StaticThreshold

COVARIANCE = np.array([[1.0, 0.9], [0.9, 1.0]])
KNOWN = 1.5


class Correlated(Denoiser):
    """The exact denoiser of N(0, COVARIANCE)."""

    def __call__(self, x, level):
        x = ops.convert_to_tensor(x)
        values, vectors = np.linalg.eigh(COVARIANCE)
        along = x @ tensor(vectors)
        alpha, sigma = expand_to_rank(level.alpha, x), expand_to_rank(level.sigma, x)
        gain = alpha * tensor(values) / (alpha**2 * tensor(values) + sigma**2)
        return with_x0(x, (gain * along) @ tensor(vectors.T), level)


def grid(steps):
    schedule = schedulers.get("cosine")
    return schedule.levels(schedulers.get_spacing("linspace")(schedule, steps))


def filled_in(sampler, steps=50, n=2000):
    """The second coordinate of samples whose first one is known."""
    rng = np.random.default_rng(0)
    mask, known = np.array([[1.0, 0.0]]), np.full((1, 2), KNOWN)
    denoise = ReplaceKnown(Correlated(), tensor(known), tensor(mask))
    levels = grid(steps)
    rows = sampler.step_ends(levels)[-1] + 1
    noise = rng.standard_normal((rows, sampler.noises_per_step, n, 2))
    x = compiled_sampling.sample(sampler, rng.standard_normal((n, 2)), "correlated", denoise, levels, noise)[-1]
    np.testing.assert_allclose(x[:, 0], KNOWN, atol=1e-5)
    return x[:, 1]


def test_nearer_to_the_conditional_mean_than_replacement():
    """x₁ | x₀ = 1.5 of a Gaussian with correlation 0.9 is N(1.35, 0.436²). With 50 steps of DDPM, replacement gives
    mean 0.92 and standard deviation 0.589, RePaint with 10 resamplings 1.30 and 0.387."""
    true = 0.9 * KNOWN
    plain = filled_in(samplers.get("ddpm"))
    repainted = filled_in(samplers.get("repaint", jump_length=5, resamplings=10))
    assert abs(plain.mean() - true) > 0.3
    assert abs(repainted.mean() - true) < 0.25 * abs(plain.mean() - true)
    assert abs(repainted.std() - 0.436) < 0.5 * abs(plain.std() - 0.436)


def test_stops_and_jumps_are_the_papers():
    """Its schedule (appendix B): t counts noisy levels from the clean end; at t = 0, j, 2j … < T − j it jumps j steps
    back, r − 1 times.
    """
    steps, length, resamplings = 12, 3, 4
    t, expected, left = steps, [], {k: resamplings - 1 for k in range(0, steps - length, length)}
    while t >= 1:
        t -= 1
        expected.append(t)
        if left.get(t, 0) > 0:
            left[t] -= 1
            t += length
            expected.append(t)  # the jump, here at once
    walked = []
    sampler = samplers.get("repaint", sampler="ddim", jump_length=length, resamplings=resamplings)
    for _, places in sampler.pieces(grid(steps), None):
        walked += [steps - 1 - (places[0] - 1), *(steps - 1 - places)]
    expected.append(-1)
    assert [a for a, b in zip(walked, [None, *walked], strict=False) if a != b] == expected


def test_one_resampling_never_jumps():
    levels, x = grid(12), np.random.default_rng(0).standard_normal((4, 2))
    sampler = samplers.get("repaint", sampler="heun", resamplings=1, jump_length=2)
    one = compiled_sampling.sample(sampler, x, "gmm2", mixture("gmm2"), levels)
    other = compiled_sampling.sample(samplers.get("heun"), x, "gmm2", mixture("gmm2"), levels)
    np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("trajectory", [False, "both"])
def test_what_is_known_is_found_inside_further_wrappers(trajectory):
    mask, known = tensor([[1.0, 0.0]]), tensor([[0.5, 0.5]])
    denoise = StaticThreshold(ReplaceKnown(mixture("gmm2"), known, mask), 2.0)
    sampler = samplers.get("repaint", jump_length=2, resamplings=2)
    drawn, level = [], grid(4).map(lambda v: tensor(v[2]))

    def normal(draw):
        drawn.append(draw)
        return tensor(np.full((3, 2), 2.0))

    row = {"gain": 1.0, "added": 0.0, "starts": 1.0, "level": level}
    x = array(sampler.prepare(denoise, tensor(np.zeros((3, 2))), row, normal))
    np.testing.assert_allclose(x[:, 0], array(level.alpha) * 0.5 + array(level.sigma) * 2.0, rtol=1e-6)
    np.testing.assert_allclose(x[:, 1], 0.0)
    assert drawn == [1, 2]  # after the wrapped sampler's own
    result = sampler.sample(np.zeros((3, 2)), denoise, grid(6), seed=0, trajectory=trajectory)
    np.testing.assert_allclose(array(result[0] if trajectory else result)[:, 0], 0.5, atol=1e-5)


@pytest.mark.parametrize("name", ["jump_length", "resamplings"])
@pytest.mark.parametrize("value", [0, 1.5, True])
def test_bad_options(name, value):
    with pytest.raises(
        ValueError,
        match=f"`{name}` counts steps or walks and must be an integer of at least 1. Received: {name}={value}",
    ):
        samplers.get("repaint", **{name: value})
