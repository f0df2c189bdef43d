"""Autoencoders of diffusers: the kinds of `AutoencoderKL`, and `AutoencoderTiny`, both ways."""

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from keras_diffusion import checkpoints, networks
from keras_diffusion.checkpoints import CheckpointError, open_container

GOLDEN = Path(__file__).parent.parent / "golden" / "diffusers"
KL = ["autoencoder_kl_sd3_like", "autoencoder_kl_latents_mean"]
TINY = ["autoencoder_tiny", "autoencoder_tiny_flux_like"]
SCALES = {
    "autoencoder_kl_sd3_like": (1.5305, 0.0609),
    "autoencoder_kl_latents_mean": (
        0.13025 / np.array([0.5, 2.0, 1.25, 0.8]),
        np.array([-1.5, 2.25, 0.125, -0.5]),
    ),
    "autoencoder_tiny": (1.0, 0.0),
    "autoencoder_tiny_flux_like": (1.0, 0.0),
}


def loaded(case, **options):
    return checkpoints.load(GOLDEN / case / "model", verbose=0, **options)


def golden(case):
    """The arrays of diffusers, channels last."""
    arrays = np.load(GOLDEN / case / "io.npz")
    return {name: np.moveaxis(arrays[name], 1, -1) for name in arrays.files}


def tensors_of(path):
    with open_container(path) as container:
        return {name: container.read(name) for name in container.tensors}


def close(found, expected):
    return np.abs(ops.convert_to_numpy(found) - expected).max() < 1e-5 * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("case", KL + TINY)
def test_same_numbers_as_diffusers(case):
    found, numbers = loaded(case), golden(case)
    autoencoder, (scale, shift) = found.network, SCALES[case]
    assert not found.report.missing and not found.report.unused
    assert close(autoencoder.means(numbers["images"]), numbers["mean"])
    assert close(autoencoder.encode(numbers["images"]), scale * (numbers["mean"] - shift))
    assert close(autoencoder.decode((numbers["latents"] - shift) * scale), numbers["decoded"])
    if case in KL:
        assert close(autoencoder.moments(numbers["images"])[1], numbers["logvar"])
    else:
        bytes_ = ops.convert_to_numpy(autoencoder.to_bytes(numbers["latents"]))
        np.testing.assert_array_equal(bytes_, numbers["bytes"])
        assert close(autoencoder.from_bytes(numbers["bytes"]), numbers["from_bytes"])


@pytest.mark.parametrize("case", KL + TINY)
def test_what_was_loaded_goes_back_as_it_was(case, tmp_path):
    before = tensors_of(GOLDEN / case / "model")
    told = json.loads((GOLDEN / case / "model" / "config.json").read_text())
    told.pop("block_out_channels" if case in TINY else "sample_size")  # a copy of another key; not known to the network
    for name, model in (("loaded", loaded(case)), ("derived", loaded(case).network)):
        folder = checkpoints.export(model, tmp_path / name)
        after = tensors_of(folder)
        assert before.keys() == after.keys()
        for tensor, array in before.items():
            np.testing.assert_array_equal(after[tensor], array, err_msg=tensor)
        written = json.loads((folder / "config.json").read_text())
        differ = {key for key in told if written.get(key) != told[key]} - {"_diffusers_version"}
        # A scale per channel is written without a common factor.
        assert differ <= ({"scaling_factor", "latents_std"} if (name, case) == ("derived", KL[1]) else set())
    again = checkpoints.load(tmp_path / "derived", verbose=0).network
    np.testing.assert_allclose(again.scale, SCALES[case][0], rtol=1e-12)
    np.testing.assert_array_equal(again.shift, SCALES[case][1])


