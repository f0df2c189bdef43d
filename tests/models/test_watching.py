"""Looking on while `generate` walks: trajectories of x and of x0, hooks after every step, kinds of noise, grids that
stop early.
"""

import keras
import numpy as np
import pytest

import keras_diffusion as kd
from keras_diffusion.models.sampling_levels import sampling_levels

LABELS = {"labels": [0, 1, 2]}


@pytest.fixture
def model(make_model, blobs):
    model = make_model(ema=0.9)
    model.fit(blobs, batch_size=32, epochs=5, verbose=0)
    return model


def prediction(model, x, level):
    return keras.ops.convert_to_numpy(model.denoiser(LABELS)(x, level).x0)


@pytest.mark.parametrize("sampler", ["ddim", "heun"])
def test_trajectory_of_x0_is_what_the_network_took_the_samples_for(model, sampler):
    options = {"conditions": LABELS, "num_steps": 5, "seed": 1, "sampler": sampler}
    samples, xs, x0s = model.generate(trajectory="both", **options)
    assert xs.shape == x0s.shape == (5, 3, 2)
    levels = sampling_levels(model.noise_schedule, kd.schedulers.get_spacing("linspace"), 5)
    for i in range(1, 5):  # x after step i − 1 is what step i begins with
        np.testing.assert_allclose(x0s[i], prediction(model, xs[i - 1], levels.map(lambda v, i=i: v[i])), atol=1e-4)
    np.testing.assert_allclose(samples, xs[-1], atol=1e-6)
    np.testing.assert_allclose(x0s[-1], samples, atol=1e-5)
    only, same = model.generate(trajectory="x0", **options)
    np.testing.assert_allclose(same, x0s, atol=1e-6)
    np.testing.assert_allclose(only, samples, atol=1e-6)
    np.testing.assert_array_equal(
        model.generate(trajectory="x", **options)[1], model.generate(trajectory=True, **options)[1]
    )


def test_unknown_trajectory(model):
    with pytest.raises(
        ValueError, match="`trajectory` must be False, True or 'x', 'x0', or 'both'. Received: trajectory='eps'"
    ):
        model.generate(2, trajectory="eps")


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "heun"])
def test_a_hook_sees_every_step(model, sampler):
    options = {"conditions": LABELS, "num_steps": 6, "seed": 2, "sampler": sampler}
    seen = []
    samples = model.generate(on_step=seen.append, **options)
    expected, xs, x0s = model.generate(trajectory="both", **options)
    np.testing.assert_allclose(samples, expected, atol=1e-5)
    assert [info.step for info in seen] == list(range(6)) and {info.total for info in seen} == {6}
    np.testing.assert_allclose([info.x for info in seen], xs, atol=1e-5)
    np.testing.assert_allclose([info.x0 for info in seen], x0s, atol=1e-5)
    levels = sampling_levels(model.noise_schedule, kd.schedulers.get_spacing("linspace"), 6)
    np.testing.assert_allclose([info.level.t for info in seen], levels.t[:-1])
    np.testing.assert_allclose([info.level.sigma for info in seen], levels.sigma[:-1])


def test_a_hook_changes_x_and_another_one_traces_nothing_again(model):
    options = {"conditions": LABELS, "num_steps": 4, "seed": 3}
    plain = model.generate(on_step=lambda info: None, **options)
    traces = model.programs.traces
    pushed = model.generate(on_step=lambda info: info.x + 0.1 if info.step == 1 else None, **options)
    assert model.programs.traces == traces or keras.backend.backend() == "torch"
    assert np.abs(pushed - plain).max() > 1e-3
    replaced = model.generate(
        on_step=lambda info: np.zeros_like(info.x) if info.step == 3 else None, clip=False, **options
    )
    np.testing.assert_array_equal(replaced, 0)
    with pytest.raises(
        ValueError, match=r"A hook returns None, or an array that replaces x, of shape \(3, 2\). Received: shape \(1,\)"
    ):
        model.generate(on_step=lambda info: np.zeros(1), **options)


@pytest.mark.slow
def test_hooks_are_told_which_samples_they_see(model):
    seen = []
    model.generate(
        5, num_steps=2, batch_size=2, seed=0, on_step=lambda info: seen.append((info.first_sample, len(info.x)))
    )
    assert seen == [(0, 2), (0, 2), (2, 2), (2, 2), (4, 1), (4, 1)]


@pytest.mark.slow
def test_brownian_noise_changes_little_with_the_number_of_steps(model):
    def generate(steps, noise):
        return model.generate(
            conditions={"labels": [0, 1, 2] * 20}, num_steps=steps, seed=4, sampler="dpmpp_2m_sde", noise=noise
        )

    near, far = (np.abs(generate(24, noise) - generate(48, noise)).mean() for noise in ("brownian", "independent"))
    assert near < 0.5 * far
    np.testing.assert_array_equal(generate(24, None), generate(24, "brownian"))


def test_the_last_evaluation_is_at_the_spacings_least_noise():
    """On a curve that ends at σ = 0.002, a spacing that stops at 0.02 is not followed by one long step from there to
    0.002.
    """
    schedule = kd.schedulers.get("ve")
    for options, last in (({}, 0.002), ({"sigma_min": 0.02}, 0.02), ({"sigma_min": 0.001}, 0.002)):
        levels = sampling_levels(schedule, kd.schedulers.get_spacing("karras", **options), 10)
        assert len(levels.t) == 11 and levels.sigma[-1] == 0
        np.testing.assert_allclose(levels.sigma[[0, -2]], [80, last], rtol=1e-9)
