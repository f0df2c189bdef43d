"""Inversion, and generation from given noise."""

import numpy as np
import pytest

import keras_diffusion as kd
from keras_diffusion.core.noise import initial_noise
from keras_diffusion.models import interpolate_noise

BETTER = {"name": "ddim_inversion", "iterations": 4}


@pytest.fixture
def model(make_model, blobs):
    model = make_model(ema=0.9)
    model.fit(blobs, batch_size=32, epochs=5, verbose=0)
    return model


def reconstruction_error(model, samples, labels, num_steps, sampler="ddim_inversion", **options):
    latents = model.invert(samples, {"labels": labels}, num_steps=num_steps, sampler=sampler, **options)
    back = model.generate(
        conditions={"labels": labels}, latents=latents, num_steps=num_steps, sampler="ddim", **options
    )
    return np.abs(back - samples).max()


def test_generate_makes_inverted_samples_again(model, blobs):
    samples, labels = blobs["images"][:6], blobs["labels"][:6]
    errors = [reconstruction_error(model, samples, labels, n) for n in (10, 40, 160)]
    assert errors[0] > 1.5 * errors[1] > 3 * errors[2] and errors[2] < 0.05
    assert reconstruction_error(model, samples, labels, 40, BETTER) < 1e-3
    assert reconstruction_error(model, samples, labels, 40, BETTER, spacing="quadratic") < 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["flow", "linear", "variance_exploding"])
def test_other_schedules(make_model, blobs, schedule):
    """Pure noise at the top, nearly pure noise, and data on top of much noise."""
    model = make_model(ema=None, noise_schedule=schedule, predictor="velocity" if schedule == "flow" else "v")
    model.fit(blobs, batch_size=32, epochs=2, verbose=0)
    assert reconstruction_error(model, blobs["images"][:6], blobs["labels"][:6], 50, BETTER) < 5e-3


@pytest.mark.slow
def test_batches_and_guidance(model, blobs):
    samples, labels = blobs["images"][:5], {"labels": blobs["labels"][:5]}
    whole = model.invert(samples, labels, num_steps=10)
    assert whole.shape == (5, 2) and whole.dtype == np.float32
    np.testing.assert_allclose(model.invert(samples, labels, num_steps=10, batch_size=2), whole, atol=1e-5)
    np.testing.assert_allclose(
        model.invert(samples[0], {"labels": labels["labels"][0]}, num_steps=10), whole[:1], atol=1e-5
    )
    assert np.abs(model.invert(samples, labels, num_steps=10, guidance_scale=2.0) - whole).max() > 1e-3
    assert np.abs(model.invert(samples, num_steps=10) - whole).max() > 1e-3


@pytest.mark.slow
def test_latents_take_the_place_of_the_seeds_noise(model):
    options = {"conditions": {"labels": [0, 1]}, "num_steps": 4, "sampler": "ddim"}
    latents = initial_noise(7, range(2), (2,))
    drawn = model.generate(seed=7, **options)
    np.testing.assert_array_equal(model.generate(latents=latents, seed=1, **options), drawn)
    np.testing.assert_allclose(model.generate(latents=latents, batch_size=1, **options), drawn, atol=1e-5)
    one = model.generate(latents=latents[0], **options)  # one for all
    np.testing.assert_allclose(one[0], drawn[0], atol=1e-5)
    image = np.full((1, 2), 0.3, "float32")
    np.testing.assert_array_equal(
        model.generate(latents=latents, init=image, strength=0.5, **options),
        model.generate(seed=7, init=image, strength=0.5, **options),
    )
    assert len(model.generate(latents=latents, num_steps=2)) == 2  # as many samples as latents


@pytest.mark.slow
def test_from_one_seed_to_another(model):
    latents = interpolate_noise(3, 4, 5, model.sample_shape)
    path = model.generate(latents=latents, num_steps=5, sampler="ddim")
    for k, seed in ((0, 3), (-1, 4)):
        np.testing.assert_allclose(path[k], model.generate(1, num_steps=5, sampler="ddim", seed=seed)[0], atol=1e-5)
    assert kd.models.slerp(latents[0], latents[-1], 0.5).shape == (2,)


@pytest.mark.slow
def test_repaint_knows_init_and_mask(model):
    image, mask = np.full((1, 2), 0.5, "float32"), np.array([[1.0, 0.0]])
    options = {"conditions": {"labels": [0, 1]}, "init": image, "mask": mask, "num_steps": 6, "seed": 0}
    sampler = {"name": "repaint", "jump_length": 2, "resamplings": 3}
    result, steps = model.generate(sampler=sampler, trajectory="x0", **options)
    np.testing.assert_allclose(result[:, 0], 0.5, atol=1e-5)
    np.testing.assert_allclose(steps[:, :, 0], 0.5, atol=1e-5)
    assert steps.shape == (6, 2, 2)
    assert np.abs(model.generate(sampler="ddpm", **options)[:, 1] - result[:, 1]).max() > 1e-2


@pytest.mark.slow
def test_restart_in_generate(model):
    sampler = {"name": "restart", "restarts": [[0.1, 1.0, 2, 2]]}
    samples, steps = model.generate(
        conditions={"labels": [0, 1]}, num_steps=8, seed=0, sampler=sampler, trajectory=True
    )
    assert steps.shape == (8, 2, 2)
    np.testing.assert_allclose(steps[-1], samples, atol=1e-6)
    chunked = model.generate(
        conditions={"labels": [0, 1]}, num_steps=8, seed=0, sampler=sampler, on_step=lambda info: None
    )
    np.testing.assert_allclose(chunked, samples, atol=1e-5)


@pytest.mark.slow
def test_directions_are_checked(model):
    with pytest.raises(
        ValueError,
        match="walks upwards: 'ddim_inversion' or 'dpmpp_2m_inversion'. Received: sampler=DDIMSampler",
    ):
        model.invert(np.zeros((1, 2), "float32"), sampler="ddim")
    with pytest.raises(ValueError, match="for the way up call `invert`. Received: sampler=DDIMInversionSampler"):
        model.generate(sampler="ddim_inversion")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latents": np.zeros((2, 3))}, "Received: latents of shape"),
        ({"latents": np.full((1, 2), np.nan)}, "must be finite"),
        ({"latents": np.zeros((2, 2)), "num_samples": 3}, "`latents` needs one image, or one per sample"),
    ],
)
def test_bad_latents(make_model, options, message):
    with pytest.raises(ValueError, match=message):
        make_model().generate(**options)


def test_bad_samples(make_model):
    with pytest.raises(ValueError, match="Received: samples of shape"):
        make_model().invert(np.zeros((2, 3), "float32"))
