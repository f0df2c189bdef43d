"""What a prompt shows of schedules, spacings, predictors, weightings, time distributions, samplers and denoisers: the
class and the arguments that differ from their defaults.
"""

import numpy as np
import pytest

import keras_diffusion as kd
from keras_diffusion.guidance.pair import GUIDANCES
from keras_diffusion.predictors.predictor import PREDICTORS
from keras_diffusion.samplers.sampler import SAMPLERS
from keras_diffusion.schedulers.noise_schedule import SCHEDULES
from keras_diffusion.schedulers.time_spacing import SPACINGS
from keras_diffusion.training.loss_weighting import LOSS_WEIGHTINGS
from keras_diffusion.training.time_distribution import TIME_DISTRIBUTIONS

POINT = kd.denoisers.MixtureDenoiser([1.0], [[0.0]], [1.0])
SHOWN = [
    (kd.samplers.DPMppSampler(order=3), "DPMppSampler(order=3)"),
    (kd.samplers.get("flow_euler"), "EulerSampler(coordinate='flow')"),
    (kd.samplers.DDPMSampler(), "DDPMSampler()"),
    (kd.samplers.RePaintSampler({"name": "ddim", "eta": 0.5}), "RePaintSampler(sampler=DDIMSampler(eta=0.5))"),
    (kd.samplers.UniPCSampler(disable_corrector=[0, 1]), "UniPCSampler(disable_corrector=(0, 1))"),
    (kd.schedulers.CosineNoiseSchedule(shift=2.0), "CosineNoiseSchedule(shift=2.0)"),
    (kd.schedulers.get("flow", spacing="karras"), "FlowNoiseSchedule(spacing='karras')"),
    (kd.schedulers.LinearNoiseSchedule(100), "LinearNoiseSchedule(timesteps=100)"),
    (kd.schedulers.CosineBetaNoiseSchedule(), "CosineBetaNoiseSchedule()"),
    (kd.schedulers.KarrasSpacing(rho=5.0), "KarrasSpacing(rho=5.0)"),
    (kd.predictors.EDMPredictor(1.0), "EDMPredictor(sigma_data=1.0)"),
    (kd.training.MinSNRWeighting(), "MinSNRWeighting()"),
    (kd.training.LogNormalSigma(mean=0.5), "LogNormalSigma(mean=0.5)"),
    (kd.guidance.StaticThreshold(POINT, limit=2.0), f"StaticThreshold({POINT!r}, limit=2.0)"),
    (kd.guidance.PerturbedAttention(POINT, scale=3.0), f"PerturbedAttention({POINT!r}, 3.0)"),
    (
        kd.guidance.RescaledGuidance(POINT, POINT, 2.0, interval=(0, 5)),
        f"RescaledGuidance({POINT!r}, {POINT!r}, 2.0, interval=(0.0, 5.0))",
    ),
    (POINT, "MixtureDenoiser(array([1.]), array([[0.]]), array([1.]))"),
]
BY_NAME = [
    (registry, name)
    for registry in (SCHEDULES, SPACINGS, PREDICTORS, LOSS_WEIGHTINGS, TIME_DISTRIBUTIONS, SAMPLERS, GUIDANCES)
    for name in registry.names()
]


@pytest.mark.parametrize(("value", "text"), SHOWN, ids=[text.partition("(")[0] for _, text in SHOWN])
def test_class_and_arguments_that_are_not_defaults(value, text):
    assert repr(value) == text


@pytest.mark.parametrize(("registry", "name"), BY_NAME, ids=lambda value: getattr(value, "kind", value))
def test_what_a_name_makes_shows_what_differs_from_the_class(registry, name):
    required = {"betas": [0.1, 0.2]} if (registry, name) == (SCHEDULES, "discrete") else {}
    required |= {"conditional": POINT, "unconditional": POINT, "scale": 1.5} if registry is GUIDANCES else {}
    made = registry.get(name, **required)
    cls, options = type(made), registry.options(name)
    differ = [key for key, default in registry.parameters(cls).items() if options[key] != default and key in options]
    text = repr(made)
    assert text.startswith(f"{cls.__name__}(") and text.count("=") == len(differ), text
    assert all(f"{key}=" in text for key in differ)


def test_data_show_how_many_samples_and_what_differs():
    arrays = {"images": np.zeros((12, 4, 4, 1), "float32"), "labels": np.arange(12) % 3}
    batches = kd.data.Batches(arrays, 4, shuffle=False)
    assert repr(batches) == "Batches(<ArraySource: 12 samples of 3 classes>, batch_size=4, shuffle=False)"
    assert repr(kd.data.Subset(batches.source, [0, 1])) == "<Subset: 2 samples of 3 classes>"
