"""Models that diffusers wrote, and the numbers that it computed with them."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from keras import ops

from keras_diffusion import checkpoints
from keras_diffusion.checkpoints import CheckpointError, open_container
from keras_diffusion.containers.safetensors import write_safetensors
from keras_diffusion.runtime.compile import Compiled, as_tensors

GOLDEN = Path(__file__).parent.parent / "golden" / "diffusers"
CASES = ["unet2d_class_cond_scale_shift", "unet2d_condition_sd2_like", "autoencoder_kl", "dit"]
OUTSIDE = ["unet2d_ddpm", "unet2d_condition_sd1_like"]  # too large for the repository
KEYS = {
    "sample": "x",
    "hidden_states": "x",
    "timestep": "noise_level",
    "encoder_hidden_states": "context",
    "class_labels": "labels",
}


def folder_of(case):
    if case in CASES:
        return GOLDEN / case
    outside = Path(os.environ.get("KERAS_DIFFUSION_GOLDEN", "")) / "diffusers" / case
    if not outside.is_dir():
        pytest.skip("set KERAS_DIFFUSION_GOLDEN to the folder that holds the larger cases")
    return outside


def numbers(case):
    """(inputs, output), channels last."""
    arrays = np.load(folder_of(case) / "io.npz")
    last = {name: np.moveaxis(arrays[name], 1, -1) if arrays[name].ndim == 4 else arrays[name] for name in arrays.files}
    inputs = {KEYS[name.removeprefix("in/")]: value for name, value in last.items() if name != "out"}
    return {key: value.astype("float32") if key != "labels" else value for key, value in inputs.items()}, last["out"]


def run(network, inputs):
    inputs = inputs["x"] if list(inputs) == ["x"] else inputs
    return ops.convert_to_numpy(Compiled(network)(as_tensors(inputs)))


@pytest.mark.parametrize("case", CASES + OUTSIDE)
def test_same_numbers_as_diffusers(case):
    loaded = checkpoints.load(folder_of(case) / "model")
    inputs, expected = numbers(case)
    error = np.abs(run(loaded.network, inputs) - expected).max() / np.abs(expected).max()
    assert error < 1e-5
    assert not loaded.report.missing and not loaded.report.unused and loaded.report.family == "diffusers"


def tensors_of(case):
    with open_container(GOLDEN / case / "model") as container:
        return {name: container.read(name) for name in container.tensors}


def weights_of(network):
    return [ops.convert_to_numpy(weight) for weight in network.weights]


def same_weights(a, b):
    return all(np.array_equal(p, q) for p, q in zip(weights_of(a.network), weights_of(b.network), strict=True))


def with_config(case, folder):
    folder.mkdir()
    shutil.copy(GOLDEN / case / "model" / "config.json", folder)
    return folder


def old_attention(name):
    """The names that attention had before 2023."""
    for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
        name = name.replace(f".{new}.", f".{old}.") if "attentions" in name else name
    return name


def flax_tree(tensors):
    """The nested dict of a Flax model: lists are names with numbers, kernels have their inputs before their outputs."""
    tree = {}
    for name, array in tensors.items():
        *path, leaf = name.split(".")
        parts = []
        for part in path:
            parts = [*parts[:-1], f"{parts[-1]}_{part}"] if part.isdigit() else [*parts, part]
        if leaf == "weight":
            table = "class_embedding" in name
            leaf = "embedding" if table else {1: "scale"}.get(array.ndim, "kernel")
            array = (
                array
                if table
                else np.ascontiguousarray(array.transpose(2, 3, 1, 0))
                if array.ndim == 4
                else array.T.copy()
            )
        inner = tree
        for part in parts:
            inner = inner.setdefault(part, {})
        inner[leaf] = array
    return tree


def msgpack(value):
    """msgpack as Flax writes it."""
    if isinstance(value, dict):
        return b"\xdf" + len(value).to_bytes(4, "big") + b"".join(msgpack(x) for pair in value.items() for x in pair)
    if isinstance(value, (list, tuple)):
        return b"\xdc" + len(value).to_bytes(2, "big") + b"".join(map(msgpack, value))
    if isinstance(value, str):
        return b"\xd9" + bytes([len(value)]) + value.encode()
    if isinstance(value, int):
        return b"\xce" + value.to_bytes(4, "big")
    if isinstance(value, bytes):
        return b"\xc6" + len(value).to_bytes(4, "big") + value
    inner = msgpack((value.shape, value.dtype.name, value.tobytes()))
    return b"\xc9" + len(inner).to_bytes(4, "big") + b"\x01" + inner


@pytest.mark.parametrize("case", ["unet2d_class_cond_scale_shift", "autoencoder_kl"])
def test_old_names_and_flax_give_the_same_weights(case, tmp_path):
    tensors = {old_attention(name): array for name, array in tensors_of(case).items()}
    old, flax = with_config(case, tmp_path / "old"), with_config(case, tmp_path / "flax")
    write_safetensors(old / "diffusion_pytorch_model.safetensors", tensors)
    (flax / "diffusion_flax_model.msgpack").write_bytes(msgpack(flax_tree(tensors)))
    expected = checkpoints.load(GOLDEN / case / "model", verbose=0)
    assert same_weights(checkpoints.load(old, verbose=0), expected)
    assert same_weights(checkpoints.load(flax, verbose=0), expected)


@pytest.mark.slow
def test_shapes_tell_the_network_where_there_is_no_config(tmp_path):
    """All but what they cannot tell, which `config` gives."""
    for case in CASES:
        shutil.copy(GOLDEN / case / "model" / "diffusion_pytorch_model.safetensors", tmp_path / f"{case}.safetensors")
        found = checkpoints.inspect(tmp_path / f"{case}.safetensors").config
        told = json.loads((GOLDEN / case / "model" / "config.json").read_text())
        differ = {key for key in found if key in told and found[key] != told[key]}
        differ -= {"up_block_types"}  # the finest level changes no size, by whatever means
        assert differ <= {"sample_size", "attention_head_dim", "num_attention_heads", "norm_num_groups"}, case
    options = {"attention_head_dim": [2, 4], "norm_num_groups": 8}
    loaded = checkpoints.load(tmp_path / "unet2d_condition_sd2_like.safetensors", config=options, verbose=0)
    inputs, expected = numbers("unet2d_condition_sd2_like")
    np.testing.assert_allclose(run(loaded.network, inputs), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_half_precision_is_read_as_float32(tmp_path):
    folder = with_config("dit", tmp_path / "half")
    halved = {name: array.astype("float16") for name, array in tensors_of("dit").items()}
    write_safetensors(folder / "diffusion_pytorch_model.fp16.safetensors", halved)
    network = checkpoints.load(folder, verbose=0).network
    (full,) = [w for w in network.weights if w.path.endswith("patch_embedding/bias")]
    np.testing.assert_array_equal(ops.convert_to_numpy(full), halved["pos_embed.proj.bias"].astype("float32"))


@pytest.mark.slow
def test_a_learned_variance_is_left_to_itself():
    loaded = checkpoints.load(GOLDEN / "unet2d_class_cond_scale_shift" / "model", verbose=0)
    assert any("variance" in note for note in loaded.report.notes)
    model = loaded.diffusion_model(ema=None)
    assert model.condition_dropout == 0 and type(model.predictor).__name__ == "VPredictor"
    assert model.noise_schedule.zero_terminal_snr and model.noise_schedule.spacing == {"name": "leading", "offset": 0}
    assert model.sample_shape == (16, 16, 3)
    images = model.generate(2, {"labels": [1, 9]}, num_steps=2, sampler="ddim", seed=0)
    assert images.shape == (2, 16, 16, 3) and np.isfinite(images).all()
    with pytest.raises(ValueError, match="which this network does not know.*`negative_conditions`"):
        model.generate(2, {"labels": [1, 9]}, num_steps=2, sampler="ddim", seed=0, guidance_scale=2.0)
    model.compile(optimizer="sgd")
    data = {"images": np.zeros((2, 16, 16, 3), "float32"), "labels": np.array([0, 9])}
    assert np.isfinite(model.fit(data, verbose=0, batch_size=2).history["loss"][0])


@pytest.mark.slow
@pytest.mark.parametrize(
    "case, config, text",
    [
        ("dit", {"widths": [1]}, "The config of a DiTTransformer2DModel has the keys .* Received: widths"),
        ("dit", {"norm_type": "ada_norm"}, "norm_type='ada_norm_zero' alone. Received: norm_type='ada_norm'"),
        ("dit", {"sample_size": 7}, "makes no network here: Patches of 2 × 2"),
        (
            "unet2d_condition_sd2_like",
            {"addition_embed_type": "text_time"},
            "Received: addition_embed_type='text_time'",
        ),
        ("unet2d_condition_sd2_like", {"up_block_types": ["UpBlock2D"] * 2}, "the same on the way up"),
        (
            "unet2d_class_cond_scale_shift",
            {"down_block_types": ["KDownBlock2D"] * 2},
            "Received: down_types.*KDownBlock2D",
        ),
        ("autoencoder_kl", {"out_channels": 1}, "as many channels in as out"),
        ("autoencoder_kl", {"layers_per_block": 2}, "The file lacks .* tensors"),
    ],
)
def test_errors(case, config, text):
    with pytest.raises(CheckpointError, match=text):
        checkpoints.load(GOLDEN / case / "model", config=config, verbose=0)
