"""Guidance within thresholding within inpainting, with momentum carried from step to step by the compiled loop."""

import compiled_sampling
import numpy as np
import pytest
from golden_data import array, mixture, tensor, tolerance

from keras_diffusion import samplers, schedulers
from keras_diffusion.core.denoiser_memory import initial_memories
from keras_diffusion.denoisers import Denoiser
from keras_diffusion.guidance import AdaptiveProjectedGuidance, DynamicThreshold, MaskOperator, PiGDM, ReplaceKnown

SHAPE = (3, 4, 4, 3)
X, KNOWN = np.random.default_rng(0).standard_normal((2, *SHAPE))
MASK = np.zeros((1, 4, 4, 1))
MASK[:, :2] = 1.0


def composed(**options):
    options = {"eta": 0.2, "norm_threshold": 2.0, "momentum": -0.5, "interval": (0.05, 20.0), **options}
    guided = AdaptiveProjectedGuidance(mixture("gmmimg", 1), mixture("gmmimg"), 4.0, **options)
    return ReplaceKnown(DynamicThreshold(guided, 0.95), tensor(KNOWN), tensor(MASK)), guided


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["vp", "flow"])
@pytest.mark.parametrize("sampler", ["heun", "dpmpp_2m"])
def test_compiled_equals_a_walk_by_hand(sampler, schedule):
    (denoise, guided), sampler, schedule = composed(), samplers.get(sampler), schedulers.get(schedule)
    levels = schedule.levels(schedulers.get_spacing("linspace")(schedule, 6))
    walks = [array(sampler.sample(X, denoise, levels, schedule=schedule)) for _ in range(2)]
    np.testing.assert_array_equal(*walks)  # nothing is remembered from walk to walk
    compiled = compiled_sampling.sample(sampler, X, "composition", denoise, levels, schedule=schedule)[-1]
    np.testing.assert_allclose(compiled, walks[0], atol=tolerance(1e-4, 1e-10))
    np.testing.assert_allclose(compiled[:, :2], KNOWN[:, :2], atol=tolerance(1e-5, 1e-12))
    without = array(sampler.sample(X, composed(momentum=None)[0], levels, schedule=schedule))
    assert guided.memory is None and np.abs(without - walks[0])[:, 2:].max() > 1e-2


def test_momentum_in_the_loop_is_momentum_by_hand():
    """DDIM written out in NumPy, the running sum kept by hand."""

    class Recorded(Denoiser):
        """Another denoiser whose memory is a plain attribute."""

        def __init__(self, momentum):
            self.momentum, self.running = momentum, 0.0

        def __call__(self, x, level):
            c, u = (array(mixture("gmmimg", k)(x, level).x0) for k in (1, None))
            self.running = c - u + self.momentum * self.running
            return c + 3.0 * self.running

    levels = schedulers.get("cosine").levels(np.linspace(0.99, 0.0, 7))
    by_hand, x = Recorded(-0.5), X
    for i in range(6):
        (alpha, next_alpha), (sigma, next_sigma) = levels.alpha[i : i + 2], levels.sigma[i : i + 2]
        x0 = by_hand(tensor(x), levels.map(lambda v, i=i: v[i]))
        x = next_alpha * x0 + next_sigma * (x - alpha * x0) / sigma
    guided = AdaptiveProjectedGuidance(mixture("gmmimg", 1), mixture("gmmimg"), 4.0, eta=1.0, momentum=-0.5)
    steps = compiled_sampling.sample(samplers.get("ddim"), X, "momentum", guided, levels)
    np.testing.assert_allclose(steps[-1], x, atol=tolerance(1e-4, 1e-10) * np.abs(x).max())


def test_only_what_remembers_has_a_memory():
    (denoise, guided), x = composed(), tensor(X)
    assert guided in denoise.parts() and len(initial_memories(denoise, x)) == 1
    assert initial_memories(composed(momentum=None)[0], x) == ()
    assert len(initial_memories(PiGDM(denoise, KNOWN * MASK, MaskOperator(MASK)), x)) == 1
