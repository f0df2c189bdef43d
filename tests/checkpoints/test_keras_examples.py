"""The two Keras examples: every format of `golden/keras2.tar.xz`, against the outputs that TensorFlow gave."""

import json

import keras
import numpy as np
import pytest
from calling import call

from keras_diffusion import checkpoints
from keras_diffusion.checkpoints import CheckpointError, open_container
from keras_diffusion.networks import DDPMUNet, ResidualUNet

DDPM = ("weights.h5", "model.h5", "model.keras", "tf_checkpoint/model", "train_checkpoint/ckpt", "saved_model")
DDIM_PAIR = ("tf_checkpoint/diffusion_model", "saved_model")
DDIM_ONE = ("ema_weights.h5", "ema_model.h5", "ema_model.keras", "network_weights.h5")


@pytest.fixture(scope="module")
def load(keras2):
    """`checkpoints.load` of a golden file."""
    return lambda path, **options: checkpoints.load(keras2 / path, verbose=0, **options)


@pytest.fixture(scope="module")
def io(keras2):
    """Inputs and outputs by folder."""
    return {folder: dict(np.load(keras2 / folder / "io.npz")) for folder in ("ddpm_unet", "ddim_residual_unet")}


def relative_error(loaded, io, output="out"):
    """Largest difference from the stored output, over its largest value."""
    level = io["time"].astype("float32") if "time" in io else io["noise_variance"].ravel()
    values = call(loaded.network, {"x": io["image"], "noise_level": level})
    return np.abs(values - io[output]).max() / np.abs(io[output]).max()


def family(name):
    return next(family for family in checkpoints.families() if family.name == name)


@pytest.mark.parametrize("file", DDPM)
def test_ddpm(file, load, io, keras2):
    loaded = load(f"ddpm_unet/{file}")
    assert type(loaded.network) is DDPMUNet and loaded.report.family == "keras_ddpm"
    assert not loaded.report.missing and not loaded.report.unused and loaded.report.weights == "raw"
    assert relative_error(loaded, io["ddpm_unet"]) < 1e-5
    about = json.loads((keras2 / "ddpm_unet" / "about.json").read_text())["config"]
    found = loaded.config
    assert (found["widths"], found["has_attention"], found["num_res_blocks"]) == (
        about["widths"],
        about["att"],
        about["nres"],
    )
    assert found["norm_groups"] == about["g"] and found["first_conv_channels"] == about["first"]
    assert found["input_shape"] == ([16, 16, 3] if "model" in file.split("/")[0] else [None, None, 3])


@pytest.mark.parametrize("file, weights", [(file, weights) for file in DDIM_PAIR for weights in ("ema", "raw")])
def test_ddim_with_both_sets(file, weights, load, io):
    loaded = load(f"ddim_residual_unet/{file}", weights=weights)
    assert type(loaded.network) is ResidualUNet and loaded.report.weights == weights
    assert not loaded.report.missing and not loaded.report.unused
    right, wrong = ("ema", "network") if weights == "ema" else ("network", "ema")
    stored = io["ddim_residual_unet"]
    assert (
        relative_error(loaded, stored, f"out_{right}") < 1e-4 and relative_error(loaded, stored, f"out_{wrong}") > 1e-2
    )
    np.testing.assert_array_equal(loaded.normalizer.mean, stored["normalizer_mean"].ravel())
    np.testing.assert_array_equal(loaded.normalizer.variance, stored["normalizer_variance"].ravel())


@pytest.mark.parametrize("file", DDIM_ONE)
def test_ddim_alone(file, load, io):
    loaded = load(f"ddim_residual_unet/{file}")
    which = file.split("_")[0]
    assert relative_error(loaded, io["ddim_residual_unet"], f"out_{which}") < 1e-4
    assert loaded.report.weights == ("ema" if which == "ema" else "raw")
    assert loaded.normalizer is None and any("no normalizer" in note for note in loaded.report.notes)
    assert any("no averaged weights" in note for note in loaded.report.notes) == (which == "network")


def test_conventions_of_ddpm(load):
    loaded = load("ddpm_unet/weights.h5", config={"timesteps": 500})
    assert loaded.noise_schedule.timesteps == loaded.predictor.timesteps == 500
    assert loaded.predictor.condition == "timestep" and loaded.normalizer is None
    levels = load("ddpm_unet/weights.h5").noise_schedule.levels([1 / 1000])
    assert levels.sigma[0] ** 2 == pytest.approx(1e-4)


