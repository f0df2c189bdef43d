from pathlib import Path

import numpy as np
import pytest

from keras_diffusion.containers.container import TensorInfo
from keras_diffusion.containers.crc32c import crc32c, masked
from keras_diffusion.containers.errors import CheckpointError
from keras_diffusion.containers.leveldb_table import read_table
from keras_diffusion.containers.source_file import SourceFile
from keras_diffusion.containers.tensor_bundle import TensorBundle

TINY = Path(__file__).parents[1] / "golden" / "tiny_checkpoints"


def test_every_dtype_over_two_shards():
    bundle = TensorBundle(TINY / "shards" / "all")
    expected = {
        "bfloat16": np.array([1.0, -0.375, 3.0040553e38], "float32"),
        "float16": np.array([[0.5], [2.0]], "float16"),
        "float64": np.array(np.pi),
        "int64": np.array([-(2**40), 5]),
        "uint8": np.array([[0, 255]], "uint8"),
        "bool": np.array([True, False]),
        "complex64": np.array([1 + 2j], "complex64"),
        "empty": np.zeros((0, 3), "float32"),
    }
    assert bundle.tensors == {
        name: TensorInfo(array.shape, "bfloat16" if name == "bfloat16" else array.dtype.name)
        for name, array in sorted(expected.items())
    }
    for name, array in expected.items():
        read = bundle.read(name)
        assert read.dtype == array.dtype
        np.testing.assert_array_equal(read, array)
    bundle.close()


def test_partitioned_variables_are_refused():
    bundle = TensorBundle(TINY / "shards" / "partitioned")
    assert bundle.tensors["w"].shape == (4, 2)
    with pytest.raises(CheckpointError, match="'w' is partitioned.*save it in one piece"):
        bundle.read("w")


def test_a_missing_shard_is_named(tmp_path):
    for name in ("all.index", "all.data-00000-of-00002"):
        (tmp_path / name).write_bytes((TINY / "shards" / name).read_bytes())
    with pytest.raises(CheckpointError, match="cannot be opened.*all.data-00001-of-00002"):
        TensorBundle(tmp_path / "all")


def test_a_damaged_tensor_is_named(tmp_path):
    for file in (TINY / "shards").glob("all*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    data = tmp_path / "all.data-00000-of-00002"
    content = bytearray(data.read_bytes())
    content[6] ^= 1
    data.write_bytes(content)
    bundle = TensorBundle(tmp_path / "all")
    failed = []
    for name in bundle.tensors:
        try:
            bundle.read(name)
        except CheckpointError as error:
            failed.append((name, error.path, error.offset))
    assert failed == [("float16", data, 6)]


def table(blocks, compression=0):
    """A LevelDB table of blocks of (key, value) pairs without shared prefixes."""

    def entry(key, value):
        return bytes([0, len(key), len(value)]) + key + value

    def block(entries):
        body = (
            b"".join(entry(*pair) for pair in entries)
            + (0).to_bytes(4, "little")
            + (1).to_bytes(4, "little")
            + bytes([compression])
        )
        return body + masked(crc32c(body)).to_bytes(4, "little")

    content, handles = b"", []
    for entries in blocks:
        raw = block(entries)
        handles.append((entries[-1][0], bytes([len(content), len(raw) - 5])))
        content += raw
    meta, index = block([]), block(handles)
    footer = bytes([len(content), len(meta) - 5, len(content) + len(meta), len(index) - 5])
    return content + meta + index + footer.ljust(40, b"\0") + (0xDB4775248B80FB57).to_bytes(8, "little")


def test_tables_of_several_blocks(tmp_path):
    path = tmp_path / "t.index"
    path.write_bytes(table([[(b"", b"x"), (b"a", b"yy")], [(b"b", b"")]]))
    assert [entry[:2] for entry in read_table(SourceFile(path))] == [(b"", b"x"), (b"a", b"yy"), (b"b", b"")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (table([[(b"a", b"x")]], compression=1), "snappy"),
        (table([[(b"b", b"x"), (b"a", b"x")]]), "not in order"),
        (table([[(b"a", b"x")]])[1:], "checksum|damaged"),
        (table([[(b"a", b"x")]])[:-1], "magic number"),
        (b"short", "cut off"),
    ],
)
def test_damaged_tables(tmp_path, content, message):
    path = tmp_path / "t.index"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_table(SourceFile(path))


@pytest.mark.slow
def test_equals_tensorflow_reader(keras2):
    tf = pytest.importorskip("tensorflow")
    prefix = keras2 / "ddim_residual_unet" / "tf_checkpoint" / "diffusion_model"
    reader, bundle = tf.train.load_checkpoint(str(prefix)), TensorBundle(prefix)
    strings = {name for name, dtype in reader.get_variable_to_dtype_map().items() if dtype == tf.string}
    assert set(bundle.tensors) == set(reader.get_variable_to_shape_map()) - strings
    for name in bundle.tensors:
        np.testing.assert_array_equal(bundle.read(name), reader.get_tensor(name))
