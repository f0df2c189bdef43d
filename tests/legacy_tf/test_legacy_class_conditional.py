"""The TensorFlow network with labels: the place of the label's weights, training, guidance."""

import numpy as np
import pytest

pytestmark = pytest.mark.slow
tf_keras = pytest.importorskip("tf_keras", reason="tf_keras is not installed: pip install keras-diffusion[legacy-tf]")

import tensorflow as tf

from legacy_tf import class_conditional, ddpm


def tiny():
    tf_keras.backend.clear_session()
    return class_conditional.build_model(4, 1, 2, widths=(8,), has_attention=(False,), num_res_blocks=1, norm_groups=4)


@pytest.fixture(scope="module")
def trained():
    """A model trained for an instant on black images of class 0 and white ones of class 1."""
    tf_keras.utils.set_random_seed(0)
    diffusion = ddpm.GaussianDiffusion(timesteps=40)
    model = class_conditional.ClassConditionalDiffusionModel(tiny(), tiny(), diffusion, num_classes=2, ema=0.9)
    model.compile(optimizer=tf_keras.optimizers.Adam(1e-2), loss=tf_keras.losses.MeanSquaredError(), run_eagerly=True)
    labels = np.arange(64) % 2
    images = np.broadcast_to(labels[:, None, None, None] * 1.6 - 0.8, (64, 4, 4, 1)).astype("float32")
    history = model.fit(images, labels, batch_size=32, epochs=12, verbose=0)
    return model, history.history["loss"]


@pytest.fixture
def noise():
    return np.random.default_rng(0).standard_normal((4, 4, 4, 1)).astype("float32")


def test_the_label_joins_behind_the_time_embedding():
    labelled = [v.name for v in tiny().weights]
    tf_keras.backend.clear_session()
    plain = ddpm.build_model(4, 1, widths=(8,), has_attention=(False,), num_res_blocks=1, norm_groups=4)
    assert labelled.index("embedding/embeddings:0") == 4
    # Beyond the first three layers, whose order the label changes, the weights are those of the plain network.
    assert labelled[7:] == [v.name for v in plain.weights][6:]


def test_training_lowers_the_loss(trained):
    _, losses = trained
    assert np.mean(losses[-3:]) < 0.7 * losses[0]


def test_the_label_tells_the_brightness(trained, noise):
    model, _ = trained
    t = tf.fill([4], tf.constant(20, tf.int64))
    black, white = (model.predictor([label] * 4)(noise, t).numpy().mean() for label in (0, 1))
    # The less light there is in the image, the more of what is seen is noise.
    assert black > white


def test_sampling(trained, noise):
    model, _ = trained
    images = model.generate_images([0, 1, 1], guidance_scale=2.0)
    assert images.shape == (3, 4, 4, 1)
    assert np.abs(images).max() <= 1
    first = model.ddim_images(noise, [0, 1, 0, 1], 2.0, num_steps=4)
    assert np.isfinite(first).all()
    assert np.abs(first - model.ddim_images(noise, [1, 0, 1, 0], 2.0, num_steps=4)).max() > 1e-3


def test_guidance_goes_from_the_null_label_through_the_label(trained, noise):
    model, _ = trained
    t, labels = tf.fill([4], tf.constant(20, tf.int64)), np.array([0, 1, 0, 1])
    unguided, plain, guided = (model.predictor(labels, w)(noise, t).numpy() for w in (0.0, 1.0, 3.0))
    null = np.full(4, model.num_classes)
    np.testing.assert_allclose(unguided, model.predictor(null, 5.0)(noise, t), atol=1e-5)
    np.testing.assert_allclose(plain, model.ema_network([noise, t, labels]), atol=1e-5)
    np.testing.assert_allclose(guided, unguided + 3.0 * (plain - unguided), atol=1e-5)
    assert np.abs(guided - plain).max() > 1e-3


def test_the_null_label_is_trained(noise):
    model = class_conditional.ClassConditionalDiffusionModel(
        tiny(), tiny(), ddpm.GaussianDiffusion(), 2, label_dropout=1.0
    )
    model.compile(optimizer=tf_keras.optimizers.SGD(0.1), loss=tf_keras.losses.MeanSquaredError(), run_eagerly=True)
    model.network.set_weights(
        [np.random.default_rng(i).normal(0, 0.3, w.shape) for i, w in enumerate(model.network.get_weights())]
    )
    table = next(w for w in model.network.weights if "embeddings" in w.name)
    before = table.numpy()
    model.fit(noise, np.array([0, 1, 0, 1]), verbose=0)
    moved = np.abs(table.numpy() - before).max(axis=1)
    assert list(moved > 0) == [False, False, True]
