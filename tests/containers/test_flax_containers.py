"""Flax's msgpack files and Orbax's folders, written by Flax and Orbax (tests/golden/tiny_weights), and by hand where
they are damaged.
"""

import hashlib
import json
import os
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from keras_diffusion.checkpoints import CheckpointError
from keras_diffusion.containers import open_container
from keras_diffusion.containers.byte_cursor import ByteCursor
from keras_diffusion.containers.msgpack import Blob, Extension, read_msgpack
from keras_diffusion.containers.source_file import SourceFile

TINY = Path(__file__).parents[1] / "golden" / "tiny_weights"
WEIGHTS = np.load(TINY / "weights.npz")
OUTSIDE = Path(os.environ.get("KERAS_DIFFUSION_GOLDEN", "/nowhere")) / "flaxdiff"


def unpacked(data, path):
    path.write_bytes(data)
    return read_msgpack(ByteCursor(SourceFile(path)))


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"\x7f", 127),
        (b"\xe0", -32),
        (b"\xcc\xff", 255),
        (b"\xcd\x01\x00", 256),
        (b"\xcf" + b"\xff" * 8, 2**64 - 1),
        (b"\xd0\x80", -128),
        (b"\xd3" + b"\xff" * 8, -1),
        (b"\xca" + struct.pack(">f", 0.5), 0.5),
        (b"\xcb" + struct.pack(">d", 0.1), 0.1),
        (b"\x93\xc0\xc2\xc3", [None, False, True]),
        (b"\x82\xa1a\x01\xd9\x01b\x02", {"a": 1, "b": 2}),
        (b"\xdc\x00\x01\xa0", [""]),
        (b"\xde\x00\x01\xa1a\x90", {"a": []}),
        (b"\xda\x00\x02\xc3\xa9", "é"),
        (b"\x91\xc4\x03abc", [Blob(3, 3)]),
        (b"\x92\xd5\x07ab\xc7\x01\xffz", [Extension(7, 3, 2), Extension(-1, 8, 1)]),
    ],
)
def test_msgpack(data, value, tmp_path):
    assert unpacked(data, tmp_path / "a") == value


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x01\x01",
        b"\xa5ab",
        b"\xa2\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff\xa1a",
        b"\xc6\xff\xff\xff\xffab",
        b"\x82\xa1a\x01\xa1a\x02",
        b"\x81\x01\x02",
        b"\x91" * 5000 + b"\x01",
    ],
)
def test_msgpack_refuses_what_is_damaged(data, tmp_path):
    with pytest.raises(CheckpointError, match="at byte"):
        unpacked(data, tmp_path / "a")


def test_plain_files(tmp_path):
    with open_container(TINY / "flax_model.msgpack") as container:
        np.testing.assert_array_equal(container.read("conv/kernel"), WEIGHTS["kernel"])
        np.testing.assert_array_equal(container.read("formats/mask"), WEIGHTS["gain"] > 0)
        assert container.tensors["formats/bfloat16"] == ((8, 2), "bfloat16")
        for name, digits in (("bfloat16", 8), ("float16", 11)):
            value = container.read(f"formats/{name}")
            assert value.dtype == "float32"
            np.testing.assert_allclose(value, WEIGHTS["gain"], rtol=2.0**-digits)
        assert container.metadata == {"formats/lr": 0.5, "formats/name": "tiny"}
        layers = {layer.name: list(layer.weights) for layer in container.layers()}
        assert layers["conv"] == ["bias", "kernel"]
    # The config of diffusers lies beside.
    shutil.copy(TINY / "chunked.msgpack", tmp_path / "diffusion_flax_model.msgpack")
    (tmp_path / "config.json").write_text('{"_class_name": "FlaxUNet2DConditionModel"}')
    for path in (tmp_path, tmp_path / "diffusion_flax_model.msgpack"):
        with open_container(path) as container:
            assert container.config_of() == {"_class_name": "FlaxUNet2DConditionModel"}
            np.testing.assert_array_equal(container.read("conv/kernel"), WEIGHTS["kernel"])
            np.testing.assert_allclose(container.read("half"), WEIGHTS["gain"], rtol=2.0**-8)


