"""DINOv2 and CLIP's image encoder against transformers, from files in its layout; see golden/vision/write_vision.py."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import keras_diffusion as kd
from keras_diffusion.containers import open_container
from keras_diffusion.containers.errors import CheckpointError
from keras_diffusion.containers.safetensors import write_safetensors

GOLDEN = Path(__file__).parent.parent / "golden" / "vision"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "io.npz") as arrays:
        return {name: arrays[name] for name in arrays}


@pytest.fixture(scope="module")
def pictures(golden):
    """As the networks take them: channels last, already normalized."""
    return np.ascontiguousarray(golden["pictures"].transpose(0, 2, 3, 1))


@pytest.fixture(scope="module")
def dinov2():
    return kd.metrics.get_extractor("dinov2", weights=GOLDEN / "dinov2", size=28, positions="transformers")


def tensors_of(folder):
    with open_container(GOLDEN / folder) as container:
        return {name: container.read(name) for name in container.tensors}


@pytest.mark.parametrize("name", ["dinov2", "dinov2_registers", "clip"])
def test_numbers_are_those_of_transformers(golden, pictures, name):
    options = {} if name == "clip" else {"size": 28, "positions": "transformers"}
    extractor = kd.metrics.get_extractor(name.split("_")[0], weights=GOLDEN / name, **options)
    ours = extractor.run(pictures)["features"]
    error = np.abs(ours - golden[name]).max() / np.abs(golden[name]).max()
    print(name, error)
    assert error < 1e-5 and ours.shape == (2, extractor.width)
    images = np.random.default_rng(0).integers(0, 256, (3, 20, 24, 1)).astype("uint8")
    assert extractor(images).shape == (3, extractor.width)


def test_original_files_give_the_same(dinov2, pictures, tmp_path):
    """The tensors under their original names, queries, keys and values in one."""
    theirs, ours = tensors_of("dinov2"), {}
    names = {
        "embeddings.cls_token": "cls_token",
        "embeddings.position_embeddings": "pos_embed",
        "embeddings.patch_embeddings.projection": "patch_embed.proj",
        "layernorm": "norm",
        "encoder.layer.": "blocks.",
        "attention.output.dense": "attn.proj",
        "layer_scale1.lambda1": "ls1.gamma",
        "layer_scale2.lambda1": "ls2.gamma",
    }
    for name, tensor in theirs.items():
        for old, new in names.items():
            name = name.replace(old, new)
        if "attention.attention" not in name and "mask_token" not in name:
            ours[name] = tensor
    for i in range(2):
        for leaf in ("weight", "bias"):
            parts = [theirs[f"encoder.layer.{i}.attention.attention.{n}.{leaf}"] for n in ("query", "key", "value")]
            ours[f"blocks.{i}.attn.qkv.{leaf}"] = np.concatenate(parts)
    write_safetensors(tmp_path / "dinov2.safetensors", ours)
    # Without config.json the heads are of 64 channels: here there is one.
    (tmp_path / "config.json").write_text((GOLDEN / "dinov2" / "config.json").read_text(encoding="utf-8"))
    options = {"weights": tmp_path / "dinov2.safetensors", "size": 28}
    again = kd.metrics.get_extractor("dinov2", positions="transformers", **options)
    np.testing.assert_allclose(again.run(pictures)["features"], dinov2.run(pictures)["features"], rtol=1e-6)
    original = kd.metrics.get_extractor("dinov2", **options)
    difference = np.abs(original.run(pictures)["features"] - dinov2.run(pictures)["features"]).max()
    assert 1e-4 < difference < 1.0, "positions a tenth of a patch off"
    assert len({original.fingerprint(), again.fingerprint(), dinov2.fingerprint()}) == 3 - (
        again.fingerprint() == dinov2.fingerprint()
    )


def test_positions_that_fit_are_taken_as_they_are():
    extractor = kd.metrics.get_extractor("dinov2", weights=GOLDEN / "dinov2", size=35)
    table = tensors_of("dinov2")["embeddings.position_embeddings"]
    np.testing.assert_array_equal(kd.keras.ops.convert_to_numpy(extractor.network.positions), table)


def test_an_image_encoder_of_a_pipeline(golden, pictures, tmp_path):
    """diffusers keeps CLIPVisionModelWithProjection in a component's folder."""
    folder = tmp_path / "image_encoder"
    folder.mkdir()
    kept = {name: t for name, t in tensors_of("clip").items() if name.startswith(("vision_model.", "visual_"))}
    write_safetensors(folder / "model.safetensors", kept)
    told = json.loads((GOLDEN / "clip" / "config.json").read_text(encoding="utf-8"))["vision_config"]
    (folder / "config.json").write_text(json.dumps({**told, "architectures": ["CLIPVisionModelWithProjection"]}))
    extractor = kd.metrics.get_extractor("clip", weights=folder)
    np.testing.assert_allclose(extractor.run(pictures)["features"], golden["clip"], atol=1e-4)


def test_files_of_others_are_refused(tmp_path):
    with pytest.raises(ValueError, match="DINOv2 are needed, and nothing is downloaded here.*huggingface.co/facebook"):
        kd.metrics.get_extractor("dinov2")
    with pytest.raises(CheckpointError, match="none of DINOv2"):
        kd.metrics.get_extractor("dinov2", weights=GOLDEN / "clip")
    with pytest.raises(CheckpointError, match="none of CLIP's image encoder"):
        kd.metrics.get_extractor("clip", weights=GOLDEN / "dinov2")
    with pytest.raises(ValueError, match="whole patches of 7 pixels. Received: size=30"):
        kd.metrics.get_extractor("dinov2", weights=GOLDEN / "dinov2", size=30)
    shutil.copytree(GOLDEN / "dinov2", tmp_path / "cut")
    cut = tensors_of("dinov2")
    del cut["encoder.layer.1.mlp.fc2.bias"]
    write_safetensors(tmp_path / "cut" / "model.safetensors", cut)
    with pytest.raises(CheckpointError, match="lacks 1 tensors that the network needs: encoder.layer.1.mlp.fc2.bias"):
        kd.metrics.get_extractor("dinov2", weights=tmp_path / "cut", size=28)
