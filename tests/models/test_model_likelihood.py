"""Likelihood under a model, and bits per dimension."""

import keras
import numpy as np
import pytest

import keras_diffusion as kd
from keras_diffusion.models.sampling_levels import likelihood_levels
from keras_diffusion.runtime.progress import progress_lines
from keras_diffusion.samplers import log_likelihood


@keras.saving.register_keras_serializable("tests")
class GaussianNetwork(keras.Model):
    """Predicts what the exact denoiser of N(0.2, 0.5²) would, for x0-prediction with the log-SNR as condition."""

    mean, std = 0.2, 0.5
    condition_keys = ()

    def __init__(self, sample_shape=(2,), **kwargs):
        super().__init__(**kwargs)
        self.sample_shape = sample_shape
        self.built = True

    def call(self, inputs, training=False):
        x, square = inputs["x"], keras.ops.exp(inputs["noise_level"])  # α²/σ², for variance-preserving levels
        square = keras.ops.reshape(square, (-1,) + (1,) * (len(x.shape) - 1))
        alpha = keras.ops.sqrt(square / (1.0 + square))
        sigma = keras.ops.sqrt(1.0 / (1.0 + square))
        gain = alpha * self.std**2 / (alpha**2 * self.std**2 + sigma**2)
        return self.mean + gain * (x - alpha * self.mean)

    def get_config(self):
        return {"sample_shape": self.sample_shape}


def gaussian_model(shape=(2,), schedule="vp"):
    predictor = kd.predictors.get("x0", condition="log_snr")
    return kd.DiffusionModel(GaussianNetwork(shape), noise_schedule=schedule, predictor=predictor, ema=None, seed=0)


def exact(data, std):
    return np.sum(
        -0.5 * ((data - 0.2) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi), axis=tuple(range(1, data.ndim))
    )


@pytest.mark.parametrize("schedule", ["vp", "cosine"])
def test_log_likelihood_of_a_gaussian_model_is_exact(schedule):
    """Ends at α = 6e-3 (vp), and at pure noise (cosine)."""
    model = gaussian_model(schedule=schedule)
    data = (0.2 + 0.5 * np.random.default_rng(0).standard_normal((5, 2))).astype("float32")
    result = model.log_likelihood(data, num_steps=60, data_mean=0.2, sigma_min=0.01)
    assert result.shape == (5,) and result.dtype == np.float64
    np.testing.assert_allclose(result, exact(data, np.hypot(0.5, 0.01)), atol=2e-4)


@pytest.mark.slow
def test_a_progress_bar_changes_nothing_and_traces_nothing_again(capsys):
    model = gaussian_model()
    data = np.random.default_rng(0).standard_normal((5, 2)).astype("float32")
    quiet = model.log_likelihood(data, num_steps=45, batch_size=3, verbose=0)
    traces = model.programs.traces
    assert capsys.readouterr().out == ""
    shown = model.log_likelihood(data, num_steps=45, batch_size=3, verbose=1)
    np.testing.assert_allclose(shown, quiet, atol=1e-5)
    assert "90/90" in capsys.readouterr().out
    assert model.programs.traces == traces or keras.backend.backend() == "torch"


def test_compiled_equals_the_function(make_model, blobs):
    model = make_model(ema=0.9)
    model.fit(blobs, batch_size=32, epochs=5, verbose=0)
    data = np.random.default_rng(0).standard_normal((3, 2)).astype("float32")
    options = {"divergence": "hutchinson", "num_probes": 2, "seed": 4, "method": "heun"}
    compiled = model.log_likelihood(data, {"labels": [0, 1, 2]}, num_steps=6, **options)
    levels = likelihood_levels(model.noise_schedule, 6, 0.002)
    x = levels.alpha[-1] * data
    by_hand = log_likelihood(model.denoiser({"labels": [0, 1, 2]}), x, levels, model.noise_schedule, **options)
    np.testing.assert_allclose(compiled, by_hand + 2 * np.log(levels.alpha[-1]), rtol=1e-3)
    in_twos = model.log_likelihood(data, {"labels": [0, 1, 2]}, num_steps=6, batch_size=2, **options)
    np.testing.assert_allclose(in_twos, compiled, rtol=1e-4)
    other = model.log_likelihood(data, {"labels": [2, 2, 2]}, num_steps=6, **options)
    assert np.abs(other - compiled).max() > 1e-4
    if keras.backend.backend() != "torch":  # which runs eagerly
        (program,) = model.programs.values()
        traces = program.traces
        model.log_likelihood(
            data, {"labels": [0, 1, 2]}, num_steps=9, weights="raw", sigma_min=0.01, data_std=1.0, **options
        )
        assert program.traces == traces


