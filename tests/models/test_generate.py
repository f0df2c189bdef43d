"""generate: reproducible, compiled once, and equal to walking by hand."""

import functools

import keras
import numpy as np
import pytest
from keras import ops

import keras_diffusion as kd
from keras_diffusion.core.noise import counter_normal, initial_noise, seed_words
from keras_diffusion.models.sampling_levels import sampling_levels

BACKEND = keras.backend.backend()


@pytest.fixture
def model(make_model, blobs):
    model = make_model(ema=0.9)
    model.fit(blobs, batch_size=32, epochs=5, verbose=0)
    return model


@pytest.fixture
def image_model():
    keras.utils.set_random_seed(0)
    return kd.DiffusionModel(
        kd.networks.UNet((8, 8, 1), widths=(8,), num_res_blocks=1, attention=False, zero_init=False), seed=0
    )


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "ddpm"])
def test_sample_i_depends_on_seed_and_i_alone(model, sampler):
    labels = {"labels": [0, 1, 2, 0, 1]}
    together = model.generate(conditions=labels, num_steps=5, seed=3, sampler=sampler)
    in_twos = model.generate(conditions=labels, num_steps=5, seed=3, sampler=sampler, batch_size=2)
    fewer = model.generate(conditions={"labels": [0, 1]}, num_steps=5, seed=3, sampler=sampler)
    np.testing.assert_allclose(in_twos, together, atol=1e-5)
    np.testing.assert_allclose(fewer, together[:2], atol=1e-5)
    other = model.generate(conditions=labels, num_steps=5, seed=4, sampler=sampler)
    assert np.abs(other - together).max() > 1e-2


def test_without_a_seed_every_call_is_new(model):
    first, second = (model.generate(2, num_steps=2) for _ in range(2))
    assert np.abs(first - second).max() > 1e-3


@pytest.mark.parametrize("sampler", ["ddim", "heun", "dpmpp_2m_sde"])
def test_compiled_equals_walking_by_hand(model, sampler):
    labels = [0, 1, 2]
    options = {"num_steps": 6, "seed": 5, "sampler": sampler, "noise": "independent"}
    samples, steps = model.generate(conditions={"labels": labels}, trajectory=True, **options)
    walker = kd.samplers.get(sampler)
    levels = sampling_levels(model.noise_schedule, kd.schedulers.get_spacing("linspace"), 6)
    x = levels.sigma[0] * initial_noise(5, range(3), (2,))
    words = seed_words(5)
    draws = [
        [ops.convert_to_numpy(counter_normal(words, i, k, (3, 2))) for k in range(walker.noises_per_step)]
        for i in range(6)
    ]
    noise = np.array(draws) if walker.noises_per_step else None
    by_hand, xs = walker.sample(
        x, model.denoiser({"labels": labels}), levels, noise=noise, schedule=model.noise_schedule, trajectory=True
    )
    np.testing.assert_allclose(samples, ops.convert_to_numpy(by_hand), atol=1e-5)
    np.testing.assert_allclose(steps, ops.convert_to_numpy(xs), atol=1e-5)
    np.testing.assert_allclose(steps[-1], samples, atol=1e-6)


@pytest.mark.skipif(BACKEND == "torch", reason="torch runs eagerly: nothing is traced")
def test_nothing_is_traced_again_for_other_numbers(model):
    def generate(**options):
        model.generate(
            **{
                "conditions": {"labels": [0, 1]},
                "num_steps": 4,
                "sampler": {"name": "ddim", "eta": 0.0},
                "seed": 0,
                **options,
            }
        )
        return model.programs.traces

    first = generate()
    assert generate(sampler={"name": "ddim", "eta": 0.7, "s_noise": 1.01}) == first
    assert generate(sampler=kd.samplers.DDIMSampler(eta=1.0)) == first
    assert generate(spacing="karras") == first
    assert generate(spacing={"name": "quadratic"}) == first
    assert generate(seed=7, weights="raw") == first
    assert generate(num_steps=1000) == first  # the same executable, whatever the number of steps
    model.noise_schedule = kd.schedulers.get("variance_preserving")
    assert generate() == first
    guided = generate(guidance_scale=2.0)
    assert guided == first + 1  # a doubled batch is another program …
    assert generate(guidance_scale=5.0) == guided  # … whatever the scale


@pytest.mark.slow
def test_guidance_is_linear_in_the_prediction(model):
    x = np.random.default_rng(0).standard_normal((3, 2)).astype("float32")
    level = model.noise_schedule.levels(0.6)
    labels = {"labels": [0, 1, 2]}
    conditional, unconditional = model.denoiser(labels)(x, level), model.denoiser()(x, level)
    for scale in (0.0, 1.0, 3.0):
        guided = model.denoiser(labels, guidance_scale=scale)(x, level)
        for g, c, u in zip(guided, conditional, unconditional, strict=True):
            np.testing.assert_allclose(ops.convert_to_numpy(g), ops.convert_to_numpy(u + scale * (c - u)), atol=1e-5)
    assert np.abs(ops.convert_to_numpy(conditional.x0 - unconditional.x0)).max() > 1e-3