@pytest.mark.parametrize("case", ["autoencoder_kl_sd3_like", "autoencoder_tiny", "autoencoder_tiny_flux_like"])
def test_shapes_tell_the_network_where_there_is_no_config(case, tmp_path):
    shutil.copy(GOLDEN / case / "model" / "diffusion_pytorch_model.safetensors", tmp_path / "model.safetensors")
    found = checkpoints.inspect(tmp_path / "model.safetensors").config
    told = json.loads((GOLDEN / case / "model" / "config.json").read_text())
    differ = {key for key in found if key in told and found[key] != told[key]}
    assert differ <= {"sample_size", "norm_num_groups", "scaling_factor", "shift_factor", "act_fn"}
    given = {"scaling_factor": 1.5305, "norm_num_groups": 4} if case in KL else {}
    loaded = checkpoints.load(tmp_path / "model.safetensors", config=given, verbose=0)
    assert loaded.network.scale == told["scaling_factor"]
    assert any("Assumed: scaling_factor=1.5305" in note for note in loaded.report.notes) == (case in KL)


def test_autoencoders_that_overflow_stay_in_single_precision():
    policy = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("mixed_float16")
        assert loaded("autoencoder_kl_sd3_like").network.compute_dtype == "float32"
        assert loaded("autoencoder_kl_sd3_like", config={"force_upcast": False}).network.compute_dtype == "float16"
        assert loaded("autoencoder_tiny").network.compute_dtype == "float16"
    finally:
        keras.config.set_dtype_policy(policy)


def test_file_round_trip(tmp_path):
    autoencoder = loaded("autoencoder_tiny").network
    autoencoder.save(tmp_path / "tiny.keras")
    again = keras.saving.load_model(tmp_path / "tiny.keras")
    assert again.get_config() == autoencoder.get_config()
    latents = golden("autoencoder_tiny")["latents"]
    np.testing.assert_array_equal(*(ops.convert_to_numpy(one.decode(latents)) for one in (again, autoencoder)))


@pytest.mark.parametrize(
    "case, config, text",
    [
        (KL[1], {"latents_std": [1.0, 1.0]}, r"for each of their 4 channels, or neither. Received: .*latents_std=\[1"),
        (KL[1], {"latents_std": [1.0, 1.0, 0.0, 1.0]}, "a standard deviation > 0"),
        (KL[1], {"latents_mean": None}, "or neither. Received: latents_mean=None"),
        (KL[1], {"latents_mean": "0123"}, "for each of their 4 channels"),
        (KL[1], {"shift_factor": 0.1}, "by `shift_factor` or by `latents_mean`. Received: both"),
        (KL[0], {"scaling_factor": 0.0}, "`scale` must be a finite number > 0"),
        (TINY[0], {"upsample_fn": "bilinear"}, "know upsample_fn='nearest' alone"),
        (TINY[0], {"encoder_block_out_channels": [8, 8, 16]}, "one width for all levels"),
        (TINY[0], {"num_decoder_blocks": [2, 1]}, "The decoder doubles as often as the encoder halves"),
        (TINY[0], {"num_decoder_blocks": [2, 1, 2]}, "The file lacks .* tensors"),
    ],
)
def test_errors(case, config, text):
    with pytest.raises(CheckpointError, match=text):
        loaded(case, config=config)


def test_a_scale_for_each_channel_is_not_written_for_the_small_one(tmp_path):
    autoencoder = networks.AutoencoderTiny(4, (1, 1), (1, 1), scale=[1.0, 2.0, 3.0, 4.0])
    with pytest.raises(ValueError, match=r"has one scale and one shift.*set_scaling\(1.0\)"):
        checkpoints.export(autoencoder, tmp_path / "tiny")


@pytest.mark.slow
@pytest.mark.parametrize("case", KL + TINY)
def test_diffusers_reads_it(case, tmp_path):
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
    folder = checkpoints.export(loaded(case).network, tmp_path / "model")
    cls = getattr(diffusers, json.loads((folder / "config.json").read_text())["_class_name"])
    expected = cls.from_pretrained(GOLDEN / case / "model").state_dict()
    found = cls.from_pretrained(folder).state_dict()
    assert expected.keys() == found.keys() and all(bool((expected[name] == found[name]).all()) for name in expected)
