"""fit and evaluate: what is learned, from which data, and how it is counted."""

import keras
import numpy as np
import pytest
from calling import call
from keras import ops

import keras_diffusion as kd

BACKEND = keras.backend.backend()


def numpy_of(values):
    return [ops.convert_to_numpy(v).copy() for v in values]


def test_fit_learns_the_classes(make_model, blobs):
    model = make_model(ema=0.9, condition_dropout=0.1)
    history = model.fit(blobs, batch_size=32, epochs=60, verbose=0)
    assert np.mean(history.history["loss"][-10:]) < 0.7 * history.history["loss"][0]
    for label, centre in enumerate([[-0.8, 0.0], [0.8, 0.0], [0.0, 0.8]]):
        points = model.generate(64, conditions={"labels": label}, num_steps=20, seed=1)
        np.testing.assert_allclose(points.mean(axis=0), centre, atol=0.2)


def test_plain_arrays_train_an_unconditional_network(make_model, blobs):
    model = make_model(num_classes=None)
    history = model.fit(blobs["images"], batch_size=32, epochs=2, verbose=0)
    assert np.all(np.isfinite(history.history["loss"]))


def dict_batches(blobs, size=32):
    return [{key: value[i : i + size] for key, value in blobs.items()} for i in range(0, 96, size)]


def as_tf_data(blobs):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices(blobs).batch(32)


def as_torch_loader(blobs):
    torch = pytest.importorskip("torch")

    class Rows(torch.utils.data.Dataset):
        def __len__(self):
            return 96

        def __getitem__(self, i):
            return {"images": blobs["images"][i], "labels": blobs["labels"][i]}

    return torch.utils.data.DataLoader(Rows(), batch_size=32)


def as_grain(blobs):
    grain = pytest.importorskip("grain")
    rows = [{"images": blobs["images"][i], "labels": blobs["labels"][i]} for i in range(96)]
    return grain.MapDataset.source(rows).batch(32)


def as_py_dataset(blobs):
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, i):
            return dict_batches(blobs)[i]

    return Batches()


def as_own_batches(blobs):
    return kd.data.Batches(blobs, batch_size=32, shuffle=False)


@pytest.mark.parametrize("kind", [as_tf_data, as_torch_loader, as_grain, as_py_dataset, as_own_batches])
def test_every_kind_of_data_set_trains_like_arrays(make_model, blobs, difference, kind):
    reference, model = make_model(), make_model()
    reference.fit(blobs, batch_size=32, shuffle=False, verbose=0)
    # TensorFlow begins one step too many on data of unknown length, so the length is given.
    model.fit(kind(blobs), steps_per_epoch=3, shuffle=False, verbose=0)
    assert int(ops.convert_to_numpy(model.optimizer.iterations)) == 3
    assert difference(reference, model) < 1e-6