@pytest.mark.slow
def test_guidance_one_is_off(model):
    labels = {"labels": [0, 1, 2]}
    plain = model.generate(conditions=labels, num_steps=3, seed=0)
    np.testing.assert_array_equal(plain, model.generate(conditions=labels, num_steps=3, seed=0, guidance_scale=1.0))
    assert np.abs(plain - model.generate(conditions=labels, num_steps=3, seed=0, guidance_scale=4.0)).max() > 1e-3


@pytest.mark.slow
def test_one_condition_serves_all_samples(model):
    one = model.generate(3, conditions={"labels": 2}, num_steps=3, seed=0)
    np.testing.assert_array_equal(one, model.generate(conditions={"labels": [2, 2, 2]}, num_steps=3, seed=0))


@pytest.mark.slow
def test_context_is_a_condition_with_a_null():
    keras.utils.set_random_seed(0)
    network = kd.networks.UNet(
        (8, 8, 1),
        widths=(8,),
        num_res_blocks=1,
        num_middle_res_blocks=0,
        attention=True,
        context_dim=4,
        num_heads=2,
        zero_init=False,
    )
    model = kd.DiffusionModel(network, seed=0, condition_dropout=0.5)
    rng = np.random.default_rng(0)
    data = {
        "images": rng.uniform(-1, 1, (16, 8, 8, 1)).astype("float32"),
        "context": rng.standard_normal((16, 5, 4)).astype("float32"),
    }
    model.compile(keras.optimizers.Adam(1e-2))
    assert np.isfinite(model.fit(data, batch_size=8, epochs=3, verbose=0).history["loss"]).all()
    context = data["context"][:2]
    guided = {"num_steps": 3, "seed": 0, "guidance_scale": 3.0}
    a = model.generate(conditions={"context": context}, **guided)
    b = model.generate(conditions={"context": context[::-1]}, **guided)
    assert a.shape == (2, 8, 8, 1) and np.abs(a - b).max() > 1e-4
    np.testing.assert_array_equal(
        model.generate(1, num_steps=2, seed=0),
        model.generate(conditions={"context": np.zeros((1, 4))}, num_steps=2, seed=0),
    )


def test_image_to_image(image_model):
    image = np.linspace(-1, 1, 64, dtype="float32").reshape(1, 8, 8, 1)
    np.testing.assert_allclose(
        image_model.generate(2, init=image, strength=0.0, num_steps=5), np.repeat(image, 2, axis=0)
    )
    distances = [
        np.abs(image_model.generate(4, init=image, strength=s, num_steps=10, seed=0) - image).mean()
        for s in (0.05, 0.3, 1.0)
    ]
    assert distances[0] < distances[1] < distances[2]
    pixels = np.round((image + 1) * 127.5).astype("uint8")
    np.testing.assert_allclose(
        image_model.generate(init=pixels, strength=0.1, num_steps=3, seed=0),
        image_model.generate(init=image, strength=0.1, num_steps=3, seed=0),
        atol=0.01,
    )


def test_a_mask_keeps_what_it_covers(image_model):
    image = np.full((1, 8, 8, 1), 0.5, "float32")
    mask = np.zeros((1, 8, 8, 1))
    mask[:, :4] = 1
    result = image_model.generate(3, init=image, mask=mask, num_steps=4, seed=0)
    np.testing.assert_allclose(result[:, :4], 0.5, atol=1e-6)
    assert np.abs(result[:, 4:] - 0.5).mean() > 0.05


def test_uint8_pixels_and_clipping(image_model):
    floats = image_model.generate(2, num_steps=2, seed=0)
    assert floats.dtype == np.float32 and np.abs(floats).max() <= 1
    pixels = image_model.generate(2, num_steps=2, seed=0, dtype="uint8")
    np.testing.assert_array_equal(pixels, np.round((floats + 1) * 127.5).astype("uint8"))
    assert np.abs(image_model.generate(2, num_steps=2, seed=0, clip=False)).max() > 1


def test_further_guidance_wraps_the_denoiser(image_model):
    threshold = functools.partial(kd.guidance.StaticThreshold, limit=0.1)
    result = image_model.generate(2, num_steps=3, seed=0, guidance=threshold)
    assert np.abs(result).max() <= 0.1 + 1e-6