@pytest.mark.parametrize("era", ["aggregated", "ocdbt"])
def test_runs_steps_and_items(era):
    pytest.importorskip("tensorstore")
    newest = "10" if era == "aggregated" else "5"
    file = "checkpoint" if era == "aggregated" else "manifest.ocdbt"
    for path in (
        TINY / era,
        TINY / era / newest,
        TINY / era / newest / "default",
        TINY / era / newest / "default" / file,
    ):
        with open_container(path) as container:
            assert container.metadata["step"] == int(newest)
            assert container.metadata.get("other_steps") == (
                [5] if path == TINY / era and era == "aggregated" else None
            )
            np.testing.assert_array_equal(container.read("state/params/params/conv/kernel"), WEIGHTS["kernel"])
            np.testing.assert_array_equal(container.read("best_state/params/params/norm/scale"), 2 * WEIGHTS["gain"])
            assert container.read("state/step").item() == 7
            assert container.tensors["state/opt_state/0/count"] == ((), "int32")
            assert "state/opt_state/1" not in container.tensors
    with open_container(TINY / "aggregated" / "5") as container:
        assert (container.metadata["step"], container.metadata["best_loss"]) == (5, 0.5)


def test_a_name_that_was_changed_is_noticed(tmp_path):
    shutil.copytree(TINY / "aggregated" / "10", tmp_path / "10")
    file = tmp_path / "10" / "default" / "checkpoint"
    file.write_bytes(file.read_bytes().replace(b"kernel", b"kermel", 1))
    with pytest.raises(CheckpointError, match="_METADATA"):
        open_container(tmp_path)


def test_a_store_without_a_list_of_names(tmp_path):
    pytest.importorskip("tensorstore")
    shutil.copytree(TINY / "ocdbt", tmp_path / "run")
    (tmp_path / "run/5/default/_METADATA").unlink()
    with open_container(TINY / "ocdbt") as container, open_container(tmp_path / "run") as other:
        assert sorted(container.tensors.items()) == sorted(other.tensors.items())


def test_arrays_of_zeros_may_be_left_out_and_others_may_not(tmp_path):
    """Orbax of 2024 does not store what is all zero."""
    ts = pytest.importorskip("tensorstore")
    folder = tmp_path / "default"
    base = {"driver": "ocdbt", "base": folder.as_uri() + "/"}
    arrays = {"a": np.zeros((4, 6), "float32"), "b": np.arange(24, dtype="float32").reshape(4, 6)}
    arrays["c"] = np.array([1.0, 0.5, -3.0], "float32")
    for key, value in arrays.items():
        layout = (
            {"shape": [3], "chunks": [3], "dtype": "bfloat16"}
            if key == "c"
            else {"shape": [4, 6], "chunks": [2, 6], "dtype": "<f4"}
        )
        metadata = {**layout, "fill_value": 0.0, "compressor": {"id": "zstd", "level": 1}}
        store = ts.open(
            {"driver": "zarr", "kvstore": {**base, "path": key + "/"}, "metadata": metadata}, create=True
        ).result()
        store.write(value.astype(store.dtype.numpy_dtype)).result()
    part = {"key_metadata": [], "value_metadata": {"value_type": "jax.Array"}}
    tree = {"tree_metadata": {key: {**part, "key_metadata": [{"key": key}]} for key in arrays}}
    (folder / "_METADATA").write_text(json.dumps(tree))
    with open_container(folder) as container:
        for key, value in arrays.items():
            np.testing.assert_array_equal(container.read(key), value)
        assert (container.tensors["c"], container.read("c").dtype) == (((3,), "bfloat16"), "float32")
    (folder / "_METADATA").write_text(json.dumps(tree | {"store_array_data_equal_to_fill_value": True}))
    with open_container(folder) as container:
        np.testing.assert_array_equal(container.read("b"), arrays["b"])
        with pytest.raises(CheckpointError, match="piece"):
            container.read("a")
    # A damaged store.
    for file in folder.rglob("d/*"):
        file.write_bytes(b"")
    with pytest.raises(CheckpointError, match="default"):
        open_container(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", [path.parent for path in sorted(OUTSIDE.glob("*/params.json"))], ids=lambda path: path.name
)
def test_every_leaf_of_the_golden_checkpoints(case):
    with open_container(case / "checkpoint") as container:
        for name, shape, dtype, digest in json.loads((case / "params.json").read_text()):
            if dtype is not None:
                assert container.tensors[name] == (tuple(shape), dtype)
                assert hashlib.sha256(container.read(name).tobytes()).hexdigest()[:16] == digest
