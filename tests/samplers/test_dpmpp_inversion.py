"""DPM-Solver++ upwards: its orders, and how exactly DPM-Solver++ brings a sample back."""

import compiled_sampling
import numpy as np
import pytest
from test_sampler_orders import DENOISE, SCHEDULE, START, STEPS, exact_path, grid, slope

from keras_diffusion import samplers, schedulers


@pytest.mark.parametrize("order", [1, 2])
def test_order_of_convergence(order):
    sampler, errors = samplers.get("dpmpp_2m_inversion", order=order), []
    for n in STEPS[order]:
        levels = grid(n)
        end = exact_path(levels)[-1]
        errors.append(np.abs(compiled_sampling.sample(sampler, end, "orders", DENOISE, levels)[-1] - START).max())
    assert slope(STEPS[order], errors) == pytest.approx(order, abs=0.35)


def test_a_clean_sample_comes_back_better_with_more_steps():
    x, errors = np.array([[0.7, -0.4], [-0.6, 0.5]]), []
    for n in (10, 40):
        levels = SCHEDULE.levels(schedulers.get_spacing("karras")(SCHEDULE, n, end=0.0))
        noise = compiled_sampling.sample(samplers.get("dpmpp_2m_inversion"), x, "orders", DENOISE, levels)[-1]
        assert 0.2 < np.std(noise) < 3.0
        errors.append(
            np.abs(compiled_sampling.sample(samplers.get("dpmpp_2m"), noise, "orders", DENOISE, levels)[-1] - x).max()
        )
    assert errors[1] < 0.5 * errors[0] and errors[1] < 0.05


def test_rising_levels_are_the_falling_ones_from_their_end():
    levels = grid(5)
    up = levels.map(lambda v: v[::-1])
    sampler = samplers.get("dpmpp_2m_inversion")
    ours, same = (compiled_sampling.sample(sampler, START, "orders", DENOISE, given)[-1] for given in (levels, up))
    np.testing.assert_array_equal(ours, same)
