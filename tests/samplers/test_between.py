"""Levels between the levels of a grid lie on the scale of the grid, whatever the schedule and
wherever the grid ends.
"""

import numpy as np
import pytest

from keras_diffusion import samplers, schedulers
from keras_diffusion.core.levels import Levels
from keras_diffusion.samplers.sampler import SAMPLERS
from keras_diffusion.schedulers.noise_schedule import NoiseSchedule

DOWN = [name for name in SAMPLERS.names() if not samplers.get(name).ascends]


class BentNoiseSchedule(NoiseSchedule):
    """α = 1 − t²/2, σ = 2t: neither variance preserving nor exploding, nor a flow."""

    def alpha_sigma(self, t, xp):
        return 1.0 - t**2 / 2.0, 2.0 * t


def levels_in(table):
    """All `Levels` of a plan."""
    if isinstance(table, Levels):
        return [table]
    parts = table.values() if isinstance(table, dict) else table
    return [level for part in parts for level in levels_in(part)] if isinstance(table, (dict, tuple)) else []


@pytest.mark.parametrize("name", DOWN)
@pytest.mark.parametrize("end", [0.0, 0.05])
def test_any_schedule_can_be_walked_down_if_it_is_given(name, end):
    schedule = BentNoiseSchedule()
    levels = schedule.levels(np.linspace(0.95, end, 9))
    for level in levels_in(samplers.get(name).table(levels, schedule)):
        noisy = level.sigma > 0
        t = schedule.time(level.log_snr[noisy])
        np.testing.assert_allclose(level.alpha[noisy], schedule.levels(t).alpha, rtol=1e-6)


@pytest.mark.parametrize("name", DOWN)
@pytest.mark.parametrize("end", [0.0, 0.02])
@pytest.mark.parametrize("schedule", ["cosine", "flow", "linear"])
def test_a_grid_at_alpha_1_stays_there(name, end, schedule):
    schedule = schedulers.get(schedule)
    levels = schedule.levels(np.linspace(0.9, end, 9))
    if end == 0.0:
        levels.alpha[-1], levels.sigma[-1] = 1.0, 0.0
    scaled = Levels(levels.t, np.ones(9), levels.sigma / levels.alpha)
    table, own = (samplers.get(name).table(grid, schedule) for grid in (scaled, levels))
    assert all(np.allclose(level.alpha, 1.0, rtol=0, atol=1e-12) for level in levels_in(table))
    for ours, theirs in zip(levels_in(table), levels_in(own), strict=True):
        np.testing.assert_allclose(ours.sigma * theirs.alpha, theirs.sigma, rtol=1e-9)
    if "curve_log_alpha" in table:
        np.testing.assert_allclose(table["curve_log_alpha"], 0.0, atol=1e-12)


@pytest.mark.parametrize("end", [0.0, 0.05])
def test_churn_goes_past_the_end_of_any_schedule(end):
    schedule = BentNoiseSchedule()
    levels = schedule.levels(np.linspace(1.0, end, 9))
    first = samplers.get("edm", s_churn=4.0, s_tmax=100.0).table(levels, schedule)["stages"][0]
    assert first.t[0] == 1.0 and first.sigma[0] / first.alpha[0] == pytest.approx(4.0 * (1 + min(4.0 / 8, 2**0.5 - 1)))


def test_a_grid_off_every_curve_names_the_remedy():
    levels = BentNoiseSchedule().levels(np.linspace(0.95, 0.0, 9))
    with pytest.raises(
        ValueError, match=r"Pass the schedule that they were made with: sample\(\.\.\., schedule=schedule\)"
    ):
        samplers.get("dpm_2").table(levels, None)
    with pytest.raises(ValueError, match=r"do not lie on the schedule CosineNoiseSchedule either"):
        samplers.get("dpm_2").table(levels, schedulers.get("cosine"))