def test_conventions_of_ddim(load):
    loaded = load("ddim_residual_unet/tf_checkpoint/diffusion_model")
    levels = loaded.noise_schedule.levels([0.0, 0.5, 1.0])
    middle = np.cos((np.arccos(0.95) + np.arccos(0.02)) / 2)
    np.testing.assert_allclose(levels.alpha, [0.95, middle, 0.02], rtol=1e-6)
    assert loaded.predictor.condition == "noise_variance" and loaded.noise_schedule.spacing == "trailing"


@pytest.mark.parametrize("file, size", [("ddpm_unet/weights.h5", None), ("ddim_residual_unet/saved_model", 16)])
def test_generates(file, size, load):
    config = {} if size else {"size": 16}
    samples = load(file, config=config).diffusion_model().generate(1, num_steps=2, sampler="ddim", seed=0)
    assert samples.shape == (1, 16, 16, 3) and np.abs(samples).max() <= 1


@pytest.mark.parametrize("folder", ["ddpm_unet", "ddim_residual_unet"])
def test_about_json_describes_the_network(folder, load, keras2):
    config = json.loads((keras2 / folder / "about.json").read_text())["config"]
    loaded = load(f"{folder}/{'weights' if folder == 'ddpm_unet' else 'ema_weights'}.h5", config=config)
    assert loaded.config["input_shape"] == [16, 16, 3]


@pytest.mark.parametrize(
    "file, config, text",
    [
        (
            "ddpm_unet/weights.h5",
            {"widths": [16, 64]},
            r"`widths` follows from the shapes .* Received: widths=\[16, 64\].* \[16, 32\]",
        ),
        ("ddpm_unet/weights.h5", {"att": [True, True]}, "`has_attention` follows from the shapes"),
        (
            "ddpm_unet/weights.h5",
            {"ch": 1},
            "`channels` follows from the shapes .* Received: channels=1, the file has 3",
        ),
        ("ddpm_unet/weights.h5", {"size": 15}, "does not describe a DDPM U-Net .* multiple of 2"),
        ("ddpm_unet/weights.h5", {"g": 0}, "does not describe a DDPM U-Net .* norm_groups=0"),
        (
            "ddpm_unet/weights.h5",
            {"depth": 2},
            "Unknown argument of a DDPM U-Net .*: 'depth'. Known: input_shape, widths, .*, nres, g",
        ),
        ("ddim_residual_unet/ema_weights.h5", {"depth": 1}, "`block_depth` follows from the shapes"),
        ("ddim_residual_unet/ema_weights.h5", {"emb": 32}, "`embedding_dims` follows from the shapes"),
        ("ddim_residual_unet/ema_weights.h5", {"maxf": 0.5}, "does not describe a DDIM .* max_frequency=0.5"),
    ],
)
def test_wrong_config(file, config, text, load):
    with pytest.raises(CheckpointError, match=text):
        load(file, config=config)


def test_numbers_beside_the_marshalled_code_are_read_and_stand_below_the_users(keras2):
    with open_container(keras2 / "ddim_residual_unet" / "ema_model.h5") as container:
        (layer,) = [entry for entry in container.config_of("")["layers"] if entry["class_name"] == "Lambda"]
        layer["config"]["function"][2] = [16, 300.0]
        assert family("keras_ddim").read_config(container, "", {})["embedding_max_frequency"] == 300.0
        assert family("keras_ddim").read_config(container, "", {"maxf": 500.0})["embedding_max_frequency"] == 500.0


def test_what_the_network_here_has_fixed_must_agree_with_the_file(keras2):
    with open_container(keras2 / "ddpm_unet" / "model.h5") as container:
        for layer in container.config_of("")["layers"]:
            if layer["class_name"] == "UpSampling2D":
                layer["config"]["interpolation"] = "bilinear"
        with pytest.raises(
            CheckpointError, match="`interpolation` of UpSampling2D is 'nearest'.*Received: interpolation='bilinear'"
        ):
            family("keras_ddpm").read_config(container, "", {})


def test_layers_in_another_order_are_refused(keras2):
    with open_container(keras2 / "ddpm_unet" / "weights.h5") as container:
        layers, network = container.layers(""), DDPMUNet((16, 16, 3), (16, 32), (True, True), 1, 16)
        with pytest.raises(
            CheckpointError, match=r"layer 8 \('conv2d_3'\) is a convolution, expected is an attention block"
        ):
            list(family("keras_ddpm").sources(container, "", network, {}))
        container.layers = lambda root: layers[1:]
        assert not family("keras_ddpm").recognizes(container)


@pytest.mark.slow
def test_keras_2_can_be_told_from_any_other_network(tmp_path):
    network = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(2, 3), keras.layers.BatchNormalization()])
    network.save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(CheckpointError, match="not known whose network"):
        checkpoints.load(tmp_path / "other.weights.h5")
