"""The TensorFlow DDIM: files of the Keras example, the published size, KID, training and sampling."""

import json

import numpy as np
import pytest

pytestmark = pytest.mark.slow
tf_keras = pytest.importorskip("tf_keras", reason="tf_keras is not installed: pip install keras-diffusion[legacy-tf]")

import tensorflow as tf

from legacy_tf import ddim


def example():
    tf_keras.backend.clear_session()
    return ddim.get_network(16, (16, 24, 32), 2, embedding_dims=16)


def stored(keras2):
    io = np.load(keras2 / "ddim_residual_unet" / "io.npz")
    return [io["image"], io["noise_variance"]], io


@pytest.fixture(scope="module")
def trained():
    """A model trained for an instant on images of one kind, and its evaluation before and after."""
    tf_keras.utils.set_random_seed(0)
    model = ddim.DiffusionModel(ddim.get_network(8, (8, 16), 1, image_channels=1, embedding_dims=8), ema=0.9)
    images = np.repeat(np.linspace(0, 1, 64, dtype="float32").reshape(1, 8, 8, 1), 64, axis=0)
    model.normalizer.adapt(images)
    model.compile(
        optimizer=tf_keras.optimizers.Adam(1e-2),
        loss=tf_keras.losses.MeanAbsoluteError(),
        kid_encoder=ddim.random_encoder(8, 1),
    )
    before = model.evaluate(images, batch_size=32, verbose=0, return_dict=True)
    model.fit(images, batch_size=32, epochs=15, verbose=0)
    return model, before, model.evaluate(images, batch_size=32, verbose=0, return_dict=True)


def test_names_and_order_are_the_examples(keras2):
    expected = json.loads((keras2 / "ddim_residual_unet" / "weights.json").read_text())
    assert [{"name": v.name, "shape": list(v.shape)} for v in example().weights] == expected


def test_published_size():
    network = ddim.get_network(**ddim.PUBLISHED)
    assert sum(np.prod(v.shape) for v in network.trainable_weights) == 1_950_627
    assert network.count_params() == 1_950_627 + 2_880


@pytest.mark.parametrize(
    "file, output", [("ema_weights.h5", "out_ema"), ("network_weights.h5", "out_network"), ("ema_model.h5", "out_ema")]
)
def test_files_of_one_network_give_their_stored_output(keras2, file, output):
    network = example()
    network.load_weights(keras2 / "ddim_residual_unet" / file)
    inputs, io = stored(keras2)
    np.testing.assert_allclose(network(inputs, training=False), io[output], atol=1e-5 * np.abs(io[output]).max())


def test_checkpoint_of_the_whole_model(keras2):
    model = ddim.DiffusionModel(example())
    model.normalizer.build((None, 16, 16, 3))
    model.load_weights(keras2 / "ddim_residual_unet" / "tf_checkpoint" / "diffusion_model").expect_partial()
    inputs, io = stored(keras2)
    for network, output in ((model.network, "out_network"), (model.ema_network, "out_ema")):
        np.testing.assert_allclose(network(inputs, training=False), io[output], atol=1e-5 * np.abs(io[output]).max())
    np.testing.assert_array_equal(model.normalizer.mean, io["normalizer_mean"])


def test_schedule_runs_on_the_unit_circle():
    model = ddim.DiffusionModel(ddim.get_network(8, (8,), 1, embedding_dims=8))
    noise_rates, signal_rates = model.diffusion_schedule(tf.constant([0.0, 0.5, 1.0]))
    np.testing.assert_allclose(noise_rates**2 + signal_rates**2, 1, atol=1e-6)
    np.testing.assert_allclose(signal_rates[::2], [0.95, 0.02], atol=1e-6)


def test_training_lowers_the_loss_and_kid_is_told(trained):
    _, before, after = trained
    assert after["n_loss"] < 0.8 * before["n_loss"]
    assert np.isfinite(before["kid"])
    assert before["kid"] != after["kid"]


def test_sampling(trained):
    model, *_ = trained
    assert model.generate(3, 4).shape == (3, 8, 8, 1)
    noise = np.random.default_rng(0).standard_normal((2, 8, 8, 1)).astype("float32")
    images = model.ddim_images(noise, 4)
    assert images.min() >= 0
    assert images.max() <= 1
    np.testing.assert_array_equal(images, model.ddim_images(noise, 4))
    np.testing.assert_allclose(images, model.denormalize(model.reverse_diffusion(tf.constant(noise), 4)), atol=1e-5)
    assert np.abs(images - model.ddim_images(noise, 4, network=model.network)).max() > 1e-4


def test_kid_is_unbiased_and_tells_distributions_apart():
    kid = ddim.KID(lambda images, training: tf.reshape(images, (len(images), -1)))
    rng = np.random.default_rng(0)
    draws = rng.standard_normal((2, 200, 2, 2, 1)).astype("float32")
    for _ in range(4):
        kid.update_state(*rng.standard_normal((2, 200, 2, 2, 1)).astype("float32"))
    same = float(kid.result())
    kid.reset_state()
    kid.update_state(draws[0], draws[1] + 1.0)
    assert abs(same) < 0.05
    assert float(kid.result()) > 1.0


def test_without_inceptions_weights_the_remedy_is_named(monkeypatch):
    def offline(*args, **kwargs):
        raise Exception("URL fetch failure")

    monkeypatch.setattr(tf_keras.applications, "InceptionV3", offline)
    model = ddim.DiffusionModel(ddim.get_network(8, (8,), 1, image_channels=1, embedding_dims=8))
    with pytest.raises(RuntimeError, match=r"random_encoder\(8, 1\).*Received: URL fetch failure"):
        model.compile(optimizer="adam", loss=tf_keras.losses.MeanAbsoluteError())
