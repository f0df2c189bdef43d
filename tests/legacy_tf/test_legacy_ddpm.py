"""The TensorFlow DDPM: files of the Keras example, tables of the diffusion, training and sampling."""

import json

import numpy as np
import pytest

pytestmark = pytest.mark.slow
tf_keras = pytest.importorskip("tf_keras", reason="tf_keras is not installed: pip install keras-diffusion[legacy-tf]")

import tensorflow as tf

from legacy_tf import ddpm


def example():
    tf_keras.backend.clear_session()
    return ddpm.build_model(16, 3, widths=(16, 32), has_attention=(False, True), num_res_blocks=1)


def tiny():
    return ddpm.build_model(4, 1, widths=(8,), has_attention=(False,), num_res_blocks=1, norm_groups=4)


@pytest.fixture(scope="module")
def trained():
    """A model trained for an instant on one image, and the loss at fixed times and noise: before, after, and the
    average's.
    """
    tf_keras.utils.set_random_seed(0)
    model = ddpm.DiffusionModel(tiny(), tiny(), ddpm.GaussianDiffusion(timesteps=20), ema=0.9)
    model.compile(optimizer=tf_keras.optimizers.Adam(1e-2), loss=tf_keras.losses.MeanSquaredError(), run_eagerly=True)
    images = np.repeat(np.linspace(-1, 1, 16, dtype="float32").reshape(1, 4, 4, 1), 64, axis=0)
    t, noise = tf.range(64, dtype=tf.int64) % 20, tf.random.stateless_normal((64, 4, 4, 1), (0, 1))

    def loss(network):
        return float(model.loss(noise, network([model.diffusion.q_sample(images, t, noise), t])))

    before = loss(model.network)
    model.fit(images, batch_size=32, epochs=10, verbose=0)
    return model, before, loss(model.network), loss(model.ema_network)


def test_names_and_order_are_the_examples(keras2):
    network = example()
    expected = json.loads((keras2 / "ddpm_unet" / "weights.json").read_text())
    assert [{"name": v.name, "shape": list(v.shape)} for v in network.weights] == expected


@pytest.mark.parametrize(
    "file", ["weights.h5", "tf_checkpoint/model", "train_checkpoint/ckpt", "model.h5", "model.keras"]
)
def test_files_of_the_example_give_their_stored_output(keras2, file):
    folder = keras2 / "ddpm_unet"
    if file.startswith("model."):
        network = tf_keras.models.load_model(folder / file, custom_objects=ddpm.CUSTOM_OBJECTS, compile=False)
    else:
        network = example()
        if file.startswith("train_checkpoint"):
            tf.train.Checkpoint(model=network).restore(str(folder / file)).expect_partial()
        else:
            network.load_weights(folder / file)
    io = np.load(folder / "io.npz")
    output = network([io["image"], io["time"]], training=False).numpy()
    np.testing.assert_allclose(output, io["out"], atol=1e-5)


def test_a_step_to_clean_images_ends_at_x0():
    diffusion = ddpm.GaussianDiffusion()
    x0, noise = (
        tf.random.stateless_uniform((2, 4, 4, 1), (0, 1), -1, 1),
        tf.random.stateless_normal((2, 4, 4, 1), (0, 2)),
    )
    t = tf.constant([0, 0], tf.int64)
    # At t = 0 the posterior is a point: the predicted x0.
    np.testing.assert_allclose(diffusion.p_sample(noise, diffusion.q_sample(x0, t, noise), t), x0, atol=1e-5)
    assert diffusion.alphas_cumprod[0] == 1 - 1e-4
    # DDPM, section 4: next to no signal is left at the end.
    assert diffusion.alphas_cumprod[-1] == pytest.approx(4.04e-5, rel=1e-2)
    assert list(diffusion.ddim_times(4)) == [999, 749, 499, 249]


def test_ddim_with_the_true_noise_returns_x0():
    diffusion = ddpm.GaussianDiffusion()
    x0, noise = (
        tf.random.stateless_uniform((2, 4, 4, 1), (0, 1), -1, 1),
        tf.random.stateless_normal((2, 4, 4, 1), (0, 2)),
    )
    x = diffusion.q_sample(x0, tf.constant([999, 999]), noise)
    for clip in (False, True):
        np.testing.assert_allclose(
            diffusion.ddim_sample_loop(lambda x, t: noise, x, 5, clip_denoised=clip), x0, atol=1e-3
        )


def test_training_lowers_the_loss_and_the_average_follows(trained):
    _, before, after, averaged = trained
    assert after < 0.7 * before
    assert averaged < before
    assert averaged != after


def test_ancestral_and_ddim_sampling(trained):
    model, *_ = trained
    images = model.generate_images(3)
    assert images.shape == (3, 4, 4, 1)
    # The last ancestral step ends at a clipped x0.
    assert np.abs(images).max() <= 1
    noise = np.random.default_rng(0).standard_normal((2, 4, 4, 1)).astype("float32")
    first, raw = model.ddim_images(noise, 5), model.ddim_images(noise, 5, network=model.network)
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, model.ddim_images(noise, 5))
    assert np.abs(first - raw).max() > 1e-3
    assert np.abs(model.ddim_images(noise, 5, clip_denoised=True)).max() <= 1
