"""safetensors, their shards, and folders of diffusers."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from keras_diffusion.checkpoints import CheckpointError
from keras_diffusion.containers import open_container

TINY = Path(__file__).parents[1] / "golden" / "tiny_weights"
WEIGHTS = np.load(TINY / "weights.npz")
KERNEL = WEIGHTS["kernel"].transpose(3, 2, 0, 1)


def write(path, header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)


def entry(shape, start, stop, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def test_formats(tmp_path):
    values = {
        "F64": np.array([1.5, -2.0]),
        "F32": np.array([0.1, 3e38], "float32"),
        "F16": np.array([0.5, 65504], "float16"),
        "BF16": np.array([0x3F80, 0xC040], "uint16"),  # 1, −3
        "I64": np.array([-1, 2**62]),
        "U8": np.array([0, 255], "uint8"),
        "BOOL": np.array([True, False]),
        "F8_E4M3": np.array([1, 2], "uint8"),
    }
    header, start = {"__metadata__": {"format": "pt"}}, 0
    for name, value in values.items():
        header[name] = entry([1, 2], start, start + value.nbytes, name)
        start += value.nbytes
    write(tmp_path / "a.safetensors", header, b"".join(value.tobytes() for value in values.values()))
    with open_container(tmp_path / "a.safetensors") as container:
        assert container.metadata == {"format": "pt"}
        assert container.tensors["BF16"] == ((1, 2), "bfloat16")
        np.testing.assert_array_equal(container.read("BF16"), [[1.0, -3.0]])
        with pytest.raises(CheckpointError, match="unsupported float8"):
            container.read("F8_E4M3")
        for name in ("F64", "F32", "F16", "I64", "U8", "BOOL"):
            np.testing.assert_array_equal(container.read(name), values[name][None])
        assert container.read("F16").dtype == container.read("BF16").dtype == "float32"


@pytest.mark.parametrize(
    "header",
    [
        {"a": entry([2], 0, 8), "b": entry([2], 4, 12)},  # overlap
        {"a": entry([1], 0, 4), "b": entry([2], 8, 16)},  # gap
        {"a": entry([2], 0, 8)},  # bytes that belong to nothing
        {"a": entry([5], 0, 20)},  # beyond the end
        {"a": entry([2], 0, 16)},
        {"a": entry([-4], 0, 16)},
        {"a": entry([2**70, 0], 0, 0), "b": entry([4], 0, 16)},
        {"a": entry([4], 16, 0)},
        {"a": entry([True, 4], 0, 16)},
        {"a": {"dtype": "F32", "shape": [4]}},
        {"a": 3},
        b"{%(a)s, %(a)s}" % {b"a": b'"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}'},
        b"{" + b"[" * 100_000,
        b"{\xff",
        b"[]",
    ],
)
def test_wrong_headers_are_refused(header, tmp_path):
    write(tmp_path / "a.safetensors", header, bytes(16))
    with pytest.raises(CheckpointError, match="a.safetensors"):
        open_container(tmp_path / "a.safetensors")


@pytest.mark.parametrize("length", [2**63, 99_000_000, 1000])
def test_a_header_longer_than_the_file_is_refused(length, tmp_path):
    write(tmp_path / "a.safetensors", b"{}", length=length)
    with pytest.raises(CheckpointError):
        open_container(tmp_path / "a.safetensors")


def test_pipelines():
    with open_container(TINY / "pipeline") as container:
        assert container.roots == ("vae", "unet_ema", "unet")
        assert container.config_of("vae") == {"_class_name": "AutoencoderKL", "in_channels": 2}
        assert container.metadata["scheduler"]["prediction_type"] == "v_prediction"
        assert container.metadata["components"] == {
            "vae": "AutoencoderKL",
            "unet": "UNet2DModel",
            "scheduler": "DDPMScheduler",
        }
        assert container.metadata["files"]["unet"] == "diffusion_pytorch_model.safetensors"
        assert container.metadata["not_taken"] == [
            "unet/diffusion_pytorch_model.bin",
            "unet/diffusion_pytorch_model.fp16.safetensors",
        ]
        for root in ("vae", "unet"):
            np.testing.assert_array_equal(container.read(f"{root}/conv.weight"), KERNEL)
        np.testing.assert_allclose(container.read("unet_ema/conv.weight"), 2 * KERNEL, rtol=2.0**-8)
        assert {layer.name: set(layer.weights) for layer in container.layers("unet")} == {
            "conv": {"weight", "bias"},
            "norm": {"weight"},
        }


@pytest.mark.parametrize(
    "path",
    ["unet", "vae", "unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors.index.json"],
)
def test_components_and_single_files(path):
    with open_container(TINY / "pipeline" / path) as container:
        assert container.roots == ("",)
        assert container.config_of()["_class_name"] == ("UNet2DModel" if path.startswith("unet") else "AutoencoderKL")
        assert container.metadata["scheduler"]["_class_name"] == "DDPMScheduler"
        np.testing.assert_array_equal(container.read("conv.weight"), KERNEL)


def test_which_file_of_a_component_is_taken(tmp_path):
    """One after the other is taken away, and the next best is taken."""
    folder = tmp_path / "unet"
    shutil.copytree(TINY / "pipeline" / "unet", folder)
    whole = (folder / "diffusion_pytorch_model.safetensors").read_bytes()
    (folder / "diffusion_pytorch_model.non_ema.safetensors").write_bytes(whole)
    for name in ("safetensors", "bin", "fp16.safetensors", "non_ema.safetensors"):
        with open_container(folder) as container:
            assert container.metadata["files"] == {"": f"diffusion_pytorch_model.{name}"}
        (folder / f"diffusion_pytorch_model.{name}").unlink()
    with pytest.raises(CheckpointError, match="Not a checkpoint"):
        open_container(folder)


@pytest.mark.parametrize(
    "places",
    [
        {"conv.weight": "../../unet/diffusion_pytorch_model.safetensors"},
        {"conv.weight": "diffusion_pytorch_model.safetensors.index.json"},
        {"conv.weight": "nothing.safetensors"},
        {"other": "diffusion_pytorch_model-00001-of-00002.safetensors"},
        {"conv.weight": 3},
        [],
    ],
)
def test_wrong_indices_are_refused(places, tmp_path):
    shutil.copytree(TINY / "pipeline", tmp_path / "pipeline")
    index = tmp_path / "pipeline" / "vae" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    for path in (index, index.parent, tmp_path / "pipeline"):
        with pytest.raises(CheckpointError):
            open_container(path)
