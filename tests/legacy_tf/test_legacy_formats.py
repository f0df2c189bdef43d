"""What `formats` writes loads back under tf_keras, and the stored checkpoints make their stored samples."""

from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow
tf_keras = pytest.importorskip("tf_keras", reason="tf_keras is not installed: pip install keras-diffusion[legacy-tf]")

import tensorflow as tf

from legacy_tf import class_conditional, ddim, ddpm, formats

CHECKPOINTS = Path(formats.__file__).parent / "checkpoints"
UNET = {"widths": (8, 16), "has_attention": (False, True), "num_res_blocks": 1}


def network(name):
    tf_keras.backend.clear_session()
    if name == "ddpm":
        return ddpm.build_model(8, 1, **UNET)
    if name == "class_conditional":
        return class_conditional.build_model(8, 1, 10, **UNET)
    return ddim.get_network(8, (16, 32), 1, image_channels=1, embedding_dims=16)


def model_of(name):
    """An untrained model of the structure of the stored checkpoints."""
    if name == "ddim":
        model = ddim.DiffusionModel(network(name))
        model.normalizer.build((None, 8, 8, 1))
        return model
    diffusion = ddpm.GaussianDiffusion()
    if name == "ddpm":
        return ddpm.DiffusionModel(network(name), network(name), diffusion)
    return class_conditional.ClassConditionalDiffusionModel(network(name), network(name), diffusion, num_classes=10)


def loaded(name, folder):
    """The average's weights from each file, by format."""
    yield "tf_checkpoint", whole(name, folder).ema_network.get_weights()
    for file in ("ema_model.h5", "ema_model.keras"):
        net = tf_keras.models.load_model(
            folder / file, custom_objects=ddpm.CUSTOM_OBJECTS, compile=False, safe_mode=False
        )
        yield file, net.get_weights()
    net = network(name)
    zeros = [np.zeros_like(w) for w in net.get_weights()]
    for file in ("ema_weights.h5", "sharded_checkpoint/model"):
        net.set_weights(zeros)
        net.load_weights(folder / file)
        yield file, net.get_weights()
    for prefix, key in (
        ("train_checkpoint/ckpt", "model"),
        ("saved_model/variables/variables", "ema_network" if name == "ddim" else None),
    ):
        net.set_weights(zeros)
        # A SavedModel of the network alone has the network itself at its root.
        checkpoint = tf.train.Checkpoint(**{key: net}) if key else tf.train.Checkpoint(net)
        checkpoint.restore(str(folder / prefix)).expect_partial()
        yield prefix, net.get_weights()


def whole(name, folder):
    model = model_of(name)
    model.load_weights(folder / "tf_checkpoint" / "diffusion_model").expect_partial()
    return model


@pytest.mark.parametrize("name", ["ddpm", "ddim", "class_conditional"])
def test_every_format_holds_the_same_weights(name):
    expected = None
    for file, values in loaded(name, CHECKPOINTS / name):
        expected = expected or values
        assert len(values) == len(expected)
        for a, b in zip(values, expected):
            np.testing.assert_array_equal(a, b, err_msg=file)


@pytest.mark.parametrize("name", ["ddpm", "ddim", "class_conditional"])
def test_stored_checkpoints_make_their_stored_samples(name):
    model, samples = whole(name, CHECKPOINTS / name), np.load(CHECKPOINTS / name / "samples.npz")
    labels = (
        {"labels": samples["labels"], "guidance_scale": float(samples["guidance_scale"])}
        if name == "class_conditional"
        else {}
    )
    for key, net in (("ema", model.ema_network), ("raw", model.network)):
        images = model.ddim_images(samples["noise"], network=net, **labels)
        np.testing.assert_allclose(images, samples[key], atol=1e-3)
    assert np.abs(samples["ema"] - samples["raw"]).max() > 1e-2


def test_written_anew_in_two_shards(tmp_path):
    model = model_of("ddim")
    model.compile(optimizer="adam", loss=tf_keras.losses.MeanAbsoluteError(), kid_encoder=ddim.random_encoder(8, 1))
    model.fit(np.random.default_rng(0).uniform(size=(8, 8, 8, 1)).astype("float32"), verbose=0)
    formats.write_all(model, tmp_path / "out")
    assert len(list((tmp_path / "out" / "sharded_checkpoint").glob("model.data-0000?-of-00002"))) == 2
    for file, values in loaded("ddim", tmp_path / "out"):
        for a, b in zip(values, model.ema_network.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b, err_msg=file)


def test_checkpoints_stay_small():
    assert sum(path.stat().st_size for path in CHECKPOINTS.rglob("*")) < 10_000_000
