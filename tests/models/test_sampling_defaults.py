"""DiffusionModel(sampling_defaults=…): what `generate` does unless told otherwise, and what files keep of it."""

import functools

import numpy as np
import pytest

import keras_diffusion as kd
from keras_diffusion.guidance import DynamicThreshold, StaticThreshold

pytestmark = pytest.mark.slow  # what `generate` is told does not depend on the backend

THRESHOLD = {"name": "static_threshold", "limit": 0.3}
OWN = {"sampler": {"name": "ddpm", "variance": "fixed_large"}, "guidance": THRESHOLD, "spacing": "quadratic"}


def generate(model, **options):
    return model.generate(conditions={"labels": [0, 1, 2]}, num_steps=4, seed=0, verbose=0, **options)


@pytest.fixture
def models(make_model):
    """The same weights, without and with a way of their own."""
    plain, own = make_model(optimizer=None), make_model(optimizer=None, sampling_defaults=OWN)
    for model in (plain, own):
        for variable in model.network.trainable_variables[-2:]:
            variable.assign(np.random.default_rng(0).standard_normal(variable.shape))
        model.average.network.set_weights(model.network.get_weights())
    return plain, own


def test_they_are_what_is_not_told(models):
    plain, own = models
    told = {
        "sampler": OWN["sampler"],
        "spacing": "quadratic",
        "guidance": functools.partial(StaticThreshold, limit=0.3),
    }
    expected = generate(plain, **told)
    assert np.abs(expected).max() <= 0.3 < np.abs(generate(plain)).max()
    np.testing.assert_array_equal(generate(own), expected)
    np.testing.assert_array_equal(generate(own, **told), expected)
    # Each of them may be told alone.
    np.testing.assert_array_equal(generate(own, sampler="heun"), generate(plain, **{**told, "sampler": "heun"}))
    np.testing.assert_array_equal(generate(own, spacing="linspace"), generate(plain, **{**told, "spacing": "linspace"}))
    np.testing.assert_array_equal(generate(own, guidance="none"), generate(plain, **{**told, "guidance": None}))
    np.testing.assert_array_equal(generate(own, guidance=[]), generate(own, guidance="none"))
    np.testing.assert_array_equal(generate(own, clip=False), generate(own, guidance="none"))
    # A model without them does what it always did.
    np.testing.assert_array_equal(generate(plain), generate(plain, sampler="dpmpp_2m"))


def test_thresholds_compose_with_guidance(models):
    plain, own = models
    expected = generate(plain, guidance=["rescale", THRESHOLD], guidance_scale=3.0, sampler="ddim", spacing="linspace")
    told = {"guidance_scale": 3.0, "sampler": "ddim", "spacing": "linspace"}
    np.testing.assert_array_equal(generate(own, guidance="rescale", **told), expected)
    np.testing.assert_array_equal(
        generate(own, guidance=["rescale", functools.partial(StaticThreshold, limit=0.3)], **told), expected
    )
    free = generate(own, guidance=["rescale", "none"], **told)
    assert np.abs(free).max() > 0.3 >= np.abs(expected).max()
    np.testing.assert_array_equal(free, generate(plain, guidance="rescale", **told))
    dynamic = generate(own, guidance={"name": "dynamic_threshold", "quantile": 0.9}, **told)
    np.testing.assert_array_equal(
        dynamic, generate(plain, guidance=functools.partial(DynamicThreshold, quantile=0.9), **told)
    )


def test_a_combination_of_its_own_acts_where_there_is_a_scale(make_model):
    model = make_model(optimizer=None, sampling_defaults={"guidance": ["rescale", "static_threshold"]})
    np.testing.assert_array_equal(
        generate(model, guidance_scale=2.0), generate(model, guidance_scale=2.0, guidance="rescale")
    )
    assert generate(model).shape == (3, 2)


def test_named_thresholds_are_one_program(models):
    _, model = models
    for _ in range(2):
        generate(model)
        generate(model, guidance=dict(THRESHOLD))
    assert len(model.programs) == 1  # the model's own and the equal one


def test_inversion_goes_back_on_the_grid_that_generate_takes(models):
    plain, own = models
    samples = np.full((2, 2), 0.5, "float32")
    conditions = {"labels": [0, 1]}
    expected = plain.invert(samples, conditions, num_steps=4, spacing="quadratic")
    np.testing.assert_array_equal(own.invert(samples, conditions, num_steps=4), expected)
    assert np.abs(plain.invert(samples, conditions, num_steps=4) - expected).max() > 1e-4


def test_files_keep_them(models, tmp_path):
    _, model = models
    assert model.sampling_defaults == OWN
    model.save_to_preset(tmp_path / "preset")
    model.save(tmp_path / "model.keras")
    for path in (tmp_path / "preset", tmp_path / "model.keras"):
        loaded = kd.checkpoints.load(path, verbose=0)
        assert loaded.sampling == OWN
        again = loaded.diffusion_model()
        assert again.sampling_defaults == OWN
        np.testing.assert_allclose(generate(again), generate(model), atol=1e-6)
    plain = {key: value for key, value in model.get_config().items() if key != "sampling_defaults"}  # files of before
    assert kd.DiffusionModel.from_config(plain).sampling_defaults == {}


@pytest.mark.parametrize(
    ("defaults", "match"),
    [
        ({"steps": 3}, "some of the keys sampler, spacing, guidance. Received: .*steps"),
        ("ddim", "some of the keys .* Received: .*'ddim'"),
        ({"sampler": "ddmi"}, "Unknown sampler: 'ddmi'"),
        ({"sampler": "ddim_inversion"}, "made walking down"),
        ({"spacing": "even"}, "Unknown spacing"),
        ({"guidance": "clip"}, "Unknown guidance: 'clip'. Known names: .*rescale.*static_threshold.*none"),
        ({"guidance": {"name": "static_threshold", "quantile": 0.9}}, "no option 'quantile'"),
        ({"guidance": {"name": "static_threshold", "limit": -1.0}}, "must be positive"),
        ({"guidance": StaticThreshold}, "names and dicts with options. Received: guidance=.*StaticThreshold"),
    ],
)
def test_what_makes_no_sense_is_refused(make_model, defaults, match):
    with pytest.raises(ValueError, match=match):
        make_model(optimizer=None, sampling_defaults=defaults)