@pytest.mark.slow
def test_progress_and_silence(model, capsys):
    model.generate(2, num_steps=4, seed=0, verbose=0)
    assert capsys.readouterr().out == ""
    model.generate(2, num_steps=4, seed=0, verbose=1)
    assert "4/4" in capsys.readouterr().out


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "heun", "ddpm"])
def test_chunks_of_a_progress_bar_change_nothing(model, sampler):
    quiet = model.generate(2, num_steps=45, seed=0, sampler=sampler, verbose=0)
    np.testing.assert_allclose(model.generate(2, num_steps=45, seed=0, sampler=sampler, verbose=1), quiet, atol=1e-6)


def test_the_grid_ends_clean_and_has_one_evaluation_per_step():
    for name in ("cosine", "linear", "flow", "variance_exploding"):
        schedule = kd.schedulers.get(name)
        for n in (1, 2, 7):
            levels = sampling_levels(schedule, kd.schedulers.get_spacing(schedule.spacing), n)
            assert len(levels.t) == n + 1 and levels.sigma[-1] == 0 and np.all(levels.sigma[:-1] > 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_steps": 0}, "at least one step"),
        ({"num_samples": 0}, "at least 1"),
        ({"strength": 1.5}, r"must lie in \[0, 1\]"),
        ({"strength": 0.5}, "pass the images too"),
        ({"sampler": "dpm_3000"}, "Unknown sampler: 'dpm_3000'. Known names: .*ddim"),
        ({"spacing": "odd"}, "Unknown spacing"),
        ({"weights": "best"}, "'ema' or 'raw'"),
        ({"dtype": "int4"}, "'float32' or 'uint8'"),
        ({"seed": -1}, "seed must be an integer"),
        ({"conditions": {"labels": [3]}}, "from 0 to 2"),
        ({"conditions": {"labels": [-1]}}, "from 0 to 2"),
        ({"conditions": {"labels": [[1]]}}, r"shape \(N,\)"),
        ({"conditions": {"text": "a cat"}}, "conditions are: labels. Received: text"),
        ({"conditions": {"labels": [0, 1]}, "num_samples": 3}, "one per sample"),
        ({"guidance_scale": 2.0}, "none is given"),
        ({"init": np.zeros((1, 3), "float32")}, "Received: init of shape"),
        ({"init": np.full((1, 2), np.nan, "float32")}, "must be finite"),
        ({"init": np.zeros((2, 2), "float32"), "num_samples": 3}, "one image, or one per sample"),
        ({"init": np.zeros((1, 2), "float32"), "mask": np.full((1, 2), 2.0)}, r"outside \[0, 1\]"),
    ],
)
def test_bad_arguments_are_explained(make_model, options, message):
    with pytest.raises(ValueError, match=message):
        make_model().generate(**options)


def test_trailing_spacing_puts_the_clean_level_in_the_place_of_the_least_noisy_one():
    schedule = kd.schedulers.get("cosine", log_snr_max=4.0, spacing="trailing")  # the curve stops at some noise
    assert schedule.get_config()["spacing"] == "trailing"
    assert "spacing" not in kd.schedulers.get("cosine").get_config()
    levels = sampling_levels(schedule, kd.schedulers.get_spacing(schedule.spacing), 4)
    np.testing.assert_allclose(levels.t, [1.0, 0.75, 0.5, 0.25, 0.0])
    assert levels.sigma[-1] == 0 and levels.alpha[-1] == 1
    np.testing.assert_allclose(levels.sigma[:-1], schedule.levels(levels.t[:-1]).sigma)
    linspace = sampling_levels(schedule, kd.schedulers.get_spacing("linspace"), 4)
    assert linspace.t[-2] == 0.0 and linspace.sigma[-2] > 0  # this one looks at the end of the curve too


@pytest.mark.slow
def test_networks_of_any_size_are_told_the_size():
    model = kd.DiffusionModel(kd.networks.UNet((None, None, 1), widths=(8,), num_res_blocks=1, attention=False), seed=0)
    assert model.generate(2, num_steps=2, seed=0, size=(4, 6)).shape == (2, 4, 6, 1)
    assert model.generate(1, num_steps=2, seed=0, size=4).shape == (1, 4, 4, 1)
    for options, message in (
        ({}, "pass `size`"),
        ({"size": (4, 4, 1)}, "an int, or 2 of them"),
        ({"size": 0}, "an int, or 2 of them"),
    ):
        with pytest.raises(ValueError, match=message):
            model.generate(1, num_steps=2, **options)
    fixed = kd.DiffusionModel(kd.networks.UNet((4, 4, 1), widths=(8,), num_res_blocks=1, attention=False), ema=None)
    with pytest.raises(ValueError, match=r"samples of the shape \(4, 4, 1\). Received: size=6"):
        fixed.generate(1, num_steps=2, size=6)
