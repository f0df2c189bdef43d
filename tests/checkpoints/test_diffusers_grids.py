"""The grids of `scheduler_config.json` are diffusers' own: golden/diffusers_grids was made with it."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_diffusion import samplers, schedulers
from keras_diffusion.checkpoints.families.diffusers import read_sampling, read_schedule
from keras_diffusion.models.sampling_levels import sampling_levels

GRIDS = Path(__file__).parents[1] / "golden" / "diffusers_grids" / "grids.npz"


def cases():
    """Dict from a config, as text, to its list of (steps, timesteps, σ/α)."""
    stored, found, first = np.load(GRIDS), {}, 0
    columns = {key: stored[key].astype("float64") for key in ("timesteps", "sigmas")}
    for case in json.loads(str(stored["cases"])):
        rows = slice(first, first + case["evaluations"])
        first = rows.stop
        found.setdefault(json.dumps(case["config"]), []).append(
            (case["steps"], *(column[rows] for column in columns.values()))
        )
    return found


CASES = cases()


def config_of(text):
    config = json.loads(text)
    # A network that predicts ε cannot be told pure noise.
    return {**config, "prediction_type": "v_prediction"} if config.get("rescale_betas_zero_snr") else config


def test_every_class_is_there():
    names = {json.loads(text)["_class_name"] for text in CASES}
    from keras_diffusion.checkpoints.families.diffusers.scheduler_classes import CLASSES

    assert set(CLASSES) - names == {"FlowMatchLCMScheduler"}  # the grid of the Euler one
    assert sum(len(grids) for grids in CASES.values()) > 1300


@pytest.mark.parametrize("text", CASES)
def test_timesteps_and_sigmas(text):
    config = config_of(text)
    schedule, predictor, _ = read_schedule(config, "UNet2DModel")
    for steps, timesteps, sigmas in CASES[text]:
        if steps == 1 and config.get("sigma_schedule") == "exponential":
            continue  # theirs is at sigma_min alone
        levels = sampling_levels(schedule, schedulers.get_spacing(schedule.spacing), steps)
        with np.errstate(divide="ignore"):
            ratio = (levels.sigma / (1.0 if config["_class_name"].startswith("Flow") else levels.alpha))[:-1]
        told = _told(predictor, levels.map(lambda values: values[:-1]), config["_class_name"])
        np.testing.assert_allclose(ratio, sigmas, rtol=5e-6, err_msg=f"{steps} steps")
        np.testing.assert_allclose(told, timesteps, rtol=1e-6, atol=1e-3, err_msg=f"{steps} steps")
        assert levels.sigma[-1] == 0 and levels.alpha[-1] == 1


def _told(predictor, levels, name):
    """What the network is told, in float64 on the host."""
    if name.startswith("EDM"):
        return 0.25 * np.log(levels.sigma)
    return predictor.timesteps * levels.sigma if name.startswith("Flow") else predictor.timesteps * levels.t - 1.0


def test_a_walk_that_begins_half_way_keeps_to_its_start():
    for config in (
        {"_class_name": "EulerDiscreteScheduler"},
        {"_class_name": "UniPCMultistepScheduler", "use_karras_sigmas": True},
    ):
        schedule, _, _ = read_schedule(config, "UNet2DModel")
        spacing = schedulers.get_spacing(schedule.spacing)
        levels = spacing.levels(schedule, 5, start=0.5)
        assert levels.t[0] == 0.5 and len(levels.t) == 6
        np.testing.assert_allclose(levels.sigma[0], schedule.levels(0.5).sigma, rtol=1e-6)
        np.testing.assert_array_equal(spacing(schedule, 5, start=0.5), levels.t)
        assert (
            schedulers.get_spacing({"name": "diffusers", **spacing.get_config()}).get_config() == spacing.get_config()
        )


@pytest.mark.parametrize(
    ("options", "call", "match"),
    [
        ({"kind": "euler"}, {}, "`kind` is one of 'table', .* Received: kind='euler'"),
        ({"kind": "sigma", "curve": "lu"}, {}, "`curve` is one of .* Received: curve='lu'"),
        ({"kind": "flow"}, {"schedule": "linear"}, "one of flow matching. Received: a LinearNoiseSchedule"),
        ({"kind": "sigma"}, {"num_steps": 0}, "at least one step"),
        ({"kind": "solver"}, {"num_steps": 2000}, "do not fit on this grid"),
        ({"kind": "consistency"}, {"num_steps": 51}, "picks from 50 timesteps. Received: num_steps=51"),
    ],
)
def test_grids_that_cannot_be(options, call, match):
    with pytest.raises(ValueError, match=match):
        spacing = schedulers.get_spacing("diffusers", **options)
        spacing.levels(schedulers.get(call.get("schedule", "linear")), call.get("num_steps", 5))


@pytest.mark.parametrize(
    "config", [config_of(text) for text in list(CASES)[::20]], ids=lambda config: config["_class_name"]
)
def test_samplers_can_walk_them(config):
    schedule, _, _ = read_schedule(config, "UNet2DModel")
    sampler = samplers.get(read_sampling(config)["sampler"])
    for steps in (2, 5):
        table = sampler.table(
            sampling_levels(schedule, schedulers.get_spacing(schedule.spacing), steps), schedule, sampler.noise
        )
        assert all(np.isfinite(column).all() for column in keras.tree.flatten(table))
