"""The two Keras examples: every format of `tests/golden/keras2`, against the outputs that TensorFlow gave."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from keras_diffusion import checkpoints
from keras_diffusion.checkpoints import CheckpointError, open_container
from keras_diffusion.networks import DDPMUNet, ResidualUNet

GOLDEN = Path(__file__).parents[1] / "golden" / "keras2"
DDPM = ("weights.h5", "model.h5", "model.keras", "tf_checkpoint/model", "train_checkpoint/ckpt", "saved_model")
DDIM_PAIR = ("tf_checkpoint/diffusion_model", "saved_model")
DDIM_ONE = ("ema_weights.h5", "ema_model.h5", "ema_model.keras", "network_weights.h5")


def load(path, **options):
    return checkpoints.load(GOLDEN / path, verbose=0, **options)


def relative_error(loaded, inputs, expected):
    output = ops.convert_to_numpy(loaded.network(inputs, training=False))
    return np.abs(output - expected).max() / np.abs(expected).max()


def ddpm_error(loaded):
    with np.load(GOLDEN / "ddpm_unet" / "io.npz") as io:
        return relative_error(loaded, {"x": io["image"], "noise_level": io["time"].astype("float32")}, io["out"])


def ddim_error(loaded, which):
    with np.load(GOLDEN / "ddim_residual_unet" / "io.npz") as io:
        return relative_error(loaded, {"x": io["image"], "noise_level": io["noise_variance"].ravel()}, io[f"out_{which}"])


@pytest.mark.parametrize("file", DDPM)
def test_ddpm(file):
    loaded = load(f"ddpm_unet/{file}")
    assert type(loaded.network) is DDPMUNet and loaded.report.family == "keras_ddpm"
    assert not loaded.report.missing and not loaded.report.unused and loaded.report.weights == "raw"
    assert ddpm_error(loaded) < 1e-5
    about = json.loads((GOLDEN / "ddpm_unet" / "about.json").read_text())["config"]
    found = loaded.config
    assert (found["widths"], found["has_attention"], found["num_res_blocks"]) == (about["widths"], about["att"], about["nres"])
    assert found["norm_groups"] == about["g"] and found["first_conv_channels"] == about["first"]
    assert found["input_shape"] == ([16, 16, 3] if "model" in file.split("/")[0] else [None, None, 3])


@pytest.mark.parametrize("file, weights", [(file, weights) for file in DDIM_PAIR for weights in ("ema", "raw")])
def test_ddim_with_both_sets(file, weights):
    loaded = load(f"ddim_residual_unet/{file}", weights=weights)
    assert type(loaded.network) is ResidualUNet and loaded.report.weights == weights
    assert not loaded.report.missing and not loaded.report.unused
    right, wrong = ("ema", "network") if weights == "ema" else ("network", "ema")
    assert ddim_error(loaded, right) < 1e-4 and ddim_error(loaded, wrong) > 1e-2
    with np.load(GOLDEN / "ddim_residual_unet" / "io.npz") as io:
        np.testing.assert_array_equal(loaded.normalizer.mean, io["normalizer_mean"].ravel())
        np.testing.assert_array_equal(loaded.normalizer.variance, io["normalizer_variance"].ravel())


@pytest.mark.parametrize("file", DDIM_ONE)
def test_ddim_alone(file):
    loaded = load(f"ddim_residual_unet/{file}")
    which = file.split("_")[0]
    assert ddim_error(loaded, which) < 1e-4
    assert loaded.report.weights == ("ema" if which == "ema" else "raw")
    assert loaded.normalizer is None and any("no normalizer" in note for note in loaded.report.notes)
    assert any("no averaged weights" in note for note in loaded.report.notes) == (which == "network")


def test_conventions_of_ddpm():
    loaded = load("ddpm_unet/weights.h5", config={"timesteps": 500})
    assert loaded.noise_schedule.timesteps == loaded.predictor.timesteps == 500
    assert loaded.predictor.condition == "timestep" and loaded.normalizer is None
    levels = load("ddpm_unet/weights.h5").noise_schedule.levels([1 / 1000])
    assert levels.sigma[0] ** 2 == pytest.approx(1e-4)


def test_conventions_of_ddim():
    loaded = load("ddim_residual_unet/tf_checkpoint/diffusion_model")
    levels = loaded.noise_schedule.levels([0.0, 0.5, 1.0])
    middle = np.cos((np.arccos(0.95) + np.arccos(0.02)) / 2)
    np.testing.assert_allclose(levels.alpha, [0.95, middle, 0.02], rtol=1e-6)
    assert loaded.predictor.condition == "noise_variance" and loaded.noise_schedule.spacing == "trailing"


@pytest.mark.parametrize("file, size", [("ddpm_unet/weights.h5", None), ("ddim_residual_unet/saved_model", 16)])
def test_generates(file, size):
    config = {} if size else {"size": 16}
    samples = load(file, config=config).diffusion_model().generate(1, num_steps=2, sampler="ddim", seed=0)
    assert samples.shape == (1, 16, 16, 3) and np.abs(samples).max() <= 1


@pytest.mark.parametrize("family", ["ddpm_unet", "ddim_residual_unet"])
def test_about_json_describes_the_network(family):
    config = json.loads((GOLDEN / family / "about.json").read_text())["config"]
    loaded = load(f"{family}/{'weights' if family == 'ddpm_unet' else 'ema_weights'}.h5", config=config)
    assert loaded.config["input_shape"] == [16, 16, 3]


@pytest.mark.parametrize(
    "file, config, text",
    [
        ("ddpm_unet/weights.h5", {"widths": [16, 64]}, r"`widths` follows from the shapes .* Received: widths=\[16, 64\].* \[16, 32\]"),
        ("ddpm_unet/weights.h5", {"att": [True, True]}, "`has_attention` follows from the shapes"),
        ("ddpm_unet/weights.h5", {"ch": 1}, "`channels` follows from the shapes .* Received: channels=1, the file has 3"),
        ("ddpm_unet/weights.h5", {"size": 15}, "does not describe a DDPM U-Net .* multiple of 2"),
        ("ddpm_unet/weights.h5", {"g": 0}, "does not describe a DDPM U-Net .* norm_groups=0"),
        ("ddpm_unet/weights.h5", {"depth": 2}, "Unknown argument of a DDPM U-Net .*: 'depth'. Known: input_shape, widths, .*, nres, g"),
        ("ddim_residual_unet/ema_weights.h5", {"depth": 1}, "`block_depth` follows from the shapes"),
        ("ddim_residual_unet/ema_weights.h5", {"emb": 32}, "`embedding_dims` follows from the shapes"),
        ("ddim_residual_unet/ema_weights.h5", {"maxf": 0.5}, "does not describe a DDIM .* max_frequency=0.5"),
    ],
)
def test_wrong_config(file, config, text):
    with pytest.raises(CheckpointError, match=text):
        load(file, config=config)


def test_numbers_beside_the_marshalled_code_are_read_and_stand_below_the_users():
    with open_container(GOLDEN / "ddim_residual_unet" / "ema_model.h5") as container:
        family = checkpoints.families()[[f.name for f in checkpoints.families()].index("keras_ddim")]
        (layer,) = [entry for entry in container.config_of("")["layers"] if entry["class_name"] == "Lambda"]
        layer["config"]["function"][2] = [16, 300.0]
        assert family.read_config(container, "", {})["embedding_max_frequency"] == 300.0
        assert family.read_config(container, "", {"maxf": 500.0})["embedding_max_frequency"] == 500.0


def test_what_the_network_here_has_fixed_must_agree_with_the_file():
    with open_container(GOLDEN / "ddpm_unet" / "model.h5") as container:
        family = checkpoints.families()[[f.name for f in checkpoints.families()].index("keras_ddpm")]
        for layer in container.config_of("")["layers"]:
            if layer["class_name"] == "UpSampling2D":
                layer["config"]["interpolation"] = "bilinear"
        with pytest.raises(CheckpointError, match="`interpolation` of UpSampling2D is 'nearest'.*Received: interpolation='bilinear'"):
            family.read_config(container, "", {})


def test_layers_in_another_order_are_refused():
    with open_container(GOLDEN / "ddpm_unet" / "weights.h5") as container:
        family = checkpoints.families()[[f.name for f in checkpoints.families()].index("keras_ddpm")]
        layers, network = container.layers(""), DDPMUNet((16, 16, 3), (16, 32), (True, True), 1, 16)
        with pytest.raises(CheckpointError, match=r"layer 8 \('conv2d_3'\) is a convolution, expected is an attention block"):
            list(family.sources(container, "", network, {}))
        container.layers = lambda root: layers[1:]
        assert not family.recognizes(container)


@pytest.mark.slow
def test_keras_2_can_be_told_from_any_other_network(tmp_path):
    network = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(2, 3), keras.layers.BatchNormalization()])
    network.save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(CheckpointError, match="not known whose network"):
        checkpoints.load(tmp_path / "other.weights.h5")
