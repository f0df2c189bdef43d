"""Predictors that say nothing where a schedule has no signal are refused; samples that are not finite are never
pictures.
"""

import numpy as np
import pytest

import keras_diffusion as kd
from keras_diffusion import predictors, schedulers
from keras_diffusion.models.pairing import check_pair
from keras_diffusion.predictors.predictor import PREDICTORS
from keras_diffusion.schedulers.noise_schedule import SCHEDULES

pytestmark = pytest.mark.slow  # options and their checks, on any backend

ENDS_IN_NOISE = {"cosine", "cosine_offset", "flow", "laplace", "sigmoid", "sqrt"}


@pytest.mark.parametrize("name", [name for name in SCHEDULES.names() if name != "discrete"])
def test_every_pair(name):
    made = [(schedulers.get(name), name in ENDS_IN_NOISE)]
    if hasattr(made[0][0], "zero_terminal_snr"):
        made.append((schedulers.get(name, timesteps=50, zero_terminal_snr=True), True))
    for schedule, ends_in_noise in made:
        assert (float(schedule.levels(1.0).alpha) == 0) == ends_in_noise
        for predictor in PREDICTORS.names():
            if ends_in_noise and predictor == "epsilon":
                with pytest.raises(ValueError, match=r"predictor='v', 'x0' or 'velocity'\. Or "):
                    check_pair(schedule, predictors.get(predictor))
            else:
                check_pair(schedule, predictors.get(predictor))


@pytest.mark.parametrize(
    ("schedule", "remedy"),
    [
        ("flow", "such as 'linear'"),
        ("cosine", "'log_snr_min': -15"),
        ({"name": "scaled_linear", "zero_terminal_snr": True}, "zero_terminal_snr=False"),
        ({"name": "cosine_beta", "max_beta": 1.0}, "max_beta=0.999"),
        ({"name": "discrete", "betas": [0.1, 0.2, 1.0]}, "such as 'linear'"),
    ],
)
def test_models_and_configs_that_are_refused(schedule, remedy):
    network = kd.networks.MLP((2,), width=4, depth=1)
    with pytest.raises(ValueError, match=remedy):
        kd.DiffusionModel(network, schedule, "epsilon")
    config = kd.DiffusionModel(network, schedule, "v").get_config()
    config["predictor"] = kd.DiffusionModel(network, "linear", "epsilon").get_config()["predictor"]
    with pytest.raises(ValueError, match="no signal"):
        kd.DiffusionModel.from_config(config)


def test_the_remedies_work():
    network = kd.networks.MLP((2,), width=4, depth=1)
    for schedule, predictor in ((("cosine"), "v"), ({"name": "cosine", "log_snr_min": -15}, "epsilon"), ("flow", "x0")):
        model = kd.DiffusionModel(network, schedule, predictor)
        assert np.isfinite(model.generate(2, num_steps=2, seed=0)).all()


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_samples_that_are_not_finite_are_an_error(dtype):
    network = kd.networks.UNet((4, 4, 1), widths=(8,), num_res_blocks=1, attention=False)
    model = kd.DiffusionModel(network, seed=0)
    network.weights[-1].assign(np.full(network.weights[-1].shape, np.nan, "float32"))
    with pytest.raises(FloatingPointError, match=r"in 3 of 3, first in sample 0.*1 of \d+ weights hold NaN"):
        model.generate(3, num_steps=2, seed=0, dtype=dtype)
