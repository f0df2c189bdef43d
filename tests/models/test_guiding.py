"""generate(guidance=…): names, dicts, functions and lists of them."""

import functools

import keras
import numpy as np
import pytest
from keras import ops

import keras_diffusion as kd
from keras_diffusion.core.noise import initial_noise
from keras_diffusion.guidance import DynamicThreshold, RescaledGuidance, StaticThreshold
from keras_diffusion.models.guidance_argument import read_guidance
from keras_diffusion.models.sampling_levels import sampling_levels

LABELS = {"labels": [0, 1, 2]}
APG = {"name": "adaptive_projected", "eta": 0.2, "norm_threshold": 0.5, "momentum": -0.5}


@pytest.fixture
def model(make_model, blobs):
    model = make_model(ema=0.9)
    model.fit(blobs, batch_size=32, epochs=5, verbose=0)
    return model


def generate(model, guidance, guidance_scale=3.0, **options):
    return model.generate(
        conditions=LABELS, num_steps=4, seed=0, guidance_scale=guidance_scale, guidance=guidance, **options
    )


@pytest.mark.parametrize(
    ("guidance", "sampler"),
    [
        ({"name": "zero_star", "zero_init": 0.1}, "dpmpp_2m"),
        (
            [APG, functools.partial(DynamicThreshold, quantile=0.9), functools.partial(StaticThreshold, limit=0.7)],
            "heun",
        ),
    ],
    ids=["zero_star", "list"],
)
def test_compiled_equals_walking_by_hand(model, guidance, sampler):
    compiled = generate(model, guidance, sampler=sampler)
    levels = sampling_levels(model.noise_schedule, kd.schedulers.get_spacing("linspace"), 4)
    x = levels.sigma[0] * initial_noise(0, range(3), (2,))
    denoise = model.denoiser(LABELS, guidance_scale=3.0, guidance=guidance)
    by_hand = kd.samplers.get(sampler).sample(x, denoise, levels, schedule=model.noise_schedule)
    np.testing.assert_allclose(compiled, ops.convert_to_numpy(by_hand), atol=1e-4)
    np.testing.assert_array_equal(
        generate(model, guidance, sampler=sampler), compiled
    )  # nothing is remembered from walk to walk


@pytest.mark.slow
def test_the_default_is_classifier_free(model):
    np.testing.assert_array_equal(generate(model, "classifier_free"), generate(model, None))
    np.testing.assert_array_equal(generate(model, ["cfg"]), generate(model, None))
    assert np.abs(generate(model, RescaledGuidance) - generate(model, None)).max() > 1e-3
    np.testing.assert_array_equal(generate(model, RescaledGuidance), generate(model, "rescale"))


@pytest.mark.slow
def test_momentum_acts(model):
    assert np.abs(generate(model, APG) - generate(model, {**APG, "momentum": 0.0})).max() > 1e-3


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() == "torch", reason="torch runs eagerly: nothing is traced")
def test_other_numbers_are_not_traced_again(model):
    first = generate(model, APG)
    traces = model.programs.traces
    second = generate(model, {**APG, "eta": 0.9, "momentum": 0.3}, guidance_scale=5.0)
    assert model.programs.traces == traces and np.abs(second - first).max() > 1e-3
    fresh = kd.DiffusionModel.from_config(model.get_config())
    fresh.set_weights(model.get_weights())
    np.testing.assert_allclose(
        generate(fresh, {**APG, "eta": 0.9, "momentum": 0.3}, guidance_scale=5.0), second, atol=1e-5
    )


@pytest.mark.parametrize(
    ("guidance", "scale", "message"),
    [
        (
            "pag",
            3.0,
            "Unknown guidance: 'pag'. Known names: adaptive_projected, classifier_free, rescale, two_scales, zero_star",
        ),
        ({"name": "apg", "beta": 1.0}, 3.0, "has no option 'beta'"),
        ({"name": "rescale", "rescale": 2.0}, 3.0, "`rescale` is a share"),
        (
            {"name": "rescale", "scale": 2.0},
            3.0,
            "The model itself gives the two predictions and `guidance_scale`. Received: .* scale",
        ),
        (
            7,
            3.0,
            r"Guidance is a name, a dict with options, a function .* or a list of these. Received: guidance=7. Known "
            r"names: adapt",
        ),
        (["rescale", "apg"], 3.0, "once, and before anything is wrapped around the result. Received: .* Put it first"),
        (
            [StaticThreshold, "apg"],
            3.0,
            "once, and before anything is wrapped around the result. Received: .* Put it first",
        ),
        ("apg", 1.0, "At scale 1 .* is not guided. Received: guidance='apg', .* Give a `guidance_scale`"),
    ],
)
def test_bad_guidance(make_model, guidance, scale, message):
    with pytest.raises(ValueError, match=message):
        generate(make_model(), guidance, scale)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="torch runs eagerly: nothing is traced")
def test_functions_made_in_the_call_are_compiled_once(make_model):
    model = make_model(ema=None)
    makers = (
        lambda limit: functools.partial(StaticThreshold, limit=limit),
        lambda limit: lambda d: StaticThreshold(d, limit),
    )
    for make in makers:
        first = generate(model, make(0.5), 1.0)
        programs = len(model.programs)
        traces = model.programs.traces
        np.testing.assert_array_equal(generate(model, make(0.5), 1.0), first)
        assert len(model.programs) == programs
        assert model.programs.traces == traces
    assert np.abs(first).max() <= 0.5 and np.abs(generate(model, makers[0](1.0), 1.0)).max() > 0.5


def test_programs_are_few(make_model):
    model = make_model(ema=None)
    for limit in range(1, 40):
        model.programs.get(read_guidance(functools.partial(StaticThreshold, limit=float(limit)), 1.0).structure, object)
    assert len(model.programs) == 32


def test_a_function_that_gives_no_denoiser(make_model):
    with pytest.raises(ValueError, match="A function in `guidance` returns a denoiser. Received: None from"):
        generate(make_model(), lambda denoiser: None, 1.0)