def test_average_follows_the_weights_with_warm_up(make_model, blobs):
    model = make_model(ema=0.5)
    seen = []

    class Record(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            seen.append(numpy_of(self.model.network.weights))

    model.fit(blobs, batch_size=32, epochs=2, verbose=0, shuffle=False, callbacks=[Record()])
    expected = numpy_of(make_model().network.weights)
    for n, weights in enumerate(seen):
        decay = min(0.5, (1 + n) / (10 + n))
        expected = [decay * e + (1 - decay) * w for e, w in zip(expected, weights, strict=True)]
    for e, w in zip(expected, numpy_of(model.average.network.weights), strict=True):
        np.testing.assert_allclose(w, e, atol=1e-6)


def test_average_moves_once_per_optimizer_step_under_accumulation(blobs, make_model, difference):
    big, accumulated = make_model(ema=0.5), make_model(ema=0.5)
    for model, steps in ((big, None), (accumulated, 3)):
        model.compile(keras.optimizers.SGD(0.1, gradient_accumulation_steps=steps))
    accumulated.fit(blobs, batch_size=32, epochs=4, verbose=0, shuffle=False)
    assert int(ops.convert_to_numpy(accumulated.average.num_calls)) == 12
    before = numpy_of(accumulated.average.network.weights)
    # Two of the next three calls must leave the average alone.
    batch = dict_batches(blobs)[0]
    accumulated.train_on_batch(batch)
    accumulated.train_on_batch(batch)
    for old, new in zip(before, numpy_of(accumulated.average.network.weights), strict=True):
        np.testing.assert_array_equal(old, new)
    accumulated.train_on_batch(batch)
    after = numpy_of(accumulated.average.network.weights)
    assert any(np.any(old != new) for old, new in zip(before, after, strict=True))


def test_no_average_when_ema_is_none(make_model, blobs):
    model = make_model(ema=None)
    model.fit(blobs, verbose=0)
    assert model.average is None
    a = model.generate(2, conditions={"labels": 1}, num_steps=3, seed=0, weights="ema")
    np.testing.assert_array_equal(a, model.generate(2, conditions={"labels": 1}, num_steps=3, seed=0, weights="raw"))


def test_raw_and_averaged_weights_differ(make_model, blobs):
    model = make_model(ema=0.99)
    model.fit(blobs, epochs=3, verbose=0)
    samples = [model.generate(2, conditions={"labels": 1}, num_steps=3, seed=0, weights=w) for w in ("ema", "raw")]
    assert np.abs(samples[0] - samples[1]).max() > 1e-4


def test_validation_loss_has_the_same_noise_every_time(make_model, blobs):
    model = make_model(learning_rate=0.0)
    history = model.fit(blobs, validation_data=blobs, batch_size=32, epochs=3, verbose=0).history
    np.testing.assert_allclose(history["val_loss"], history["val_loss"][0], rtol=1e-6)
    assert np.ptp(history["loss"]) > 1e-4  # training noise is fresh
    again = model.evaluate(blobs, batch_size=32, verbose=0, return_dict=True)
    assert again["loss"] == pytest.approx(history["val_loss"][0], rel=1e-6)


def test_bands_average_to_the_loss(make_model, blobs):
    model = make_model(noise_bands=4)
    logs = model.evaluate(blobs, batch_size=96, verbose=0, return_dict=True)
    bands = [logs[f"loss_t{upper}"] for upper in (25, 50, 75, 100)]
    # 96 evenly spread times put 24 samples into each band.
    assert np.mean(bands) == pytest.approx(logs["loss"], rel=1e-5)
    assert len(set(bands)) == 4


def rewind(generator):
    generator.state.assign(ops.zeros((2,), dtype=generator.state.dtype))


def test_dropping_every_condition_makes_the_network_unconditional(make_model, blobs):
    model = make_model(condition_dropout=1.0)
    rewind(model.training_noise)
    first = ops.convert_to_numpy(model(blobs, training=True)["output"])
    rewind(model.training_noise)
    other = {**blobs, "labels": (blobs["labels"] + 1) % 3}
    np.testing.assert_array_equal(first, ops.convert_to_numpy(model(other, training=True)["output"]))


def test_conditions_are_kept_without_dropout_and_in_validation(make_model, blobs):
    model = make_model(condition_dropout=1.0)

    def output(labels):
        rewind(model.validation_noise)
        return ops.convert_to_numpy(model({**blobs, "labels": labels}, training=False)["output"])

    # The MLP's head starts at zero: train a little first.
    model.fit(blobs, epochs=2, verbose=0)
    model.condition_dropout = 0.0
    model.compile("adam")
    model.fit(blobs, epochs=2, verbose=0)
    assert np.abs(output(blobs["labels"]) - output((blobs["labels"] + 1) % 3)).max() > 1e-4


def test_sample_weights_scale_the_loss(make_model, blobs):
    model = make_model()
    y_pred = model(blobs, training=False)
    whole = float(model.compute_loss(y_pred=y_pred, training=False))
    half = float(model.compute_loss(y_pred=y_pred, sample_weight=np.full(96, 0.5, "float32"), training=False))
    assert half == pytest.approx(whole / 2, rel=1e-5)


@pytest.mark.parametrize("weighting", [None, "snr", "min_snr", "p2", "sigmoid", "edm"])
@pytest.mark.parametrize("predictor", ["epsilon", "x0", "v", "velocity", "edm"])
def test_a_weighting_is_the_same_loss_for_every_predictor(make_model, predictor, weighting):
    """|x0 error| of a network that makes a given x0 error is weighted alike, whatever it predicts."""
    model = make_model(
        predictor=predictor, loss_weighting=weighting, noise_schedule={"name": "cosine", "log_snr_min": -15.0}
    )
    t = ops.convert_to_tensor(np.linspace(0.1, 0.9, 7).astype("float32"))
    alpha, sigma = model.noise_schedule(t)
    rng = np.random.default_rng(0)
    x0, eps, wrong = (rng.standard_normal((7, 2)).astype("float32") for _ in range(3))
    x_t = kd.core.gaussian.mix(x0, eps, alpha, sigma)
    # The output of a network whose x0 is off by `wrong`: ε is then off by −α/σ·wrong, as x_t is what it is.
    wrong_eps = eps - ops.convert_to_numpy(alpha / sigma)[:, None] * wrong
    output = model.predictor.target(x0 + wrong, wrong_eps, alpha, sigma)
    error = ops.sum(ops.square(output - model.predictor.target(x0, eps, alpha, sigma)), axis=1)
    scale = model.predictor.x0_error_scale(alpha, sigma)
    np.testing.assert_allclose(ops.convert_to_numpy(scale * error), np.sum(wrong**2, axis=1), rtol=1e-4)
    recovered = model.predictor.split(output, x_t, alpha, sigma)
    np.testing.assert_allclose(ops.convert_to_numpy(recovered.x0), x0 + wrong, atol=1e-4)
    weight = model.loss_weighting.on_output(2 * ops.log(alpha / sigma), scale)
    assert np.all(np.isfinite(ops.convert_to_numpy(weight)))


@pytest.mark.parametrize("schedule", ["cosine", "linear", "flow", "variance_exploding"])
def test_every_schedule_trains_and_samples(make_model, blobs, schedule):
    predictor = {"flow": "velocity", "variance_exploding": "edm"}.get(schedule, "v")
    times = "log_normal_sigma" if schedule == "variance_exploding" else "uniform"
    model = make_model(noise_schedule=schedule, predictor=predictor, time_distribution=times)
    assert np.isfinite(model.fit(blobs, epochs=2, verbose=0).history["loss"]).all()
    assert np.isfinite(model.generate(3, conditions={"labels": [0, 1, 2]}, num_steps=5, seed=0)).all()


def test_a_discrete_schedule_is_trained_at_whole_timesteps(make_model, blobs):
    model = make_model(noise_schedule={"name": "linear", "timesteps": 50})
    t = ops.convert_to_numpy(model(blobs, training=True)["t"])
    np.testing.assert_allclose(t * 50, np.round(t * 50), atol=1e-4)
    assert t.min() >= 1 / 50 - 1e-6 and t.max() <= 1 + 1e-6


def test_uint8_images_are_scaled():
    network = kd.networks.UNet((8, 8, 1), widths=(8, 8), num_res_blocks=1, attention=False)
    model = kd.DiffusionModel(network, seed=0)
    pixels = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 1)).astype("uint8")
    model.compile("adam")
    scaled = pixels.astype("float32") / 127.5 - 1
    assert model.evaluate(pixels, verbose=0) == pytest.approx(model.evaluate(scaled, verbose=0), rel=1e-5)