def test_bits_per_dim():
    model = gaussian_model((4, 4, 1))
    floats = (0.2 + 0.5 * np.random.default_rng(0).standard_normal((3, 4, 4, 1))).astype("float32")
    options = {"num_steps": 50, "data_mean": 0.2, "sigma_min": 0.002, "seed": 0}
    bits = model.bits_per_dim(floats, **options)
    np.testing.assert_allclose(bits, -exact(floats, 0.5) / (16 * np.log(2)) + np.log2(127.5), atol=1e-4)
    # Pixels: a level has the probability density/127.5, and the noise of dequantization changes a smooth density
    # little.
    pixels = np.clip(np.round((floats + 1) * 127.5), 0, 255).astype("uint8")
    bits = model.bits_per_dim(pixels, **options)
    np.testing.assert_allclose(bits, -exact(pixels / 127.5 - 1, 0.5) / (16 * np.log(2)) + np.log2(127.5), atol=5e-3)
    np.testing.assert_array_equal(bits, model.bits_per_dim(pixels, **options))
    assert np.any(bits != model.bits_per_dim(pixels, **{**options, "seed": 1}))
    np.testing.assert_allclose(model.bits_per_dim(pixels[0], **options), bits[:1], atol=1e-5)


@pytest.mark.parametrize("schedule", ["cosine", "linear", "flow", "variance_exploding"])
def test_levels_of_a_likelihood(schedule):
    schedule = kd.schedulers.get(schedule)
    levels = likelihood_levels(schedule, 20, 0.002)
    ratio = levels.sigma[1:] / levels.alpha[1:]
    assert levels.t[0] == 1 and len(levels.t) == 21 and np.all(np.diff(levels.t) < 0)
    lowest = schedule.levels(1 / schedule.timesteps if schedule.timesteps else 0.0)
    assert ratio[-1] == pytest.approx(max(0.002, lowest.sigma / lowest.alpha), rel=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"sigma_min": 0.0},
            "`sigma_min` is the σ/α of the cleanest level, positive and below the noisiest. Received: sigma_min=0.0",
        ),
        ({"sigma_min": 1e9}, "below the noisiest. Received: sigma_min=1000000000.0"),
        ({"num_steps": 0}, "at least one step"),
        ({"data": np.zeros((2, 3), "float32")}, "Received: data of shape"),
        ({"method": "ddim"}, "deterministic Runge–Kutta sampler"),
        ({"weights": "best"}, "'ema' or 'raw'"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        gaussian_model().log_likelihood(**{"data": np.zeros((2, 2), "float32"), **options})


@pytest.mark.slow
def test_the_standard_error_is_that_of_the_probes():
    model = gaussian_model(shape=(8, 8, 1))
    model.network.call = _uneven(model.network.call)
    data = np.zeros((3, 8, 8, 1), "float32")
    many = np.stack([model.log_likelihood(data, num_steps=4, num_probes=1, seed=seed) for seed in range(40)])
    assert model.likelihood_report["standard_error"] is None and model.likelihood_report["divergence"] == "hutchinson"
    model.log_likelihood(data, num_steps=4, num_probes=40, seed=0)
    error = model.likelihood_report["standard_error"]
    assert error.shape == (3,) and model.likelihood_report["num_probes"] == 40
    np.testing.assert_allclose(np.mean(error) * 40**0.5, many.std(ddof=1), rtol=0.3)
    bits = model.bits_per_dim(data, num_steps=4, num_probes=40, seed=0)
    np.testing.assert_allclose(model.likelihood_report["standard_error"] * 64 * np.log(2), error, rtol=1e-4)
    assert bits.shape == (3,)
    model.log_likelihood(data, num_steps=4, divergence="exact")
    assert model.likelihood_report["divergence"] == "exact" and not model.likelihood_report["standard_error"].any()


def _uneven(call):
    """A denoiser whose Jacobian is not diagonal: of a diagonal one, every probe of ±1 gives the trace itself."""
    return lambda inputs, training=False: call(
        {**inputs, "x": inputs["x"] + 0.5 * keras.ops.roll(inputs["x"], 1, axis=1)}
    )


def test_lines_where_no_terminal_watches(capsys):
    seconds = iter([0.0, 10.0, 31.0, 40.0, 62.0, 90.0])
    tell = progress_lines(100, "Likelihood", clock=lambda: next(seconds))
    for done in (10, 25, 30, 50, 100):
        tell(done)
    assert capsys.readouterr().err == (
        "Likelihood: step 25 of 100, about 93 s left\nLikelihood: step 50 of 100, about 62 s left\n"
    )
