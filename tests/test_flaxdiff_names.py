"""Words that users of FlaxDiff know are found here, and unknown words are answered with the known ones."""

import pytest

from keras_diffusion import predictors, samplers, schedulers, training

NAMES = {
    schedulers.get: {
        "LinearNoiseSchedule": "LinearNoiseSchedule",
        "CosineNoiseScheduler": "CosineBetaNoiseSchedule",
        "CosineBetaNoiseSchedule": "CosineBetaNoiseSchedule",
        "ExpNoiseSchedule": "ExpNoiseSchedule",
        "CosineContinuousNoiseScheduler": "CosineNoiseSchedule",
        "CosineGeneralNoiseScheduler": "CosineNoiseSchedule",
        "SqrtContinuousNoiseScheduler": "SqrtNoiseSchedule",
        "KarrasVENoiseScheduler": "VarianceExplodingNoiseSchedule",
        "EDMNoiseScheduler": "VarianceExplodingNoiseSchedule",
        "SimpleExpNoiseScheduler": "VarianceExplodingNoiseSchedule",
    },
    schedulers.get_spacing: {"KarrasSpacing": "KarrasSpacing"},
    training.get_time_distribution: {"LogNormalSigma": "LogNormalSigma"},
    predictors.get: {
        "EpsilonPredictor": "EpsilonPredictor",
        "EpsilonPredictionTransform": "EpsilonPredictor",
        "X0Predictor": "X0Predictor",
        "DirectPredictionTransform": "X0Predictor",
        "VPredictor": "VPredictor",
        "VPredictionTransform": "VPredictor",
        "KarrasEDMPredictor": "EDMPredictor",
        "KarrasPredictionTransform": "EDMPredictor",
        "EDMPredictor": "EDMPredictor",
    },
    samplers.get: {
        "DDPMSampler": "DDPMSampler",
        "SimpleDDPMSampler": "DDPMSampler",
        "DDIMSampler": "DDIMSampler",
        "EulerSampler": "EulerSampler",
        "SimplifiedEulerSampler": "EulerSampler",
        "EulerAncestralSampler": "EulerAncestralSampler",
        "HeunSampler": "HeunSampler",
        "RK4Sampler": "RK4Sampler",
        "MultiStepDPM": "DPMppSampler",
    },
}


@pytest.mark.parametrize(
    ("get", "name", "expected"), [(get, *pair) for get, names in NAMES.items() for pair in names.items()]
)
def test_flaxdiffs_names_resolve(get, name, expected):
    assert type(get(name)).__name__ == expected


def test_cosine_general_has_flaxdiffs_range():
    levels = schedulers.get("CosineGeneralNoiseScheduler").levels([0.0, 1.0])
    assert levels.sigma / levels.alpha == pytest.approx([0.02, 80])


@pytest.mark.parametrize(
    ("get", "kind", "known"),
    [
        (schedulers.get, "noise schedule", "cosine, .*flow, .*linear"),
        (schedulers.get_spacing, "spacing", ".*exponential, karras, .*trailing"),
        (predictors.get, "predictor", "edm, epsilon, v, velocity, x0"),
        (samplers.get, "sampler", ".*ddim, .*ddpm, .*euler, .*rk4"),
        (training.get_time_distribution, "time distribution", "discrete, log_normal_sigma, logit_normal, uniform"),
        (training.get_loss_weighting, "loss weighting", "edm, min_snr, .*none, .*snr"),
    ],
)
def test_unknown_names_are_answered_with_the_known_ones(get, kind, known):
    with pytest.raises(ValueError, match=f"Unknown {kind}: 'nonsense'. Known names: {known}"):
        get("nonsense")
    with pytest.raises(ValueError, match=f"Expected a {kind}: a name, a dict or an object. Received: 3 of type int"):
        get(3)


@pytest.mark.parametrize("name", ["EpsilonPredictor", "ddim", "cosine"])
def test_objects_of_another_room_are_refused(name):
    rooms = {"EpsilonPredictor": predictors, "ddim": samplers, "cosine": schedulers}
    value = rooms[name].get(name)
    for room in (predictors, samplers, schedulers):
        if room is not rooms[name]:
            with pytest.raises(ValueError, match="Expected a .*: a name, a dict or an object. Received:"):
                room.get(value)