def test_mixed_precision_trains_in_bfloat16_with_float32_levels():
    network = kd.networks.UNet(
        (8, 8, 1), widths=(8,), num_res_blocks=1, num_classes=3, num_heads=2, dtype="mixed_bfloat16"
    )
    model = kd.DiffusionModel(network, seed=0)
    model.compile("adam")
    rng = np.random.default_rng(0)
    data = {
        "images": rng.uniform(-1, 1, (32, 8, 8, 1)).astype("float32"),
        "labels": rng.integers(0, 3, 32).astype("int32"),
    }
    assert np.isfinite(model.fit(data, epochs=2, verbose=0).history["loss"]).all()
    result = call(model, data, training=False)
    assert {keras.backend.standardize_dtype(v.dtype) for v in result.values()} == {"float32"}
    assert np.isfinite(model.generate(2, conditions={"labels": 1}, num_steps=4, seed=0)).all()


def test_learning_rate_schedules_of_keras_work(make_model, blobs):
    model = make_model()
    model.compile(keras.optimizers.AdamW(keras.optimizers.schedules.CosineDecay(1e-2, 6)))
    model.fit(blobs, batch_size=32, epochs=2, verbose=0)
    assert float(ops.convert_to_numpy(model.optimizer.learning_rate)) == pytest.approx(0.0, abs=1e-8)


@pytest.mark.skipif(BACKEND == "torch", reason="Keras has no steps_per_execution on torch")
def test_steps_per_execution_changes_nothing(make_model, blobs, difference):
    one, three = make_model(), make_model(compile_options={"steps_per_execution": 3})
    for model in (one, three):
        model.fit(blobs, batch_size=32, epochs=2, shuffle=False, verbose=0)
    assert difference(one, three) < 1e-6


def test_an_autoencoder_puts_the_diffusion_on_its_latents():
    class Halve(keras.layers.Layer):
        def encode(self, images):
            return images[:, ::2, ::2]

        def decode(self, latents):
            return ops.repeat(ops.repeat(latents, 2, axis=1), 2, axis=2)

    model = kd.DiffusionModel(
        kd.networks.UNet((4, 4, 1), widths=(8,), num_res_blocks=1, attention=False), autoencoder=Halve(), seed=0
    )
    model.compile("adam")
    images = np.random.default_rng(0).uniform(-1, 1, (16, 8, 8, 1)).astype("float32")
    assert call(model, images)["output"].shape == (16, 4, 4, 1)
    model.fit(images, verbose=0)
    assert model.generate(3, num_steps=2, seed=0).shape == (3, 8, 8, 1)
    # Images to start from are encoded; untouched, they come back as the autoencoder has them.
    kept = model.generate(init=images[:3], strength=0.0, num_samples=3, num_steps=2)
    np.testing.assert_allclose(kept, np.repeat(np.repeat(images[:3, ::2, ::2], 2, axis=1), 2, axis=2), atol=1e-6)
    assert model.generate(init=images[0], strength=0.5, num_samples=2, num_steps=2, seed=0).shape == (2, 8, 8, 1)
    assert model.invert(images[:3], num_steps=2).shape == (3, 4, 4, 1)
