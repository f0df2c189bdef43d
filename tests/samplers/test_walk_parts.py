"""Walks in parts: stopped at a level and taken up again, with the history of a multistep method or without one."""

import numpy as np
import pytest
from golden_data import array, mixture, tensor, tolerance

from keras_diffusion import samplers, schedulers
from keras_diffusion.core.levels import Levels
from keras_diffusion.samplers import Walk

SCHEDULE = schedulers.get("vp")
LEVELS = SCHEDULE.levels(schedulers.get_spacing("linspace")(SCHEDULE, 6, start=0.8))
X = np.random.default_rng(0).standard_normal((2, 2))
NAMES = ["dpmpp_2m", "lms", "unipc", "heun", "dpm_singlestep", {"name": "ddim", "eta": 1.0}]


def noise_for(sampler):
    rows = sampler.step_ends(LEVELS)[-1] + 1
    return np.random.default_rng(1).standard_normal((rows, max(1, sampler.noises_per_step), *X.shape))


@pytest.mark.parametrize("name", NAMES, ids=str)
def test_two_parts_are_the_whole(name):
    sampler = samplers.get(name)
    options = {"noise": noise_for(sampler), "schedule": SCHEDULE}
    whole, path = sampler.sample(X, mixture("gmm2"), LEVELS, trajectory=True, **options)
    walk, first = sampler.sample(X, mixture("gmm2"), LEVELS, stop=2, return_walk=True, trajectory=True, **options)
    end, second = sampler.sample(walk, mixture("gmm2"), LEVELS, start=2, trajectory=True, **options)
    np.testing.assert_allclose(array(end), array(whole), atol=tolerance(1e-6, 1e-12))
    np.testing.assert_allclose(np.concatenate([array(first), array(second)]), array(path), atol=tolerance(1e-6, 1e-12))


def test_samples_alone_start_as_on_a_grid_of_their_own():
    sampler, rest = samplers.get("dpmpp_2m"), LEVELS.map(lambda v: v[3:])
    half_way, alone = (sampler.sample(X, mixture("gmm2"), *given) for given in ((LEVELS,), (rest,)))
    entered = sampler.sample(X, mixture("gmm2"), LEVELS, start=3)
    np.testing.assert_array_equal(array(entered), array(alone))
    assert np.abs(array(half_way) - array(alone)).max() > 1e-3


def test_a_history_made_by_hand_is_taken_up():
    """ε of the levels before, as a user of another library has stored them, newest first."""
    sampler, denoise, x, history = samplers.get("lms", order=3), mixture("gmm2"), tensor(X), []
    for i in range(3):
        eps = denoise(x, LEVELS.map(lambda v, i=i: tensor(v[i]))).eps
        x = sampler.sample(
            Walk(x, tuple(history[:2]) + (0 * x,) * (2 - len(history[:2])), ()), denoise, LEVELS, start=i, stop=i + 1
        )
        history.insert(0, eps)
    whole = sampler.sample(X, denoise, LEVELS)
    end = sampler.sample(Walk(x, tuple(history[:2]), ()), denoise, LEVELS, start=3)
    np.testing.assert_allclose(array(end), array(whole), atol=tolerance(1e-5, 1e-12))


@pytest.mark.parametrize(("start", "stop"), [(3, 3), (-1, None), (0, 7), (0, 2.0), (True, None)])
def test_parts_that_are_none(start, stop):
    with pytest.raises(ValueError, match=r"integers with 0 <= start < stop <= 6\. Received: start="):
        samplers.get("ddim").sample(X, mixture("gmm2"), LEVELS, start=start, stop=stop)


def test_adaptive_samplers_do_not_stop_between():
    with pytest.raises(
        ValueError, match=r"An adaptive sampler does not stop at the levels of its grid\. Received: start=0, stop=2"
    ):
        samplers.get("dpm_adaptive").sample(X, mixture("gmm2"), LEVELS, stop=2)


def test_levels_at_unit_alpha_and_with_a_clean_end():
    levels = SCHEDULE.levels([1.0, 0.5, 0.1])
    scaled = levels.at_unit_alpha()
    np.testing.assert_array_equal(scaled.alpha, 1.0)
    np.testing.assert_allclose(scaled.log_snr, levels.log_snr)
    assert np.isinf(Levels(np.ones(1), np.zeros(1), np.ones(1)).at_unit_alpha().sigma).all()
    ended = scaled.with_clean_end()
    assert [field[-1] for field in ended] == [0.0, 1.0, 0.0] and len(ended.t) == 4
    with pytest.raises(
        ValueError, match="Only the last level of a grid may be clean, and this grid's last one already is"
    ):
        ended.with_clean_end()
